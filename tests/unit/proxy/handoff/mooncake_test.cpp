// vLLM's Mooncake connector: both bodies to the byte. Shapes of llm-d's side-car and vLLM's own proxy.
#include <doctest/doctest.h>

#include "unit/proxy/handoff/bodies.hpp"

using namespace penstock;
using namespace penstock::handoff;
using namespace penstock::handoff::testing;

namespace {

constexpr auto mooncake = connector_kind::mooncake;
constexpr terms said{
    .room = 0x1234, .bootstrap_host = "10.0.0.5", .bootstrap_port = 8998, .engine_id = "e-1_dp0"};
const std::string asks =
    R"("kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"transfer_id":"xfer-0000000000001234"}})";

}  // namespace

TEST_CASE("mooncake: a prefill leg generates one token under the id of the hand-off") {
  const auto leg = [](std::string_view body, api_kind api) { return prefill(mooncake, body, api, said); };
  CHECK(leg(R"({"model":"m","messages":[]})", api_kind::chat) ==
        R"({"model":"m","messages":[],"max_tokens":1,)" + asks);
  CHECK(leg(R"({"model":"m","prompt":"x","max_tokens":9})", api_kind::completions) ==
        R"({"model":"m","prompt":"x","max_tokens":1,)" + asks);
  CHECK(leg(R"({"model":"m","input":"x"})", api_kind::responses) ==
        R"({"model":"m","input":"x","max_output_tokens":1,)" + asks);
  // Other bounds are lowered where they stand: min_tokens above max_tokens is a 400.
  CHECK(
      leg(R"({"min_tokens":5,"max_completion_tokens":7,"stream":true,"stream_options":{},"model":"m","messages":[]})",
          api_kind::chat) ==
      R"({"min_tokens":1,"max_completion_tokens":1,"stream":false,"model":"m","messages":[],"max_tokens":1,)" +
          asks);
}

TEST_CASE("mooncake: a decode leg is the client's body and where to find the blocks") {
  CHECK(
      decode(mooncake, R"({ "model":"m","messages":[],"max_tokens": 1.2e1 })", said) ==
      R"({ "model":"m","messages":[],"max_tokens": 1.2e1 ,"kv_transfer_params":{"do_remote_decode":false,"do_remote_prefill":true,"transfer_id":"xfer-0000000000001234","remote_bootstrap_addr":"http://10.0.0.5:8998","remote_engine_id":"e-1_dp0"}})");
  terms v6 = said;
  v6.bootstrap_host = "fd00::1";
  CHECK(decode(mooncake, R"({"model":"m","messages":[]})", v6).find(R"("http://[fd00::1]:8998")") !=
        std::string::npos);
}
