// Answers of prefill engines: any bytes are read or not, what counts as read is JSON for simdjson's DOM too,
// and what is passed on is an object of the answer. The first byte names the connector.
#include <simdjson.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proxy/handoff/prefill_answer.hpp"
#include "proxy/handoff/whole_answer.hpp"

namespace {

using namespace penstock;

constexpr connector_kind kinds[] = {connector_kind::nixl, connector_kind::mooncake, connector_kind::sglang,
                                    connector_kind::trtllm, connector_kind::moriio};

void require(bool ok) {
  if (!ok) std::abort();
}

bool within(std::string_view part, std::string_view whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

// The DOM is stricter in two things that JSON's grammar allows, numbers of any size and lone surrogates.
bool is_json(std::string_view text) {
  simdjson::dom::parser parser;
  const auto error = parser.parse(simdjson::padded_string(text)).error();
  return error == simdjson::SUCCESS || error == simdjson::NUMBER_ERROR || error == simdjson::STRING_ERROR;
}

void check_answer(std::string_view body, const handoff::prefill_answer& said) {
  require(said.read || (!said.handed_on && !said.finished && said.params.empty()));
  if (said.read) require(is_json(body));
  require(within(said.params, body) && within(said.prompt_ids, body));
  if (!said.params.empty()) require(said.handed_on && said.params.starts_with('{') && is_json(said.params));
  if (!said.prompt_ids.empty()) require(said.prompt_ids.starts_with('[') && is_json(said.prompt_ids));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const handoff::prefill_answer said = handoff::read_prefill_answer(kinds[data[0] % std::size(kinds)], body);
  check_answer(body, said);
  const std::string plain = handoff::plain_answer(body);
  if (said.read) require(is_json(plain));
  for (const api_kind api : {api_kind::chat, api_kind::completions}) {
    const std::string events = handoff::answer_as_events(api, body, true);
    require(events.empty() || events.ends_with("data: [DONE]\n\n"));
  }
  return 0;
}
