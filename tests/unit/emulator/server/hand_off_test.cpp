// Legs as bodies have them: what is taken, and which field a refusal names.
#include "emulator/server/hand_off.hpp"

#include <doctest/doctest.h>

#include "emulator/server/fault.hpp"
#include "emulator/server/json_text.hpp"
#include "unit/emulator/server/loopback.hpp"

using namespace penstock::emulator;
using namespace penstock::emulator::test;

namespace {

hand_off_options nixl(engine_role role = engine_role::both) {
  hand_off_options o;
  o.connector = connector_kind::nixl;
  o.role = role;
  return o;
}

std::string leg(const std::string& params, const std::string& more = {}) {
  return R"({"model":"tiny","prompt":"Hello","messages":[])" + more + R"(,"kv_transfer_params":)" + params +
         "}";
}

const std::string primed = R"(,"max_tokens":1,"max_completion_tokens":1,"min_tokens":1,"stream":false)";
const std::string asks = R"({"do_remote_decode":true})";

// The field that a refusal names; empty when there is none.
std::string refused(const hand_off_options& o, engine_api api, const std::string& body) {
  const leg_reading r = read_leg(o, api, body);
  if (!r.failure) return {};
  CHECK(r.failure->message.find(r.failure->param) != std::string::npos);
  return r.failure->param;
}

}  // namespace

TEST_CASE("a primed request that asks for remote decode is a prefill leg") {
  for (const engine_api api : {engine_api::chat, engine_api::completions}) {
    const leg_reading r = read_leg(nixl(), api, leg(asks, primed));
    CHECK(r.leg.kind == leg_kind::prefill);
    CHECK_FALSE(r.failure.has_value());
  }
  CHECK(refused(nixl(), engine_api::responses, leg(asks, R"(,"max_output_tokens":1)")).empty());
  CHECK(refused(nixl(), engine_api::responses, leg(asks, primed)) == "max_output_tokens");
  CHECK(refused(nixl(), engine_api::messages, leg(asks, R"(,"max_tokens":1)")).empty());
  CHECK(read_leg({}, engine_api::chat, leg(asks, primed)).leg.kind == leg_kind::none);  // no connector
  CHECK(read_leg(nixl(), engine_api::chat, "{").leg.kind == leg_kind::none);
  CHECK(read_leg(nixl(), engine_api::chat, leg("null")).leg.kind == leg_kind::none);
  CHECK(refused(nixl(), engine_api::chat, leg("7")) == "kv_transfer_params");
}

TEST_CASE("a prefill leg that was primed wrongly is refused with its field") {
  const auto field = [](const std::string& more, const std::string& params = asks) {
    return refused(nixl(), engine_api::completions, leg(params, more));
  };
  CHECK(field(R"(,"min_tokens":1)") == "max_tokens");
  CHECK(field(R"(,"max_tokens":16,"min_tokens":1)") == "max_tokens");
  CHECK(field(R"(,"max_tokens":1)") == "min_tokens");
  CHECK(field(R"(,"max_tokens":1,"min_tokens":1,"stream":true)") == "stream");
  CHECK(field(R"(,"max_tokens":1,"min_tokens":1,"stream":1)") == "stream");
  CHECK(field(R"(,"max_tokens":1,"min_tokens":1,"stream_options":{})") == "stream_options");
  CHECK(field(primed + R"(,"n":2)") == "n");
  CHECK(field(primed + R"(,"best_of":2)") == "best_of");
  CHECK(field(primed + R"(,"echo":true)") == "echo");
  CHECK(field(primed + R"(,"prompt_logprobs":1)") == "prompt_logprobs");
  CHECK(field(primed, R"({"do_remote_decode":true,"remote_host":"h"})") == "kv_transfer_params.remote_host");
  const std::string two =
      R"({"prompt":["a","b"],"max_tokens":1,"min_tokens":1,"kv_transfer_params":)" + asks + "}";
  CHECK(refused(nixl(), engine_api::completions, two) == "prompt");
  const std::string ids =
      R"({"prompt":[1,2],"max_tokens":1,"min_tokens":1,"kv_transfer_params":)" + asks + "}";
  CHECK(refused(nixl(), engine_api::completions, ids).empty());
  CHECK(refused(nixl(), engine_api::chat, leg(asks, R"(,"max_tokens":1,"min_tokens":1)")) ==
        "max_completion_tokens");
  hand_off_options lenient = nixl();
  lenient.checks_legs = false;
  CHECK(refused(lenient, engine_api::chat, leg(asks, R"(,"stream":true)")).empty());
}

TEST_CASE("a decode leg reads back what the prefill answer said") {
  const std::vector<block_id> blocks = {3, 4, 70000};
  const std::string params =
      to_json(connector_kind::nixl, {"engine", "chatcmpl-x y-1", "127.0.0.1", 5600, blocks, 40, 16});
  const leg_reading r = read_leg(nixl(), engine_api::chat, leg(params));
  REQUIRE_FALSE(r.failure.has_value());
  CHECK(r.leg.kind == leg_kind::decode);
  CHECK(r.leg.remote_engine == "engine");
  CHECK(r.leg.ids == std::vector<std::string>{"chatcmpl-x y-1"});
  CHECK(r.leg.remote_host == "127.0.0.1");
  CHECK(r.leg.remote_port == 5600);
  CHECK(r.leg.blocks == blocks);
  CHECK(refused(nixl(), engine_api::chat, leg(params, R"(,"n":2)")) == "n");
}

TEST_CASE("a decode leg without its origin kills, one with half of it is refused") {
  CHECK(read_leg(nixl(), engine_api::chat, leg(R"({"do_remote_prefill":true})")).deadly);
  const leg_reading half =
      read_leg(nixl(), engine_api::chat,
               leg(R"({"do_remote_prefill":true,"remote_engine_id":"e","remote_host":"h"})"));
  CHECK_FALSE(half.deadly);
  REQUIRE(half.failure.has_value());
  CHECK(half.failure->param == "kv_transfer_params.remote_request_id");
  const std::string flat =
      R"({"do_remote_prefill":true,"remote_engine_id":"e","remote_request_id":"r","remote_host":"h",)"
      R"("remote_port":1,"remote_block_ids":[1,2]})";
  CHECK(refused(nixl(), engine_api::chat, leg(flat)) == "kv_transfer_params.remote_block_ids");
}

TEST_CASE("MoRI-IO and TensorRT-LLM legs read back what the prefill answer said") {
  const std::vector<block_id> blocks = {3, 4};
  hand_off_options o = nixl();
  o.connector = connector_kind::moriio;
  const std::string params = to_json(o.connector, {"engine", "tx-1", "127.0.0.1", 6301, blocks, 40, 0});
  const hand_off_leg m = read_leg(o, engine_api::chat, leg(params)).leg;
  CHECK(m.kind == leg_kind::decode);
  CHECK(m.ids == std::vector<std::string>{"tx-1"});
  CHECK(m.remote_port == 6301);
  CHECK(m.blocks == blocks);
  CHECK(refused(o, engine_api::chat, leg(asks, R"(,"max_tokens":1)")) == "kv_transfer_params.transfer_id");
  o.connector = connector_kind::trtllm;
  const std::string context =
      to_json(o.connector, {"engine", "chatcmpl-1", "127.0.0.1", 5600, blocks, 40, 0, -7, 99});
  CHECK(context.find(R"("first_gen_tokens":[99])") != std::string::npos);
  const std::string generation = R"({"prompt":"x","disaggregated_params":)" +
                                 std::string(context).replace(context.find("context"), 7, "generation") + "}";
  const leg_reading g = read_leg(o, engine_api::completions, generation);
  REQUIRE_FALSE(g.failure.has_value());
  CHECK(g.leg.kind == leg_kind::decode);
  CHECK(g.leg.remote_engine == "engine");
  CHECK(g.leg.ids == std::vector<std::string>{"chatcmpl-1"});
  CHECK(g.leg.blocks == blocks);
  CHECK(refused(o, engine_api::responses, generation) == "disaggregated_params");
}

TEST_CASE("Mooncake legs name transfer and rank") {
  hand_off_options o = nixl();
  o.connector = connector_kind::mooncake;
  o.dp_size = 2;
  const std::string prefill = leg(R"({"do_remote_decode":true,"transfer_id":"x"})", R"(,"max_tokens":1)");
  CHECK(read_leg(o, engine_api::chat, prefill).leg.ids == std::vector<std::string>{"x@0"});
  CHECK(read_leg(o, engine_api::chat, prefill, "1").leg.ids == std::vector<std::string>{"x@1"});
  CHECK(read_leg(o, engine_api::chat, prefill, "2").failure->param == "x-data-parallel-rank");
  const std::string decode = R"({"do_remote_prefill":true,"transfer_id":"x","remote_engine_id":"a_dpb_dp1",)"
                             R"("remote_bootstrap_addr":"http://127.0.0.1:8998"})";
  const leg_reading d = read_leg(o, engine_api::chat, leg(decode));
  REQUIRE_FALSE(d.failure.has_value());
  CHECK(d.leg.waits);
  CHECK(d.leg.remote_engine == "a_dpb");
  CHECK(d.leg.remote_host == "127.0.0.1");
  CHECK(d.leg.remote_port == 8998);
  CHECK(d.leg.ids == std::vector<std::string>{"x@1"});
  const std::string bare = std::string(decode).replace(decode.find("http://"), 7, "");
  CHECK(refused(o, engine_api::chat, leg(bare)) == "kv_transfer_params.remote_bootstrap_addr");
}

TEST_CASE("SGLang legs have a room for each choice, and the rank follows from the room") {
  hand_off_options o;
  o.connector = connector_kind::sglang;
  o.role = engine_role::prefill;
  o.dp_size = 4;
  const auto body = [](const std::string& fields) { return R"({"prompt":["a","b"],)" + fields + "}"; };
  const std::string both = body(
      R"("bootstrap_host":["h","h"],"bootstrap_port":[null,8998],"bootstrap_room":[5,9223372036854775807])");
  const leg_reading r = read_leg(o, engine_api::completions, both);
  REQUIRE_FALSE(r.failure.has_value());
  CHECK(r.leg.kind == leg_kind::prefill);
  CHECK(r.leg.ids == std::vector<std::string>{"5", "9223372036854775807"});
  CHECK(r.leg.remote_host == "h");
  CHECK(r.leg.remote_port == 8998);
  CHECK(read_leg(o, engine_api::completions, both, "1").failure->param == "bootstrap_room");
  CHECK(refused(o, engine_api::responses, both) == "bootstrap_room");
  const std::string one = R"("bootstrap_host":"h","bootstrap_port":1,"bootstrap_room":5)";
  CHECK(refused(o, engine_api::completions, body(one)) == "bootstrap_room");
  CHECK(refused(o, engine_api::completions, R"({"prompt":"a",)" + one + "}").empty());
  CHECK(refused(o, engine_api::completions, R"({"prompt":[1,2],)" + one + "}").empty());
  CHECK(refused(o, engine_api::completions, R"({"prompt":"a"})") == "bootstrap_room");
  CHECK(refused(o, engine_api::completions,
                R"({"prompt":"a","bootstrap_host":"h","bootstrap_port":1,"bootstrap_room":-1})") ==
        "bootstrap_room");
  o.side_port = 2;
  CHECK(refused(o, engine_api::completions, R"({"prompt":"a",)" + one + "}") == "bootstrap_port");
  o.role = engine_role::decode;
  CHECK(read_leg(o, engine_api::completions, R"({"prompt":"a",)" + one + "}").leg.kind == leg_kind::decode);
}

TEST_CASE("base64 there and back") {
  for (const std::string text : {"", "a", "ab", "abc", "abcd", "\xff\x00\x01"})
    CHECK(from_base64(base64(text)) == text);
  CHECK_FALSE(from_base64("abc").has_value());
  CHECK_FALSE(from_base64("a===").has_value());
  CHECK_FALSE(from_base64("ab!=").has_value());
}

TEST_CASE("an engine plays the legs of its role") {
  const std::string plain = R"({"prompt":"Hello"})";
  CHECK(refused(nixl(engine_role::prefill), engine_api::completions, plain) == "kv_transfer_params");
  CHECK(refused(nixl(engine_role::decode), engine_api::completions, plain).empty());
  CHECK(refused(nixl(engine_role::decode), engine_api::completions, leg(asks, primed)) ==
        "kv_transfer_params");
  CHECK(refused(nixl(engine_role::prefill), engine_api::embeddings, plain).empty());
}

TEST_CASE("faults may be for one leg alone") {
  fault_plan plan;
  CHECK(apply_faults("prefill:500,decode:slow-transfer=3,no-hand-off", plan, leg_kind::decode).empty());
  CHECK(plan.status == 0);
  CHECK(plan.slow_transfer == 3);
  CHECK(plan.no_hand_off);
  CHECK_FALSE(apply_faults("prefill:nonsense", plan, leg_kind::decode).empty());
  fault_rule rule;
  CHECK(parse_fault_rule("prefill:exit-end,prefill:half-answer@first:1", rule).empty());
  CHECK(concerns(rule, leg_kind::prefill));
  CHECK_FALSE(concerns(rule, leg_kind::decode));
  CHECK_FALSE(concerns(rule, leg_kind::none));
}

TEST_CASE("both legs on one engine, over each API") {
  engine_options o = instant_options();
  o.hand_off = nixl();
  o.hand_off.transfer.handshake = std::chrono::milliseconds(1);
  engine e(o), alone;
  const auto object = [](const std::string& body) {
    const std::size_t at = body.find(R"("kv_transfer_params":{)") + 21;
    return body.substr(at, body.find('}', at) + 1 - at);
  };
  const std::string messages =
      R"({"model":"tiny","messages":[{"role":"user","content":"What is a licence?"}])";
  struct {
    std::string path, body, limit, one;
  } const calls[] = {
      {"/v1/chat/completions", messages, R"(,"max_tokens":9)", primed},
      {"/v1/completions", R"({"model":"tiny","prompt":"What is a licence?")", R"(,"max_tokens":9)", primed},
      {"/v1/messages", messages, R"(,"max_tokens":9)", R"(,"max_tokens":1)"},
      {"/v1/responses", R"({"model":"tiny","input":"What is a licence?")", R"(,"max_output_tokens":9)",
       R"(,"max_output_tokens":1)"},
  };
  const auto text = [](const std::string& body) {
    const std::size_t at = body.find(R"("text":")") == std::string::npos ? body.find(R"("content":")")
                                                                         : body.find(R"("text":")");
    return body.substr(at, body.find("\",", at) - at);
  };
  for (const auto& call : calls) {
    CAPTURE(call.path);
    const reply p = e.post(call.path, call.body + call.one + R"(,"kv_transfer_params":)" + asks + "}");
    REQUIRE(p.status == 200);
    const reply d =
        e.post(call.path, call.body + call.limit + R"(,"kv_transfer_params":)" + object(p.body) + "}");
    REQUIRE(d.status == 200);
    CHECK(text(d.body) == text(alone.post(call.path, call.body + call.limit + "}").body));
    CHECK(text(d.body) != text(p.body));
  }
  CHECK(engine::eventually(
      [&] { return e.get("/debug/leases").body.find(R"("fetched":4)") != std::string::npos; }));
  CHECK(e.get("/debug/leases").body.ends_with(R"("open":[]})"));
}

TEST_CASE("a prefill leg taken as vLLM takes it: a stream has no hand-off and its blocks wait for expiry") {
  engine_options o = instant_options();
  o.hand_off = nixl();
  o.hand_off.checks_legs = false;
  o.hand_off.lease = std::chrono::milliseconds(200);
  engine e(o);
  const reply r = e.post("/v1/completions", leg(asks, R"(,"max_tokens":1,"stream":true)"));
  CHECK(r.status == 200);
  CHECK(r.body.find("kv_transfer_params") == std::string::npos);
  CHECK(r.body.find("[DONE]") != std::string::npos);
  CHECK(e.get("/debug/leases").body.find(R"("granted":1)") != std::string::npos);
  CHECK(engine::eventually(
      [&] { return e.get("/debug/leases").body.find(R"("expired":1)") != std::string::npos; }));
}

TEST_CASE("options of hand-offs") {
  const auto parse = [](std::vector<std::string> args) { return parse_engine_options(args); };
  const parsed_options p =
      parse({"--connector", "nixl", "--role=decode", "--kv-lease", "1500", "--kv-bandwidth", "5"});
  CHECK(p.error.empty());
  CHECK(p.options.hand_off.role == engine_role::decode);
  CHECK(p.options.hand_off.lease == std::chrono::milliseconds(1500));
  CHECK(p.options.hand_off.transfer.bytes_per_second == 5e9);
  CHECK(parse({"--role", "prefill"}).error.find("--connector") != std::string::npos);
  CHECK(parse({"--connector", "sglang"}).error.find("--role") != std::string::npos);
  CHECK(parse({"--connector", "nxil"}).error.find("nixl") != std::string::npos);
  CHECK(engine_help().find("--kv-load-failure-policy") != std::string::npos);
}
