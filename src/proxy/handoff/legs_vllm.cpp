// vLLM's connectors: NIXL and MoRI-IO, whose decode leg carries what the prefill leg answered, and Mooncake,
// where both start at once with an id of ours.
#include <fmt/format.h>

#include "proxy/handoff/legs.hpp"

namespace penstock::handoff {
namespace {

// A streamed prefill answer has no parameters (vLLM 0.32).
void make_whole(body_edits& edits) {
  edits.replace(body_key::stream, "false");
  edits.drop_stream_options();
}

// One token is all that a prefill leg generates, and it is thrown away: decode computes it again. min_tokens,
// since an end-of-text as the first token would end the request before older vLLMs (and MoRI-IO's connector)
// hand anything on.
void prime(const request_body& body, body_edits& edits) {
  if (body.facts.api == api_kind::responses) {
    edits.set(body_key::max_output_tokens, "max_output_tokens", "1");
  } else {
    edits.set(body_key::max_tokens, "max_tokens", "1");
    edits.set(body_key::max_completion_tokens, "max_completion_tokens", "1");
    edits.set(body_key::min_tokens, "min_tokens", "1");
  }
  make_whole(edits);
}

// As llm-d's side-car writes it.
std::string transfer_id(const terms& said) { return fmt::format("xfer-{:016x}", said.room); }

std::string authority(const terms& said) {
  const bool v6 = said.bootstrap_host.find(':') != bytes_view::npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", said.bootstrap_host, v6 ? "]" : "", said.bootstrap_port);
}

}  // namespace

void ask_one_token(const request_body& body, body_edits& edits) {
  if (body.facts.api == api_kind::responses)
    return edits.set(body_key::max_output_tokens, "max_output_tokens", "1");
  edits.set(body_key::max_tokens, "max_tokens", "1");
  edits.replace(body_key::max_completion_tokens, "1");
  edits.replace(body_key::min_tokens, "1");
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

// MoRI-IO's hand-offs have a name of ours too, whose "tx" tells it from other notifications.
void moriio_prefill(const request_body& body, const terms& said, splices& out) {
  body_edits edits(body);
  prime(body, edits);
  edits.add("kv_transfer_params",
            fmt::format(R"({{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,)"
                        R"("remote_block_ids":null,"remote_host":null,"remote_port":null,)"
                        R"("transfer_id":"tx-{:016x}"}})",
                        said.room));
  edits.finish(out);
}

void mooncake_prefill(const request_body& body, const terms& said, splices& out) {
  body_edits edits(body);
  // What Mooncake's own proxy writes. The other bounds are lowered where the client sent them, or they would
  // contradict the first.
  ask_one_token(body, edits);
  make_whole(edits);
  edits.add("kv_transfer_params",
            fmt::format(R"({{"do_remote_decode":true,"do_remote_prefill":false,"transfer_id":"{}"}})",
                        transfer_id(said)));
  edits.finish(out);
}

void mooncake_decode(const request_body& body, const terms& said, splices& out) {
  body_edits edits(body);
  edits.add("kv_transfer_params",
            fmt::format(R"({{"do_remote_decode":false,"do_remote_prefill":true,"transfer_id":"{}",)"
                        R"("remote_bootstrap_addr":"http://{}","remote_engine_id":"{}"}})",
                        transfer_id(said), authority(said), said.engine_id));
  edits.finish(out);
}

}  // namespace penstock::handoff
