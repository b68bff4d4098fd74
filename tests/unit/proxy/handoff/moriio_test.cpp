// vLLM's MoRI-IO connector in read mode: as NIXL's, but for the id that the proxy gives to each hand-off.
#include <doctest/doctest.h>

#include "proxy/handoff/prefill_answer.hpp"
#include "unit/proxy/handoff/bodies.hpp"

using namespace penstock;
using namespace penstock::handoff;
using namespace penstock::handoff::testing;

namespace {

constexpr auto moriio = connector_kind::moriio;
// Members as vllm/distributed/kv_transfer/kv_connector/v1/moriio returns them.
const std::string params =
    R"({"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[3, 4],"remote_engine_id":"h:6301","remote_host":"h","remote_handshake_port":6301,"remote_notify_port":61005,"remote_dp_size":1,"tp_size":1,"transfer_id":"tx-00000000000000ff"})";

}  // namespace

TEST_CASE("moriio: a prefill leg generates one token and has an id of its own") {
  CHECK(
      prefill(moriio, R"({"model":"m","messages":[],"max_tokens":  9,"stream":true})", api_kind::chat,
              {.room = 255}) ==
      R"({"model":"m","messages":[],"max_tokens":  1,"stream":false,"max_completion_tokens":1,"min_tokens":1,)"
      R"("kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null,"transfer_id":"tx-00000000000000ff"}})");
}

TEST_CASE("moriio: a decode leg is the client's body and the parameters, verbatim") {
  CHECK(decode(moriio, R"({"model":"m", "messages":[],"max_tokens":  9 })", {.params = params, .room = 1}) ==
        R"({"model":"m", "messages":[],"max_tokens":  9 ,"kv_transfer_params":)" + params + "}");
}

TEST_CASE("moriio: parameters that lack what the decode engine needs are none") {
  const auto said = [](std::string_view object) {
    return std::string(R"({"choices":[],"kv_transfer_params":)") + std::string(object) + "}";
  };
  const std::string body = said(params);
  CHECK(read_prefill_answer(moriio, body).params == params);
  CHECK_FALSE(read_prefill_answer(moriio, body).finished);
  const std::string messages =
      R"({"usage":{"input_tokens":30,"output_tokens":1,"cache_read_input_tokens":96},"kv_transfer_params":)" +
      params + "}";
  const prefill_answer anthropic = read_prefill_answer(moriio, messages);
  CHECK(anthropic.cached_known);
  CHECK(anthropic.cached_tokens == 96);
  for (const std::string_view name :
       {"do_remote_prefill", "remote_engine_id", "remote_block_ids", "remote_host", "remote_handshake_port",
        "remote_notify_port", "transfer_id"}) {
    std::string less = params;
    less.replace(less.find(name), 3, "xxx");
    CAPTURE(name);
    CHECK(read_prefill_answer(moriio, said(less)).params.empty());
  }
}
