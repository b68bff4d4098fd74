// A request body becomes facts: what it asks for, where its members stand, its block chains.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "penstock/bytes.hpp"
#include "penstock/error.hpp"
#include "penstock/request_facts.hpp"
#include "tokenizer/token_estimator.hpp"

namespace penstock::tokenizer {

// Bytes that must be readable (any value) behind every body given to an extractor.
inline constexpr std::size_t body_padding = 64;

struct extract_options {
  std::uint32_t block_bytes = 1024;
};

// Reads bodies. One per worker; keeps its parser's memory between requests (released when a body was
// large). Not thread safe.
class extractor {
 public:
  explicit extractor(extract_options options);
  ~extractor();
  extractor(const extractor&) = delete;
  extractor& operator=(const extractor&) = delete;

  // Reads one whole JSON body, followed by body_padding readable bytes, in one parse and one hash pass.
  // Fills `out` (assigned anew) or returns the refusal: invalid_json with a byte offset, missing_field,
  // invalid_field or field_not_allowed with `param`. `estimator` supplies bytes per token.
  std::optional<api_error> read(api_kind api, bytes_view body, const token_estimator& estimator,
                                request_facts& out);

  // The same for a multipart/form-data body: only `model` (and `stream`) are read from its fields.
  std::optional<api_error> read_multipart(bytes_view content_type, bytes_view body, request_facts& out);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

// The edits that make an engine report usage in a stream: stream_options.include_usage becomes true.
// Empty when the client asked for it already, or the API reports usage anyway.
std::optional<splice> usage_splice(const request_facts& facts, bytes_view body);

}  // namespace penstock::tokenizer
