#include "proxy/handoff/connector.hpp"

#include <algorithm>

#include "proxy/handoff/body_edits.hpp"
#include "proxy/handoff/legs.hpp"

namespace penstock::handoff {
namespace {

using namespace std::chrono_literals;

// In the order of connector_kind.
constexpr connector table[] = {
    {.kind = connector_kind::nixl,
     .order = dispatch::serial,
     .every_api = true,
     .batches = false,
     .freed_by_delivery = true,
     .answers_once_fetched = false,
     .bounds_prefill = true,
     .lease = 30s,
     .params_member = "kv_transfer_params",
     .prefill = nixl_prefill,
     .decode = nixl_decode},
    {.kind = connector_kind::mooncake,
     .order = dispatch::concurrent,
     .every_api = true,
     .batches = false,
     .freed_by_delivery = true,
     .answers_once_fetched = false,
     .bounds_prefill = true,
     .lease = 480s,  // VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT
     .params_member = "",
     .prefill = mooncake_prefill,
     .decode = mooncake_decode},
    {.kind = connector_kind::sglang,
     .order = dispatch::concurrent,
     .every_api = false,
     .batches = true,
     .freed_by_delivery = false,
     .answers_once_fetched = true,
     .bounds_prefill = false,
     .lease = 300s,  // SGLANG_DISAGGREGATION_WAITING_TIMEOUT
     .params_member = "",
     .prefill = sglang_leg,
     .decode = sglang_leg},
    {.kind = connector_kind::trtllm,
     .order = dispatch::serial,
     .every_api = false,
     .batches = false,
     .freed_by_delivery = true,
     .answers_once_fetched = false,
     .bounds_prefill = false,
     .lease = 60s,  // cache_transceiver_config.kv_transfer_timeout_ms
     .params_member = "disaggregated_params",
     .prefill = trtllm_context,
     .decode = trtllm_generation},
    {.kind = connector_kind::moriio,
     .order = dispatch::serial,
     .every_api = true,
     .batches = false,
     .freed_by_delivery = true,
     .answers_once_fetched = false,
     .bounds_prefill = true,
     .lease = 60s,  // its defer_timeout, which newer ones have raised
     .params_member = "kv_transfer_params",
     .prefill = moriio_prefill,
     .decode = nixl_decode},
};

// Each choice has a name of its own in both bodies. Chains of prompts are counted up to 1,024.
constexpr std::uint64_t most_choices = 1000;

}  // namespace

const connector& row(connector_kind kind) { return table[static_cast<std::size_t>(kind)]; }

void prefill_body(connector_kind kind, const request_body& body, const terms& said, splices& out) {
  row(kind).prefill(body, said, out);
}

void decode_body(connector_kind kind, const request_body& body, const terms& said, splices& out) {
  row(kind).decode(body, said, out);
}

void make_unread(connector_kind kind, const request_body& body, splices& out) {
  body_edits edits(body);
  if (row(kind).bounds_prefill) ask_one_token(body, edits);
  edits.set(body_key::stream, "stream", "true");
  edits.finish(out);
}

bool same_body(connector_kind kind) { return row(kind).prefill == row(kind).decode; }

std::uint64_t choices_of(const request_facts& facts) {
  const std::uint64_t prompts = facts.prompt_array ? std::max<std::uint64_t>(facts.prompts.size(), 1) : 1;
  return prompts * facts.n;
}

std::uint8_t carriers(const request_facts& facts) {
  switch (facts.api) {
    case api_kind::chat:
    case api_kind::completions:
    case api_kind::responses:
    case api_kind::messages: break;
    default: return 0;
  }
  // The prompt's logits stay where it was computed.
  if (facts.pooling || facts.echo || facts.prompt_logprobs || facts.prompt_embeds) return 0;
  // The conversation's state is in one engine.
  if (!facts.previous_response_id.empty()) return 0;
  const bool usual = facts.api == api_kind::chat || facts.api == api_kind::completions;
  const bool batch = facts.n > 1 || facts.prompt_array;
  const bool searches = facts.beam_search || facts.best_of;
  const bool few = choices_of(facts) <= most_choices;
  std::uint8_t out = 0;
  for (const connector& c : table) {
    const bool carried = !searches && (!batch || (c.batches && few)) && (usual || c.every_api);
    if (carried) out |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(c.kind));
  }
  return out;
}

}  // namespace penstock::handoff
