// Reads bodies in tests as the worker does: padded, into facts.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/error.hpp"
#include "penstock/request_facts.hpp"
#include "tokenizer/extractor.hpp"
#include "tokenizer/token_estimator.hpp"

namespace penstock::tokenizer {

struct reading {
  request_facts facts;
  std::optional<api_error> error;
};

inline reading read_body(api_kind api, std::string_view body, std::uint32_t block_bytes = 16,
                         const token_estimator& estimator = token_estimator{}) {
  std::string padded(body);
  padded.append(body_padding, '\xAA');  // any value
  extractor reader(extract_options{block_bytes});
  reading r;
  r.error = reader.read(api, std::string_view(padded).substr(0, body.size()), estimator, r.facts);
  return r;
}

inline std::vector<std::uint64_t> keys(const prefix_chain& chain) {
  std::vector<std::uint64_t> result;
  for (const prefix_block& b : chain.blocks) result.push_back(b.key);
  return result;
}

// Keys of the only prompt of a body that is expected to be read.
inline std::vector<std::uint64_t> chain_of(api_kind api, std::string_view body,
                                           std::uint32_t block_bytes = 16) {
  const reading r = read_body(api, body, block_bytes);
  if (r.error || r.facts.prompts.size() != 1) return {};
  return keys(r.facts.prompts[0]);
}

// How many leading blocks two chains share.
inline std::size_t shared(const std::vector<std::uint64_t>& a, const std::vector<std::uint64_t>& b) {
  std::size_t i = 0;
  while (i < a.size() && i < b.size() && a[i] == b[i]) ++i;
  return i;
}

inline std::string spliced(std::string_view body, const splice& s) {
  std::string result(body.substr(0, s.offset));
  result += s.insert;
  result += body.substr(s.offset + s.erase);
  return result;
}

inline std::string_view at(std::string_view body, value_range r) {
  return body.substr(r.begin, r.end - r.begin);
}

}  // namespace penstock::tokenizer
