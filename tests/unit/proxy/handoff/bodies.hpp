// Bodies as the worker has them, and what a leg makes of them.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "proxy/handoff/connector.hpp"
#include "unit/tokenizer/reading.hpp"

namespace penstock::handoff::testing {

inline request_facts facts_of(std::string_view body, api_kind api = api_kind::chat) {
  const tokenizer::reading r = tokenizer::read_body(api, body);
  INFO(body);
  REQUIRE(!r.error);
  return r.facts;
}

inline std::string spliced(std::string_view body, const splices& edits) {
  std::string out;
  std::size_t from = 0;
  for (const splice& s : edits) {
    REQUIRE(s.offset >= from);
    out += body.substr(from, s.offset - from);
    out += s.insert;
    from = s.offset + s.erase;
  }
  return out + std::string(body.substr(from));
}

inline std::string prefill(connector_kind kind, std::string_view body, api_kind api = api_kind::chat,
                           const terms& said = {}) {
  const request_facts facts = facts_of(body, api);
  splices edits;
  prefill_body(kind, {facts, body}, said, edits);
  return spliced(body, edits);
}

inline std::string decode(connector_kind kind, std::string_view body, const terms& said,
                          api_kind api = api_kind::chat) {
  const request_facts facts = facts_of(body, api);
  splices edits;
  decode_body(kind, {facts, body}, said, edits);
  return spliced(body, edits);
}

}  // namespace penstock::handoff::testing
