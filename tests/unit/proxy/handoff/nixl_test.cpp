// vLLM's NIXL connector: both bodies to the byte. Shapes as recorded from two vLLM 0.32.0.
#include <doctest/doctest.h>

#include "unit/proxy/handoff/bodies.hpp"

using namespace penstock;
using namespace penstock::handoff;
using namespace penstock::handoff::testing;

namespace {

constexpr auto nixl = connector_kind::nixl;
const std::string asks =
    R"("kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null})";
const std::string params =
    R"({"do_remote_prefill":true,"remote_block_ids":[[376, 377]],"new":{"a":[1.0e0]}})";

}  // namespace

TEST_CASE("nixl: a prefill leg generates one token and asks for the hand-off") {
  CHECK(prefill(nixl, R"({"model":"m","messages":[]})") ==
        R"({"model":"m","messages":[],"max_tokens":1,"max_completion_tokens":1,"min_tokens":1,)" + asks +
            "}");
  CHECK(prefill(nixl, R"({"model":"m","prompt":"x"})", api_kind::completions) ==
        R"({"model":"m","prompt":"x","max_tokens":1,"max_completion_tokens":1,"min_tokens":1,)" + asks + "}");
  CHECK(prefill(nixl, R"({"model":"m","max_tokens":9,"messages":[]})", api_kind::messages) ==
        R"({"model":"m","max_tokens":1,"messages":[],"max_completion_tokens":1,"min_tokens":1,)" + asks +
            "}");
  CHECK(prefill(nixl, R"({"model":"m","input":"x"})", api_kind::responses) ==
        R"({"model":"m","input":"x","max_output_tokens":1,)" + asks + "}");
  CHECK(prefill(nixl, R"({"input":"x","max_output_tokens":99,"model":"m","stream":true})",
                api_kind::responses) ==
        R"({"input":"x","max_output_tokens":1,"model":"m","stream":false,)" + asks + "}");
}

TEST_CASE("nixl: members that are there change where they stand, in any order and however they are written") {
  CHECK(
      prefill(
          nixl,
          R"({ "stream" : true , "min_tokens":0,"max_completion_tokens": 4e2 ,"temperature":0.10,"model":"m",
 "max_tokens":null, "messages":[{"b":1,"a":2}] })") ==
      R"({ "stream" : false , "min_tokens":1,"max_completion_tokens": 1 ,"temperature":0.10,"model":"m",
 "max_tokens":1, "messages":[{"b":1,"a":2}] ,)" +
          asks + "}");
  // A name with escapes is the same name.
  CHECK(
      prefill(nixl, R"({"max_t\u006fkens":7,"model":"m","messages":[],"str\u0065am":true})") ==
      R"({"max_t\u006fkens":1,"model":"m","messages":[],"str\u0065am":false,"max_completion_tokens":1,"min_tokens":1,)" +
          asks + "}");
}

TEST_CASE("nixl: stream_options is left out with one comma, wherever it stands") {
  const std::string tail = R"(,"max_tokens":1,"max_completion_tokens":1,"min_tokens":1,)" + asks + "}";
  CHECK(prefill(nixl, R"({"stream_options":{"include_usage":true},"model":"m","messages":[]})") ==
        R"({"model":"m","messages":[])" + tail);
  CHECK(prefill(nixl, R"({"model":"m", "stream_options" : {"a":[{}]} , "messages":[]})") ==
        R"({"model":"m",  "messages":[])" + tail);
  CHECK(
      prefill(nixl, R"({"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}})") ==
      R"({"model":"m","messages":[],"stream":false)" + tail);
  CHECK(prefill(nixl, "{\"model\":\"m\",\"messages\":[]\n,\t\"stream_options\": null\n}") ==
        "{\"model\":\"m\",\"messages\":[]\n\n" + tail);
  CHECK(prefill(nixl, R"({"model":"m","stream\u005foptions":{},"messages":[]})") ==
        R"({"model":"m","messages":[])" + tail);
}

TEST_CASE("nixl: a decode leg is the client's body and the parameters, verbatim") {
  const std::string_view body =
      R"({ "model":"m","messages":[],"max_tokens":  12,"temperature":1.50,"stream":true })";
  CHECK(
      decode(nixl, body, {.params = params}) ==
      R"({ "model":"m","messages":[],"max_tokens":  12,"temperature":1.50,"stream":true ,"kv_transfer_params":)" +
          params + "}");
}

TEST_CASE("a decode leg that nobody will read is a stream of one token") {
  const auto unread = [](std::string_view body, connector_kind kind = nixl, api_kind api = api_kind::chat) {
    const request_facts facts = facts_of(body, api);
    splices edits;
    decode_body(kind, {facts, body}, {.params = "{}"}, edits);
    make_unread(kind, {facts, body}, edits);
    return spliced(body, edits);
  };
  CHECK(unread(R"({"model":"m","messages":[]})") ==
        R"({"model":"m","messages":[],"kv_transfer_params":{},"max_tokens":1,"stream":true})");
  CHECK(unread(R"({"stream":false,"max_tokens":99,"model":"m","min_tokens":9,"messages":[],"max_completion_tokens":0})") ==
        R"({"stream":true,"max_tokens":1,"model":"m","min_tokens":1,"messages":[],"max_completion_tokens":1,"kv_transfer_params":{}})");
  CHECK(unread(R"({"model":"m","input":"x","max_output_tokens":9})", nixl, api_kind::responses) ==
        R"({"model":"m","input":"x","max_output_tokens":1,"kv_transfer_params":{},"stream":true})");
  // TensorRT-LLM's context engine took the client's bounds.
  CHECK(unread(R"({"model":"m","max_tokens":9,"messages":[]})", connector_kind::trtllm) ==
        R"({"model":"m","max_tokens":9,"messages":[],"disaggregated_params":{},"stream":true})");
}
