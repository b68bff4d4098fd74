// Who is asked next, how often, and what the client sees at the end.
#include <doctest/doctest.h>

#include "unit/proxy/flow/bench.hpp"

using namespace penstock;
using namespace penstock::flow;
using namespace penstock::flow::testing;

TEST_CASE("flow: refused connections lead through all candidates to 502") {
  testing::bench b;
  b.to_connecting(3);
  CHECK(b.on(engine_unreachable{reason::connect_failed}) == "engine_failed(unreachable), connect");
  CHECK(b.target() == 1);
  CHECK(b.on(engine_unreachable{reason::connect_failed}) == "engine_failed(unreachable), connect");
  CHECK(b.target() == 2);
  b.on(engine_unreachable{reason::connect_failed});
  CHECK(b.why() == reason::connect_failed);
  CHECK(b.flow.record().status == 502);
  CHECK(b.flow.record().attempts == 3);
  CHECK(b.errors == 1);
  CHECK(b.faults.size() == 3);
  CHECK(at_rest(b));
}

TEST_CASE("flow: a connection that takes too long is dropped and the next candidate asked") {
  testing::bench b;
  b.to_connecting(2);
  CHECK(b.flow.deadline() == b.now + 2s);
  CHECK(b.wait(2s) == "drop_engine, engine_failed(unreachable), connect");
  CHECK(b.target() == 1);
  b.wait(2s);
  CHECK(b.why() == reason::connect_timeout);
  CHECK(b.flow.record().status == 504);
  CHECK(at_rest(b));
}

TEST_CASE("flow: 429 and 503 go to the next candidate, and the last one's answer passes") {
  for (const int status : {429, 503}) {
    testing::bench b;
    b.to_waiting(2);
    CHECK(b.head(status, "application/json") ==
          "engine_failed(overloaded), give_up_work, drop_engine, connect");
    CHECK(b.target() == 1);
    b.asked_again();
    CHECK(b.head(status, "application/json") == "engine_failed(overloaded)");
    b.bytes("{\"error\":\"full\"}");
    b.on(engine_end{});
    CHECK(b.client == "{\"error\":\"full\"}");
    CHECK(b.flow.record().status == status);
    CHECK(b.why() == reason::engine_overloaded);
    CHECK(at_rest(b));
  }
}

TEST_CASE("flow: a death before the first token is tried once more, never a third time") {
  testing::bench b;
  b.to_waiting(5);
  CHECK(b.on(engine_lost{false}) == "engine_failed(reset), give_up_work, drop_engine, connect");
  CHECK(b.target() == 1);
  b.asked_again();
  b.head();
  b.bytes(role);
  CHECK(b.on(engine_lost{false}) == "engine_failed(reset), give_up_work, drop_engine, answer_error, finish");
  CHECK(b.why() == reason::engine_reset);
  CHECK(b.flow.record().status == 502);
  CHECK(b.client.empty());
  CHECK(at_rest(b));
}

TEST_CASE("flow: what a dead engine had sent before its first token does not reach the client") {
  testing::bench b;
  b.to_holding(2);
  b.bytes(role);
  b.bytes(token.substr(0, 40));
  b.on(engine_lost{false});
  b.asked_again();
  b.head();
  const std::string second = fmt::format("{}{}{}", role, token, end_marker);
  b.bytes(second);
  b.on(engine_end{});
  CHECK(b.client == second);
  CHECK(b.why() == reason::ok);
  CHECK(b.flow.record().attempts == 2);
  CHECK(at_rest(b));
}

TEST_CASE("flow: garbage is a death too, with its own name") {
  testing::bench b;
  b.to_waiting(1);
  b.on(engine_lost{true});
  CHECK(b.why() == reason::engine_garbage);
  CHECK(b.faults == std::vector{fault::garbage});
  CHECK(at_rest(b));
}

TEST_CASE("flow: an end without a marker before the first token is a death") {
  testing::bench b;
  b.to_holding(2);
  b.bytes(role);
  CHECK(b.on(engine_end{}) == "engine_failed(reset), give_up_work, drop_engine, connect");
  b.asked_again();
  b.head();
  b.on(engine_end{});
  CHECK(b.why() == reason::engine_no_end_marker);
  CHECK(b.errors == 1);
  CHECK(at_rest(b));
}

TEST_CASE("flow: that we could not connect for lack of descriptors is internal and no engine's fault") {
  testing::bench b;
  b.to_connecting(2);
  CHECK(b.on(engine_unreachable{reason::internal}) == "connect");  // the next may have an idle connection
  b.on(engine_unreachable{reason::internal});
  CHECK(b.why() == reason::internal);
  CHECK(b.flow.record().status == 500);
  CHECK(b.faults.empty());
  CHECK(at_rest(b));
}

TEST_CASE("flow: a stale pooled connection is not the engine's fault: asked again on a fresh one") {
  testing::bench b;
  b.to_waiting(2, true);
  CHECK(b.on(engine_lost{false}) == "give_up_work, drop_engine, connect(fresh)");
  CHECK(b.target() == 0);
  CHECK(b.faults.empty());
  b.asked_again();
  b.head();
  const std::string text = fmt::format("{}{}", token, end_marker);
  b.bytes(text);
  b.on(engine_end{});
  CHECK(b.client == text);
  CHECK(b.why() == reason::ok);
  CHECK(at_rest(b));
}

TEST_CASE("flow: a stale connection costs no retry budget") {
  testing::bench b(settings(), api_kind::chat, 0.0);
  while (b.budget.take()) {
  }
  b.to_waiting(2, true);
  CHECK(b.on(engine_lost{false}) == "give_up_work, drop_engine, connect(fresh)");
}

TEST_CASE("flow: a reused connection that dies after its head is a death") {
  testing::bench b;
  b.to_waiting(2, true);
  b.head();
  CHECK(b.on(engine_lost{false}) == "engine_failed(reset), give_up_work, drop_engine, connect");
  CHECK(b.target() == 1);
}

TEST_CASE("flow: a request that killed one engine unseen and another is not tried on a third") {
  testing::bench b;
  b.to_waiting(4, true);
  b.on(engine_lost{false});                          // looks stale, was perhaps a death
  b.on(engine_unreachable{reason::connect_failed});  // it was: nobody listens there any more
  CHECK(b.target() == 1);
  b.asked_again();
  b.on(engine_lost{false});
  CHECK(b.done());
  CHECK(b.flow.record().attempts == 3);
  CHECK(b.why() == reason::engine_reset);
  CHECK(at_rest(b));
}

TEST_CASE("flow: without budget the first death and the first 429 are the answer") {
  const auto exhausted = [] {
    testing::bench b(settings(), api_kind::chat, 0.0);
    while (b.budget.take()) {
    }
    return b.budget;
  };
  testing::bench dead(settings(), api_kind::chat, 0.0);
  dead.budget = exhausted();
  dead.to_waiting(3);
  dead.on(engine_lost{false});
  CHECK(dead.why() == reason::engine_reset);
  CHECK(dead.flow.record().attempts == 1);
  testing::bench busy(settings(), api_kind::chat, 0.0);
  busy.budget = exhausted();
  busy.to_waiting(3);
  CHECK(busy.head(429, "application/json") == "engine_failed(overloaded)");
  CHECK(busy.flow.where() == state::relaying);
}

TEST_CASE("retry_budget: a share of 0 turns retries off") {
  retry_budget b(0);
  CHECK_FALSE(b.take());
  for (int i = 0; i < 1000; ++i) b.request();
  CHECK_FALSE(b.take());
}

TEST_CASE("retry_budget: a share of the requests, with a few at the start and a bound") {
  retry_budget b(0.25);
  int start = 0;
  while (b.take()) ++start;
  CHECK(start >= 1);
  CHECK(start <= 10);
  for (int i = 0; i < 3; ++i) b.request();
  CHECK_FALSE(b.take());
  b.request();
  CHECK(b.take());
  CHECK_FALSE(b.take());
  for (int i = 0; i < 10000; ++i) b.request();
  int saved = 0;
  while (b.take()) ++saved;
  CHECK(saved <= 10);
  b.set_share(0);
  for (int i = 0; i < 100; ++i) b.request();
  CHECK_FALSE(b.take());
}

TEST_CASE("flow: comments keep a waiting client, and another engine can still be tried") {
  testing::bench b;
  b.to_holding(3);
  b.bytes(role);
  CHECK(b.wait(15s) == fmt::format("answer_head(sse), write({})", comment.size()));
  CHECK_FALSE(b.flow.committed());
  CHECK(b.on(engine_lost{false}) == "engine_failed(reset), give_up_work, drop_engine, connect");
  b.asked_again();
  b.head();
  const std::string text = fmt::format("{}{}{}", role, token, end_marker);
  b.bytes(text);
  b.on(engine_end{});
  CHECK(b.client == fmt::format("{}{}", comment, text));
  CHECK(b.heads == 1);
  CHECK(b.why() == reason::ok);
  CHECK(at_rest(b));
}

TEST_CASE("flow: comments repeat until the first token and not after it") {
  config c = settings();
  c.timeouts.sse_keepalive = 5s;
  testing::bench b(c);
  b.to_holding();
  b.wait(16s);
  CHECK(b.client == fmt::format("{}{}{}", comment, comment, comment));
  b.bytes(token);
  b.client.clear();
  b.wait(9s);
  CHECK(b.client.empty());
}

TEST_CASE("flow: no comment while no engine said that the answer will be a stream") {
  testing::bench b;
  b.to_waiting();
  b.wait(29s);
  CHECK(b.client.empty());
  CHECK(b.heads == 0);
  config c = settings();
  c.timeouts.sse_keepalive = {};
  testing::bench off(c);
  off.to_holding();
  off.wait(29s);
  CHECK(off.client.empty());
}

TEST_CASE("flow: behind a comment every failure is an error event in the stream") {
  struct row {
    int status;
    std::string_view type, code;
  };
  for (const row& r :
       {row{500, "application/json", "engine_error"}, row{429, "application/json", "engine_overloaded"},
        row{400, "application/json", "engine_refused"}, row{200, "application/json", "engine_garbage"}}) {
    testing::bench b;
    b.to_holding(2);
    b.wait(15s);
    b.on(engine_lost{false});
    b.asked_again();
    b.head(r.status, r.type);
    CAPTURE(r.status);
    CHECK(at_rest(b));
    CHECK(b.ends == 1);
    CHECK(b.client.rfind(fmt::format("{}data: {{\"error\":", comment), 0) == 0);
    CHECK(count(b.client, fmt::format("\"code\":\"{}\"", r.code)) == 1);
  }
  testing::bench dead;
  dead.to_holding(1);
  dead.wait(15s);
  dead.on(engine_lost{false});
  CHECK(count(dead.client, "\"code\":\"engine_reset\"") == 1);
  CHECK(dead.ends == 1);
  CHECK(at_rest(dead));
}
