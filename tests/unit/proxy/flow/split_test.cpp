// Requests that are split: every state and event of both legs as a table (UPDATE_GOLDEN=1 writes it anew),
// and the rules that a table does not show.
#include <doctest/doctest.h>

#include <functional>

#include "unit/golden.hpp"
#include "unit/proxy/flow/bench.hpp"

using namespace penstock;
using namespace penstock::flow;
using namespace penstock::flow::testing;
using handoff::closing;

namespace {

struct named_event {
  std::string name;
  std::function<std::string(testing::bench&)> give;
};
struct place {
  std::string name;
  std::function<void(testing::bench&)> go;
};

const std::vector<named_event>& events() {
  static const std::vector<named_event> all = {
      {"prefill connected",
       [](auto& b) {
         return b.on(engine_connected{false, leg::prefill});
       }},
      {"prefill unreachable",
       [](auto& b) {
         return b.on(engine_unreachable{reason::connect_failed, leg::prefill});
       }},
      {"prefill sent", [](auto& b) { return b.on(request_sent{leg::prefill}); }},
      {"prefill head 200", [](auto& b) { return b.prefill_head(); }},
      {"prefill head 400", [](auto& b) { return b.prefill_head(400); }},
      {"prefill head 500", [](auto& b) { return b.prefill_head(500); }},
      {"prefill head 503", [](auto& b) { return b.prefill_head(503); }},
      {"prefill bytes",
       [](auto& b) {
         return b.on(engine_bytes{"{}", leg::prefill});
       }},
      {"prefill end", [](auto& b) { return b.on(engine_end{leg::prefill}); }},
      {"prefill lost",
       [](auto& b) {
         return b.on(engine_lost{false, leg::prefill});
       }},
      {"prefill garbage",
       [](auto& b) {
         return b.on(engine_lost{true, leg::prefill});
       }},
      {"connected", [](auto& b) { return b.on(engine_connected{false}); }},
      {"unreachable", [](auto& b) { return b.on(engine_unreachable{reason::connect_failed}); }},
      {"sent", [](auto& b) { return b.on(request_sent{}); }},
      {"head 200 stream", [](auto& b) { return b.head(); }},
      {"head 400", [](auto& b) { return b.head(400, "application/json"); }},
      {"head 500", [](auto& b) { return b.head(500, "application/json"); }},
      {"head 503", [](auto& b) { return b.head(503, "application/json"); }},
      {"token", [](auto& b) { return b.bytes(token); }},
      {"error event", [](auto& b) { return b.bytes(engine_error); }},
      {"[DONE]", [](auto& b) { return b.bytes(end_marker); }},
      {"end", [](auto& b) { return b.on(engine_end{}); }},
      {"lost", [](auto& b) { return b.on(engine_lost{false}); }},
      {"client gone", [](auto& b) { return b.on(client_gone{}); }},
      {"drain now", [](auto& b) { return b.on(drain_now{}); }},
      {"its deadline",
       [](auto& b) {
         const instant at = b.flow.deadline();
         const double after = seconds(at - b.now);
         b.now = at;
         const std::string line = b.on(timer{});
         return fmt::format("after {:.0f} s: {}", after, line);
       }},
  };
  return all;
}

void left(testing::bench& b) { b.on(client_gone{}); }

const std::vector<place>& places() {
  static const std::vector<place> all = {
      {"prefilling, connecting", [](auto& b) { b.to_prefilling(); }},
      {"prefilling, waiting", [](auto& b) { b.to_prefill_sent(); }},
      {"prefilling, waiting on a reused connection", [](auto& b) { b.to_prefill_sent(2, 1, true); }},
      {"prefilling, reading",
       [](auto& b) {
         b.to_prefill_sent();
         b.prefill_head();
         b.on(engine_bytes{testing::bench::handed_body.substr(0, 20), leg::prefill});
       }},
      {"prefilling, reading, all but the end",
       [](auto& b) {
         b.to_prefill_sent();
         b.prefill_head();
         b.on(engine_bytes{testing::bench::handed_body, leg::prefill});
       }},
      {"connecting, handed",
       [](auto& b) {
         b.to_prefill_sent();
         b.handed();
       }},
      {"connecting, handed, the last pair",
       [](auto& b) {
         b.to_prefill_sent(1, 0);
         b.handed();
       }},
      {"waiting, decode request under way",
       [](auto& b) {
         b.to_prefill_sent();
         b.handed();
         b.on(engine_connected{false});
       }},
      {"waiting, decode request sent", [](auto& b) { b.to_decoding(); }},
      {"waiting, decode request sent on a reused connection", [](auto& b) { b.to_decoding(true); }},
      {"relaying, refused by the decode engine",
       [](auto& b) {
         b.to_decoding();
         b.head(400, "application/json");
         b.bytes("{}");
       }},
      {"holding",
       [](auto& b) {
         b.to_decoding();
         b.head();
       }},
      {"streaming",
       [](auto& b) {
         b.to_decoding();
         b.head();
         b.bytes(token);
       }},
      {"closing, prefill engine hung up on", [](auto& b) { b.to_prefill_sent(), left(b); }},
      {"closing, prefill engine hung up on, its answer under way",
       [](auto& b) {
         b.to_prefill_sent();
         left(b);
         b.prefill_head();
         b.on(engine_bytes{testing::bench::handed_body, leg::prefill});
       }},
      {"closing, prefill answer under way",
       [](auto& b) {
         b.to_prefill_sent();
         b.prefill_head();
         b.on(engine_bytes{testing::bench::handed_body, leg::prefill});
         left(b);
       }},
      {"closing, connecting",
       [](auto& b) {
         b.to_prefill_sent();
         b.handed();
         left(b);
       }},
      {"closing, decode request under way",
       [](auto& b) {
         b.to_prefill_sent();
         b.handed();
         b.on(engine_connected{false});
         left(b);
       }},
      {"closing for a refusal that the client has, connecting",
       [](auto& b) {
         b.to_decoding();
         b.head(400, "application/json");
         b.bytes("{}");
         b.on(engine_end{});
       }},
  };
  return all;
}

std::string ledger_of(const testing::bench& b) {
  std::string out = b.book.open_count() != 0 ? " lease open" : "";
  for (std::size_t i = 0; i < handoff::closing_count; ++i)
    if (b.book.closed(static_cast<closing>(i)) != 0)
      out += fmt::format(" lease {}", name(static_cast<closing>(i)));
  return out;
}

// Both legs at once: the decode leg runs beside the prefill leg, and its answer waits for that one's end.
const std::vector<place>& concurrent_places() {
  static const std::vector<place> all = {
      {"connecting, prefill connecting", [](auto& b) { b.to_prefilling(); }},
      {"connecting, prefill waiting", [](auto& b) { b.to_prefill_sent(); }},
      {"waiting, prefill connecting",
       [](auto& b) {
         b.to_prefilling();
         b.on(engine_connected{false});
         b.on(request_sent{});
       }},
      {"waiting, prefill waiting", [](auto& b) { b.to_both_sent(); }},
      {"waiting, prefill waiting, on reused connections", [](auto& b) { b.to_both_sent(true); }},
      {"connecting, prefill reading",
       [](auto& b) {
         b.to_prefill_sent();
         b.primed(false);
       }},
      {"waiting, prefill reading, decode request under way",
       [](auto& b) {
         b.to_prefill_sent();
         b.on(engine_connected{false});
         b.primed(false);
       }},
      {"waiting, prefill reading",
       [](auto& b) {
         b.to_both_sent();
         b.primed(false);
       }},
      {"holding, prefill waiting", [](auto& b) { b.to_both_sent(), b.head(); }},
      {"holding a token, prefill waiting", [](auto& b) { b.to_both_sent(), b.head(), b.bytes(token); }},
      {"holding a token, prefill reading",
       [](auto& b) { b.to_both_sent(), b.head(), b.bytes(token), b.primed(false); }},
      {"holding all of the answer, prefill reading",
       [](auto& b) {
         b.to_both_sent(), b.head(), b.bytes(token), b.bytes(end_marker), b.on(engine_end{});
         b.primed(false);
       }},
      {"connecting, prefill handed", [](auto& b) { b.to_prefill_sent(), b.primed(); }},
      {"waiting, prefill handed", [](auto& b) { b.to_both_sent(), b.primed(); }},
      {"holding, prefill handed", [](auto& b) { b.to_both_sent(), b.primed(), b.head(); }},
      {"streaming", [](auto& b) { b.to_both_sent(), b.primed(), b.head(), b.bytes(token); }},
      {"closing, prefill reading, decode connecting",
       [](auto& b) { b.to_prefill_sent(), b.primed(false), left(b); }},
      {"closing, prefill reading, decode request under way",
       [](auto& b) { b.to_prefill_sent(), b.on(engine_connected{false}), b.primed(false), left(b); }},
  };
  return all;
}

void add_places(const std::vector<place>& list, connector_kind connector, std::string& out) {
  for (const place& p : list) {
    out += fmt::format("\n{}\n", p.name);
    for (const named_event& e : events()) {
      testing::bench b;
      b.connector = connector;
      p.go(b);
      const state before = b.flow.where();
      const std::string book = ledger_of(b);
      const std::string line = e.give(b);
      if (line.empty() && b.flow.where() == before && ledger_of(b) == book) continue;
      const std::string end = b.done() ? fmt::format(" ({})", name(b.why())) : "";
      out += fmt::format("  {:<20} -> {} -> {}{}{}\n", e.name, line.empty() ? "nothing" : line,
                         name(b.flow.where()), end, ledger_of(b));
    }
  }
}

std::string table() {
  std::string out =
      "# What a request flow does with a split request: state, event -> actions -> next state, what became "
      "of "
      "the\n"
      "# lease. A chat stream with two pairs and an engine that can do all. Events that change nothing are "
      "left "
      "out.\n"
      "# Made by test_flow.\n\n"
      "# Serial dispatch (nixl)\n";
  add_places(places(), connector_kind::nixl, out);
  out += "\n# Concurrent dispatch (mooncake)\n";
  add_places(concurrent_places(), connector_kind::mooncake, out);
  return out;
}

}  // namespace

TEST_CASE("split: the table of transitions is the one we agreed on") {
  test::check_golden("tests/golden/split_transitions.txt", table());
}

TEST_CASE("split: a whole stream, its usage corrected by the prefill engine's count") {
  testing::bench b;
  b.to_decoding();
  CHECK(b.book.open_count() == 1);
  b.head();
  CHECK(b.bytes(token).find("first_token") == 0);
  CHECK(b.book.closed(closing::fetched) == 1);
  b.facts.client_wants_usage = true;
  b.bytes(usage);
  b.serve_rest();
  CHECK(b.why() == reason::ok);
  CHECK(at_rest(b));
  CHECK(b.flow.record().usage.cached == 7);
  CHECK(b.flow.record().handoff == "fetched");
}

TEST_CASE("split: only the digits of cached_tokens change in what the client gets") {
  config c = settings();
  testing::bench b(c);
  b.facts.client_wants_usage = true;
  b.to_decoding();
  b.head();
  b.bytes(token);
  b.client.clear();
  b.bytes(usage);
  std::string wanted(usage);
  wanted.replace(wanted.find("\"cached_tokens\":0"), 17, "\"cached_tokens\":7");
  CHECK(b.client == wanted);

  config observing = settings();
  observing.server.usage = usage_mode::observe;
  testing::bench o(observing);
  o.to_decoding();
  o.head();
  o.bytes(token);
  o.client.clear();
  o.bytes(usage);
  CHECK(o.client == usage);
}

TEST_CASE("split: an answer that is not streamed tells the prefill engine's count, however it is cut") {
  const std::string said =
      R"({"choices":[{"message":{"content":"\"usage\":{\"cached_tokens\":0}"}}],"usage":{"prompt_tokens":23,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":0}},"x":[{"cached_tokens":0}]})";
  std::string wanted = said;
  wanted.replace(said.find("\"cached_tokens\":0}},"), 17, "\"cached_tokens\":7");
  for (std::size_t cut = 1; cut < said.size(); ++cut) {
    for (const bool observes : {false, true}) {
      config c = settings();
      if (observes) c.server.usage = usage_mode::observe;
      testing::bench b(c);
      b.facts.stream = false;
      b.to_decoding();
      b.head(200, "application/json");
      const std::string begun = b.bytes(std::string_view(said).substr(0, cut));
      // The length that the engine told is not that of a corrected answer.
      REQUIRE((begun.find("answer_head(sse)") == 0) == !observes);
      b.bytes(std::string_view(said).substr(cut));
      b.on(engine_end{});
      REQUIRE(b.client == (observes ? said : wanted));
      REQUIRE(at_rest(b));
      REQUIRE(b.flow.record().usage.cached == 7);
    }
  }
}

TEST_CASE("split: usage of no use passes: of another shape, too long, or without an end") {
  const std::string long_one = R"({"usage":{"x":")" + std::string(5000, 'x') + R"(","cached_tokens":0}})";
  for (const std::string& said :
       {std::string(R"({"usage":null,"a":1})"), std::string(R"({"usage":{"cached_tokens":0)"),
        std::string(R"({"usage":{"prompt_tokens":1}})"), long_one, std::string("[]")}) {
    for (const std::size_t step : {std::size_t{1}, said.size()}) {
      testing::bench b;
      b.facts.stream = false;
      b.to_decoding();
      b.head(200, "application/json");
      for (std::size_t at = 0; at < said.size(); at += step) b.bytes(std::string_view(said).substr(at, step));
      b.on(engine_end{});
      CHECK(b.client == said);
      CHECK(at_rest(b));
    }
  }
}

TEST_CASE("split: no decode starts after half of the lease; the prefill is done anew") {
  for (const bool budget : {true, false}) {
    testing::bench b(settings(), api_kind::chat, budget ? 0.2 : 0.0);
    b.to_prefill_sent();
    b.handed();
    b.now += 14999ms;
    CHECK(b.flow.prefill()->lease().fresh(b.now));
    b.now += 1ms;
    const std::string line = b.on(engine_connected{false});
    CHECK(line.find("send_request") == line.npos);
    CHECK(line.find(budget ? "prefill connect" : "answer_error") != line.npos);
    CHECK(b.book.closed(closing::expired) == 1);
    CHECK(b.book.open_count() == 0);
    b.on(client_gone{});
  }
}

TEST_CASE("split: a hand-off is used once, whatever happens to its decode leg") {
  // Each way in which a decode leg can fail is followed by a new prefill or by one place, never by the same
  // parameters.
  const std::vector<std::function<void(testing::bench&)>> failures = {
      [](auto& b) { b.on(engine_lost{false}); },
      [](auto& b) { b.on(engine_lost{true}); },
      [](auto& b) { b.head(500, "application/json"); },
      [](auto& b) { b.head(503, "application/json"); },
      [](auto& b) {
        b.head();
        b.on(engine_end{});
      },
  };
  for (const auto& fail : failures)
    for (const bool reused : {false, true}) {
      testing::bench b;
      b.to_decoding(reused);
      fail(b);
      CHECK(b.flow.where() == state::prefilling);
      CHECK(b.flow.prefill()->where() == prefill_state::connecting);
      CHECK_FALSE(b.flow.prefill()->lease());
      CHECK(b.book.open_count() == 0);
      b.on(client_gone{});
      CHECK(at_rest(b));
    }
}

TEST_CASE("split: engines that failed are not asked again; then one place serves") {
  testing::bench b(settings(), api_kind::chat, 1.0);
  b.to_deciding();
  plan p = testing::bench::split_plan(2, 0);
  p.candidates.push_back({.endpoint = {21, 1}, .prefill = {10, 1}});
  p.candidates.push_back({.endpoint = {20, 1}});
  p.candidates.push_back({.endpoint = {5, 1}});
  b.on(picked{p});
  b.on(engine_connected{false, leg::prefill});
  b.prefill_head(500);  // prefill 10
  CHECK(b.flow.engine_of(leg::prefill).slot == 11);
  b.on(engine_connected{false, leg::prefill});
  b.prefill_head(503);
  // The pair 10 and 21 is passed over: 10 failed.
  CHECK(b.flow.where() == state::connecting);
  CHECK(b.target() == 20);
  CHECK(b.flow.prefill() == nullptr);
  b.asked_again();
  b.head();
  b.bytes(token);
  b.serve_rest();
  CHECK(b.why() == reason::ok);
  CHECK(at_rest(b));
}

TEST_CASE("split: a decode engine that refuses a hand-off may serve alone, and no hand-off again") {
  for (const bool in_stream : {false, true}) {
    testing::bench b(settings(), api_kind::chat, 1.0);
    b.to_deciding();
    plan p = testing::bench::split_plan(1, 0);  // 10 and 20
    p.candidates.push_back({.endpoint = {20, 1}, .prefill = {11, 1}});
    p.candidates.push_back({.endpoint = {21, 1}, .prefill = {10, 1}});
    p.candidates.push_back({.endpoint = {20, 1}});
    b.on(picked{p});
    b.on(engine_connected{false, leg::prefill});
    b.on(request_sent{leg::prefill});
    b.handed();
    b.asked_again();
    if (in_stream) {
      b.head();
      b.bytes("data: {\"error\":{\"message\":\"KV load failure\",\"code\":500}}\n\n");
    } else {
      b.head(500, "application/json");
    }
    CHECK(b.flow.where() == state::connecting);
    CHECK(b.target() == 20);
    CHECK(b.flow.prefill() == nullptr);
    CHECK(b.book.open_count() == 0);
    b.asked_again();
    b.head();
    b.bytes(token);
    b.serve_rest();
    CHECK(b.why() == reason::ok);
    CHECK(at_rest(b));
  }
}

TEST_CASE("split: two engines that die with a request are its last") {
  testing::bench b(settings(), api_kind::chat, 1.0);
  b.to_prefill_sent(4, 2);
  b.on(engine_lost{false, leg::prefill});
  b.on(engine_connected{false, leg::prefill});
  b.on(request_sent{leg::prefill});
  b.on(engine_lost{false, leg::prefill});
  CHECK(b.done());
  CHECK(b.why() == reason::engine_reset);
  CHECK(at_rest(b));
}

TEST_CASE("split: an answer that hands nothing on is computed again where decode can") {
  testing::bench b;
  b.to_prefill_sent();
  b.handed(R"({"choices":[],"kv_transfer_params":null})");
  CHECK(b.flow.where() == state::connecting);
  CHECK(b.flow.prefill() == nullptr);
  CHECK(b.target() == 20);
  CHECK(b.book.closed(closing::expired) == 1);
  b.asked_again();
  b.head();
  b.bytes(token);
  b.serve_rest();
  CHECK(at_rest(b));
}

namespace {

// TensorRT-LLM's context engine ended the answer with its first token.
constexpr std::string_view complete =
    R"({"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop","disaggregated_params":{"request_type":"context_only","ctx_request_id":1}}],"usage":{"prompt_tokens":9,"completion_tokens":1}})";

void to_context(testing::bench& b) {
  b.to_deciding();
  plan p = testing::bench::split_plan(2, 1);
  p.connector = connector_kind::trtllm;
  b.on(picked{p});
  b.on(engine_connected{false, leg::prefill});
  b.on(request_sent{leg::prefill});
}

}  // namespace

TEST_CASE("split: a prefill answer that is complete is the answer, whole or as a stream") {
  for (const bool stream : {true, false}) {
    testing::bench b;
    b.facts.stream = stream;
    to_context(b);
    const std::string line = b.handed(complete);
    CAPTURE(line);
    CHECK(line.find("adopt_prefill") == 0);
    CHECK(line.find("connect") == line.npos);
    CHECK(b.why() == reason::ok);
    CHECK(at_rest(b));
    CHECK(b.heads == 1);
    CHECK(b.book.closed(closing::complete) == 1);
    CHECK(b.flow.record().handoff == "complete");
    CHECK(b.flow.record().usage.prompt == 9);
    CHECK(b.flow.record().usage.completion == 1);
    CHECK(b.client.find("disaggregated_params") == b.client.npos);
    CHECK(b.client.ends_with(stream ? end_marker : std::string_view("}}")));
    // Usage was asked for by nobody but us.
    CHECK((b.client.find("usage") == b.client.npos) == stream);
    CHECK(b.client.starts_with(stream ? "data: {\"id\":\"c\"" : "{\"id\":\"c\""));
  }
  testing::bench asked;
  asked.facts.client_wants_usage = true;
  to_context(asked);
  asked.handed(complete);
  CHECK(asked.client.find("\"usage\":{\"prompt_tokens\":9") != asked.client.npos);
}

TEST_CASE("split: a client that left while a complete answer came leaves nothing to close") {
  testing::bench b;
  to_context(b);
  b.prefill_head();
  b.on(engine_bytes{complete, leg::prefill});
  b.on(client_gone{});
  CHECK(b.flow.where() == state::closing);
  b.on(engine_end{leg::prefill});
  CHECK(b.done());
  CHECK(b.book.closed(closing::complete) == 1);
  CHECK(b.booked == 0);
  CHECK(b.engines[0] + b.engines[1] == 0);
}

TEST_CASE("split: a prefill answer without an end is not believed for ever") {
  testing::bench b;
  b.to_prefill_sent(1, 0);
  b.prefill_head();
  const std::string much(std::size_t{1} << 20, 'x');
  for (int i = 0; i < 9 && !b.done(); ++i) b.on(engine_bytes{much, leg::prefill});
  CHECK(b.done());
  CHECK(b.why() == reason::engine_garbage);
  CHECK(at_rest(b));
}

TEST_CASE("split: a prefill answer that is neither 200 nor an error is never the client's") {
  for (const int status : {201, 202, 204, 206, 302, 304}) {
    CAPTURE(status);
    testing::bench b;
    b.to_prefill_sent();
    CHECK(b.prefill_head(status) ==
          "prefill engine_failed(server_error), prefill give_up_work, prefill drop_engine, prefill connect");
    testing::bench last;
    last.to_prefill_sent(1, 0);
    last.prefill_head(status);
    CHECK(last.why() == reason::handoff_failed);
    CHECK(at_rest(last));
  }
}

TEST_CASE("split: every state ends when the client leaves, and closing ends by itself") {
  const auto leave = [](const place& p, connector_kind connector) {
    CAPTURE(p.name);
    testing::bench b;
    b.connector = connector;
    p.go(b);
    b.on(client_gone{});
    b.wait(10s);
    CHECK(b.done());
    CHECK(b.book.open_count() == 0);
    CHECK(b.booked == 0);
    CHECK(b.engines[0] + b.engines[1] == 0);
    CHECK(b.finishes == 1);
  };
  for (const place& p : places()) leave(p, connector_kind::nixl);
  for (const place& p : concurrent_places()) {
    leave(p, connector_kind::mooncake);
    leave(p, connector_kind::sglang);
  }
}
