#include "proxy/handoff/prefill_answer.hpp"

#include <simdjson.h>

#include <string_view>

#include "proxy/handoff/connector.hpp"
#include "proxy/handoff/raw_json.hpp"

namespace penstock::handoff {
namespace {

namespace dom = simdjson::dom;

// More tokens than this in one prompt are nonsense and are not believed.
constexpr std::uint64_t believable = std::uint64_t{1} << 40;

bool count_of(const dom::element& value, std::uint64_t& out) {
  std::uint64_t n = 0;
  if (value.get(n) != simdjson::SUCCESS || n > believable) return false;
  out = n;
  return true;
}

// {"prompt_tokens_details": {"cached_tokens"}}, or the names of the responses API and of Anthropic's.
void read_usage(const dom::element& usage, prefill_answer& out) {
  dom::object members;
  if (usage.get(members) != simdjson::SUCCESS) return;
  for (const auto [key, value] : members) {
    dom::element cached;
    if ((key == "prompt_tokens_details" || key == "input_tokens_details") &&
        value["cached_tokens"].get(cached) == simdjson::SUCCESS)
      out.cached_known |= count_of(cached, out.cached_tokens);
    if (key == "cache_read_input_tokens") out.cached_known |= count_of(value, out.cached_tokens);
  }
}

bool is_given(const dom::object& in, std::string_view name) {
  dom::element value;
  return in[name].get(value) == simdjson::SUCCESS && !value.is_null();
}

bool is_true(const dom::object& in, std::string_view name) {
  bool on = false;
  return in[name].get(on) == simdjson::SUCCESS && on;
}

// What vLLM's NIXL connector needs together; with one of them missing it recomputes.
bool read_nixl(const dom::object& params, prefill_answer& out) {
  dom::element value;
  if (params["remote_prefill_cached_tokens"].get(value) == simdjson::SUCCESS)
    out.cached_known |= count_of(value, out.cached_tokens);
  return is_true(params, "do_remote_prefill") && is_given(params, "remote_engine_id") &&
         is_given(params, "remote_block_ids") && is_given(params, "remote_host") &&
         is_given(params, "remote_port");
}

// MoRI-IO has ports of its own, and looks the transfer up by the id that the prefill leg named.
bool read_moriio(const dom::object& params, prefill_answer&) {
  return is_true(params, "do_remote_prefill") && is_given(params, "remote_engine_id") &&
         is_given(params, "remote_block_ids") && is_given(params, "remote_host") &&
         is_given(params, "remote_handshake_port") && is_given(params, "remote_notify_port") &&
         is_given(params, "transfer_id");
}

// TensorRT-LLM: what its own proxy insists on.
bool read_trtllm(const dom::object& params, prefill_answer&) {
  return is_given(params, "ctx_request_id") && is_given(params, "request_type");
}

using params_reader = bool (*)(const dom::object&, prefill_answer&);

params_reader reader_of(connector_kind kind) {
  switch (kind) {
    case connector_kind::trtllm: return read_trtllm;
    case connector_kind::moriio: return read_moriio;
    default: return read_nixl;
  }
}

// A context request that ended with its first token (an end of text, a stop word) leaves nothing to decode.
bool ended(const dom::object& choice) {
  std::string_view why;
  return choice["finish_reason"].get(why) == simdjson::SUCCESS && why != "length" && why != "not_finished";
}

// The object that has the parameters: the answer, or (TensorRT-LLM) its only choice.
struct holder {
  dom::object object;
  bytes_view text;
};
holder holder_of(connector_kind kind, const dom::object& top, const raw_json& text) {
  dom::object choice;
  if (kind == connector_kind::trtllm && top["choices"].at(0).get(choice) == simdjson::SUCCESS)
    return {choice, text.first(text.member(text.whole(), "choices"))};
  return {top, text.whole()};
}

// vLLM's Mooncake connector keeps the blocks of a prefill that ended by its bound, and frees those of one
// whose first token was its last. What does not tell counts as kept.
bool ends_by_length(const dom::object& answer) {
  const auto is = [](simdjson::simdjson_result<dom::element> value, std::string_view text) {
    std::string_view found;
    return value.get(found) == simdjson::SUCCESS && found == text;
  };
  dom::element first;
  if (answer["choices"].at(0).get(first) == simdjson::SUCCESS) return !is(first["finish_reason"], "stop");
  if (is(answer["object"], "response")) return !is(answer["status"], "completed");
  return !is(answer["stop_reason"], "end_turn") && !is(answer["stop_reason"], "stop_sequence");
}

}  // namespace

prefill_answer read_prefill_answer(connector_kind kind, bytes_view body) {
  prefill_answer out;
  const connector& how = row(kind);
  const raw_json text(body);
  dom::parser parser;
  dom::object top;
  if (parser.parse(text.padded()).get(top) != simdjson::SUCCESS) return out;
  out.read = true;
  dom::element usage;
  if (top["usage"].get(usage) == simdjson::SUCCESS) read_usage(usage, out);
  if (how.params_member.empty()) {
    out.error = is_given(top, "error");
    out.handed_on = !out.error && (kind != connector_kind::mooncake || ends_by_length(top));
    return out;
  }
  const holder in = holder_of(kind, top, text);
  out.finished = kind == connector_kind::trtllm && ended(in.object);
  dom::object params;
  if (out.finished || in.object[how.params_member].get(params) != simdjson::SUCCESS) return out;
  if (!reader_of(kind)(params, out)) return out;
  // The copy that was parsed and the caller's bytes are the same, so places are as well.
  const auto there = [&](bytes_view part) {
    return part.empty() ? bytes_view{} : body.substr(text.place(part), part.size());
  };
  out.params = there(text.member(in.text, how.params_member));
  if (kind == connector_kind::trtllm && top["prompt_token_ids"].is_array())
    out.prompt_ids = there(text.member(text.whole(), "prompt_token_ids"));
  out.handed_on = !out.params.empty();
  return out;
}

}  // namespace penstock::handoff
