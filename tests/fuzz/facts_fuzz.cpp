// Request bodies: any bytes are read or refused, what is read is JSON for simdjson's DOM too, and every
// splice by the facts gives a body that is read again with the same chains. The first byte names the API.
#include <simdjson.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tokenizer/extractor.hpp"

namespace {

using namespace penstock;

void require(bool ok) {
  if (!ok) std::abort();
}

std::optional<api_error> read(api_kind api, std::string_view body, request_facts& out) {
  std::string padded(body);
  padded.append(tokenizer::body_padding, '"');
  tokenizer::extractor reader(tokenizer::extract_options{32});
  const tokenizer::token_estimator estimator;
  return reader.read(api, std::string_view(padded).substr(0, body.size()), estimator, out);
}

// The DOM is stricter in two things that JSON's grammar allows, numbers of any size and lone surrogates, so
// its errors of numbers and strings prove nothing.
void check_with_dom(std::string_view body) {
  simdjson::dom::parser parser;
  const auto error = parser.parse(simdjson::padded_string(body)).error();
  for (const auto wrong : {simdjson::EMPTY, simdjson::TAPE_ERROR, simdjson::DEPTH_ERROR,
                           simdjson::T_ATOM_ERROR, simdjson::F_ATOM_ERROR, simdjson::N_ATOM_ERROR,
                           simdjson::UTF8_ERROR, simdjson::UNESCAPED_CHARS, simdjson::UNCLOSED_STRING}) {
    require(error != wrong);
  }
}

std::string spliced(std::string_view body, const splice& s) {
  require(s.offset <= body.size() && s.erase <= body.size() - s.offset);
  return std::string(body.substr(0, s.offset)) + s.insert + std::string(body.substr(s.offset + s.erase));
}

void check_again(api_kind api, std::string_view body, const splice& s, const request_facts& before) {
  request_facts after;
  require(!read(api, spliced(body, s), after));
  require(after.prompts.size() == before.prompts.size());
  for (std::size_t i = 0; i < after.prompts.size(); ++i) {
    const auto &a = after.prompts[i].blocks, &b = before.prompts[i].blocks;
    require(a.size() == b.size() && (a.empty() || a.back().key == b.back().key));
  }
}

void check_facts(api_kind api, std::string_view body, const request_facts& facts) {
  require(facts.object_end < body.size() && body[facts.object_end] == '}');
  check_again(api, body, {facts.object_end, 0, facts.object_empty ? R"("zz~":[{}])" : R"(,"zz~":[{}])"},
              facts);
  check_again(api, body, {facts.object_end, 0, " "}, facts);
  if (const auto usage = tokenizer::usage_splice(facts, body)) check_again(api, body, *usage, facts);
  for (const body_key key : {body_key::model, body_key::stream, body_key::max_tokens}) {
    const value_range r = facts.member(key);
    if (!r) continue;
    require(r.begin < r.end && r.end <= facts.object_end);
    const char* value = key == body_key::model ? R"("other")" : key == body_key::stream ? "true" : "1";
    check_again(api, body, {r.begin, r.end - r.begin, value}, facts);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto api = static_cast<api_kind>((data[0] - '0') & 15);
  request_facts facts;
  if (api >= api_kind::multipart) {
    tokenizer::extractor reader(tokenizer::extract_options{});
    const auto error = reader.read_multipart("multipart/form-data; boundary=X", body, facts);
    require(error || facts.model.size() <= 512);
    return 0;
  }
  const auto error = read(api, body, facts);
  if (error && error->why == reason::invalid_json) return 0;
  check_with_dom(body);
  if (error) {
    require(!error->message.empty() && !error->param.empty());
  } else {
    check_facts(api, body, facts);
  }
  return 0;
}
