// TensorRT-LLM: a context_only request, whose answer's disaggregated_params make the generation_only request.
#include "emulator/server/json_text.hpp"
#include "emulator/server/leg_checker.hpp"

namespace penstock::emulator {
namespace {

using simdjson::SUCCESS;
using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

constexpr std::string_view path = "disaggregated_params.";

leg_reading context_only(const leg_call& call, const object& values) {
  leg_checker check("TensorRT-LLM context leg");
  leg_reading r{.leg = {.kind = leg_kind::prefill}};
  std::int64_t number = 0;
  read_required(values, path, "disagg_request_id", number, check);
  want_whole(call.body, check);
  want_single(call.body, check);
  for (const std::string_view key : {"ctx_request_id", "encoded_opaque_state", "first_gen_tokens"})
    want_absent(values, path, key, check);
  r.leg.number = number;
  r.failure = check.take();
  return r;
}

// The state is the context engine's own business: engine, host, port, lease, number and blocks.
bool read_state(std::string_view state, hand_off_leg& leg, std::int64_t& number) {
  const auto decoded = from_base64(state);
  if (!decoded) return false;
  simdjson::dom::parser parser;
  const simdjson::padded_string padded(*decoded);
  object o;
  std::string_view engine, host, id;
  std::uint64_t port = 0;
  element blocks;
  if (parser.parse(padded).get(o) != SUCCESS || o["engine"].get(engine) != SUCCESS ||
      o["host"].get(host) != SUCCESS || o["port"].get(port) != SUCCESS || o["lease"].get(id) != SUCCESS ||
      o["number"].get(number) != SUCCESS || o["blocks"].get(blocks) != SUCCESS) {
    return false;
  }
  leg.remote_engine = engine;
  leg.remote_host = host;
  leg.remote_port = static_cast<std::uint16_t>(port);
  leg.ids = {std::string(id)};
  leg_checker unheard("");
  return read_blocks(blocks, "", leg.blocks, unheard);
}

leg_reading generation_only(const leg_call& call, const object& values) {
  leg_checker check("TensorRT-LLM generation leg");
  leg_reading r{.leg = {.kind = leg_kind::decode}};
  std::int64_t number = 0, context = 0, inside = 0;
  std::string_view state;
  array first;
  read_required(values, path, "disagg_request_id", number, check);
  read_required(values, path, "ctx_request_id", context, check);
  read_required(values, path, "first_gen_tokens", first, check);
  read_required(values, path, "encoded_opaque_state", state, check);
  if (!read_state(state, r.leg, inside))
    check.complain("disaggregated_params.encoded_opaque_state", "is not what a context answer said");
  if (inside != number)
    check.complain("disaggregated_params.disagg_request_id", "is not that of the context leg");
  want_single(call.body, check);
  if (const auto e = member(call.body, "prompt_token_ids"); e && !e->is_null())
    read_blocks(*e, "prompt_token_ids", r.leg.prompt, check);
  r.failure = check.take();
  return r;
}

}  // namespace

leg_reading read_trtllm(const leg_call& call) {
  leg_reading r;
  const auto e = member(call.body, "disaggregated_params");
  if (!e || e->is_null()) return r;
  leg_checker check("hand-off");
  object values;
  std::string_view type;
  if (e->get(values) != SUCCESS) {
    check.complain("disaggregated_params", "must be an object");
  } else if (call.api != engine_api::chat && call.api != engine_api::completions) {
    check.complain("disaggregated_params", "exists in chat and text completions only");
  } else {
    read_required(values, path, "request_type", type, check);
    if (type == "context_only") return context_only(call, values);
    if (type == "generation_only") return generation_only(call, values);
    check.complain("disaggregated_params.request_type", "must be context_only or generation_only");
  }
  r.failure = check.take();
  return r;
}

}  // namespace penstock::emulator
