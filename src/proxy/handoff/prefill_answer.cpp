#include "proxy/handoff/prefill_answer.hpp"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <span>
#include <string_view>

#include "proxy/handoff/connector.hpp"
#include "proxy/handoff/raw_json.hpp"

namespace penstock::handoff {
namespace {

// More tokens than this in one prompt are nonsense and are not believed.
constexpr std::uint64_t believable = std::uint64_t{1} << 40;

// A count that an engine told, where it is one.
void read_cached(bytes_view value, prefill_answer& out) {
  std::uint64_t n = 0;
  const char* const last = value.data() + value.size();
  const auto [end, error] = std::from_chars(value.data(), last, n);
  if (value.empty() || error != std::errc{} || end != last || n > believable) return;
  out.cached_tokens = n;
  out.cached_known = true;
}

// {"prompt_tokens_details": {"cached_tokens"}}, or the names of the responses API and of Anthropic's.
void read_usage(bytes_view usage, prefill_answer& out) {
  const auto found =
      pick<3>(usage, {"prompt_tokens_details", "input_tokens_details", "cache_read_input_tokens"});
  for (const bytes_view details : {found.value[0], found.value[1]})
    read_cached(member_of(details, "cached_tokens"), out);
  read_cached(found.value[2], out);
}

bool is_given(bytes_view value) { return !value.empty() && value != "null"; }

bool all_given(std::span<const bytes_view> values) {
  return std::all_of(values.begin(), values.end(), is_given);
}

// What vLLM's NIXL connector needs together, with one of them missing it recomputes; and what it tells.
bool read_nixl(bytes_view params, prefill_answer& out) {
  const auto found = pick<6>(params, {"do_remote_prefill", "remote_engine_id", "remote_block_ids",
                                      "remote_host", "remote_port", "remote_prefill_cached_tokens"});
  read_cached(found.value[5], out);
  return found.value[0] == "true" && all_given(std::span(found.value).first(5));
}

// MoRI-IO has ports of its own, and looks the transfer up by the id that the prefill leg named.
bool read_moriio(bytes_view params, prefill_answer&) {
  const auto found =
      pick<7>(params, {"do_remote_prefill", "remote_engine_id", "remote_block_ids", "remote_host",
                       "remote_handshake_port", "remote_notify_port", "transfer_id"});
  return found.value[0] == "true" && all_given(found.value);
}

// TensorRT-LLM: what its own proxy insists on.
bool read_trtllm(bytes_view params, prefill_answer&) {
  return all_given(pick<2>(params, {"ctx_request_id", "request_type"}).value);
}

using params_reader = bool (*)(bytes_view, prefill_answer&);

params_reader reader_of(connector_kind kind) {
  switch (kind) {
    case connector_kind::trtllm: return read_trtllm;
    case connector_kind::moriio: return read_moriio;
    default: return read_nixl;
  }
}

// A context request that ended with its first token (an end of text, a stop word) leaves nothing to decode.
bool ended(bytes_view choice) {
  const bytes_view why = member_of(choice, "finish_reason");
  return why.starts_with('"') && why != R"("length")" && why != R"("not_finished")";
}

// vLLM's Mooncake connector keeps the blocks of a prefill that ended by its bound, and frees those of one
// whose first token was its last. What does not tell counts as kept.
bool ends_by_length(bytes_view answer) {
  const auto said = pick<4>(answer, {"choices", "object", "status", "stop_reason"});
  const auto& [choices, object, status, why] = said.value;
  const bytes_view choice = first_of(choices);
  if (!choice.empty()) return member_of(choice, "finish_reason") != R"("stop")";
  if (object == R"("response")") return status != R"("completed")";
  return why != R"("end_turn")" && why != R"("stop_sequence")";
}

}  // namespace

prefill_answer read_prefill_answer(connector_kind kind, bytes_view body) {
  prefill_answer out;
  const connector& how = row(kind);
  const auto top = pick<5>(body, {"usage", "error", "choices", "prompt_token_ids", how.params_member});
  if (!top.read || !simdjson::validate_utf8(body)) return out;
  auto [usage, error, choices, prompt_ids, params] = top.value;
  out.read = true;
  read_usage(usage, out);
  if (how.params_member.empty()) {
    out.error = is_given(error);
    out.handed_on = !out.error && (kind != connector_kind::mooncake || ends_by_length(body));
    return out;
  }
  if (kind == connector_kind::trtllm) {
    // The answer has the parameters, or its only choice.
    const bytes_view choice = first_of(choices);
    const bool chosen = choice.starts_with('{');
    out.finished = ended(chosen ? choice : body);
    if (chosen) params = member_of(choice, how.params_member);
  }
  if (out.finished || !reader_of(kind)(params, out)) return out;
  out.params = params;
  if (kind == connector_kind::trtllm && prompt_ids.starts_with('[')) out.prompt_ids = prompt_ids;
  out.handed_on = true;
  return out;
}

}  // namespace penstock::handoff
