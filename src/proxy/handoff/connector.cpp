#include "proxy/handoff/connector.hpp"

#include "proxy/handoff/body_edits.hpp"

namespace penstock::handoff {
namespace {

using namespace std::chrono_literals;

// One token is all that a prefill leg generates, and it is thrown away: decode computes it again. min_tokens,
// since an end-of-text as the first token would end the request before older vLLMs hand anything on.
void prime(const request_body& body, body_edits& edits) {
  if (body.facts.api == api_kind::responses) {
    edits.set(body_key::max_output_tokens, "max_output_tokens", "1");
  } else {
    edits.set(body_key::max_tokens, "max_tokens", "1");
    edits.set(body_key::max_completion_tokens, "max_completion_tokens", "1");
    edits.set(body_key::min_tokens, "min_tokens", "1");
  }
  edits.replace(body_key::stream, "false");  // a streamed prefill answer has no parameters (vLLM 0.32)
  edits.drop_stream_options();
}

void nixl_prefill(const request_body& body, const terms&, splices& out) {
  body_edits edits(body);
  prime(body, edits);
  edits.add("kv_transfer_params",
            R"({"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,)"
            R"("remote_block_ids":null,"remote_host":null,"remote_port":null})");
  edits.finish(out);
}

void nixl_decode(const request_body& body, const terms& said, splices& out) {
  body_edits edits(body);
  edits.add("kv_transfer_params", said.params);
  edits.finish(out);
}

constexpr connector table[] = {
    {.kind = connector_kind::nixl,
     .order = dispatch::serial,
     .decode_serves_alone = true,
     .batches = false,
     .freed_by_delivery = true,
     .lease = 30s,
     .params_member = "kv_transfer_params",
     .prefill = nixl_prefill,
     .decode = nixl_decode},
};

}  // namespace

const connector& row(connector_kind kind) { return table[static_cast<std::size_t>(kind)]; }

void prefill_body(connector_kind kind, const request_body& body, const terms& said, splices& out) {
  row(kind).prefill(body, said, out);
}

void decode_body(connector_kind kind, const request_body& body, const terms& said, splices& out) {
  row(kind).decode(body, said, out);
}

void make_stream(const request_body& body, splices& out) {
  body_edits edits(body);
  edits.set(body_key::stream, "stream", "true");
  edits.finish(out);
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
  const bool batch = facts.n > 1 || facts.beam_search || facts.prompt_array;
  std::uint8_t out = 0;
  for (const connector& c : table) {
    const bool carried = !batch || (c.batches && !facts.beam_search);
    if (carried) out |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(c.kind));
  }
  return out;
}

}  // namespace penstock::handoff
