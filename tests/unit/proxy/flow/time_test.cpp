// Deadlines, back-pressure, clients that leave, drains: from every state.
#include <doctest/doctest.h>

#include <functional>

#include "unit/proxy/flow/bench.hpp"

using namespace penstock;
using namespace penstock::flow;
using namespace penstock::flow::testing;

namespace {

struct place {
  const char* name;
  std::function<void(testing::bench&)> go;
};

const std::vector<place>& places() {
  static const std::vector<place> all = {
      {"reading", [](testing::bench&) {}},
      {"deciding", [](testing::bench& b) { b.to_deciding(); }},
      {"connecting", [](testing::bench& b) { b.to_connecting(); }},
      {"waiting", [](testing::bench& b) { b.to_waiting(); }},
      {"holding",
       [](testing::bench& b) {
         b.to_holding();
         b.bytes(role);
       }},
      {"holding, comment sent",
       [](testing::bench& b) {
         b.to_holding();
         b.wait(15s);
       }},
      {"streaming",
       [](testing::bench& b) {
         b.to_holding();
         b.bytes(token);
       }},
      {"streaming, marker seen",
       [](testing::bench& b) {
         b.to_holding();
         b.bytes(token);
         b.bytes(end_marker);
       }},
      {"relaying, nothing passed",
       [](testing::bench& b) {
         b.to_waiting();
         b.head(200, "application/json");
       }},
      {"relaying",
       [](testing::bench& b) {
         b.to_waiting();
         b.head(200, "application/json");
         b.bytes("{");
       }},
  };
  return all;
}

}  // namespace

TEST_CASE("flow: a client that leaves frees engine and work at once, in every state") {
  for (const reason why : {reason::client_gone, reason::slow_client}) {
    for (const place& p : places()) {
      CAPTURE(p.name);
      testing::bench b;
      p.go(b);
      const bool held = b.engines[0] != 0;
      const std::string line = b.on(client_gone{why});
      CHECK(at_rest(b));
      CHECK(b.faults.empty());  // not the engine's fault
      // SDKs hang up when they read the end marker: the answer was complete, only framing was missing.
      const bool whole = b.ends == 1;
      CHECK(whole == (b.why() == reason::ok));
      if (!whole) {
        CHECK(b.why() == why);
        CHECK(b.aborts == 1);
      }
      CHECK((line.find("drop_engine") != std::string::npos) == held);
    }
  }
}

TEST_CASE("flow: the drain deadline ends every state in the shape the client can still take") {
  for (const place& p : places()) {
    CAPTURE(p.name);
    const std::string_view where = p.name;
    testing::bench b;
    p.go(b);
    b.on(drain_now{});
    CHECK(at_rest(b));
    if (where == "streaming, marker seen") {
      CHECK(b.why() == reason::ok);
      CHECK(count(b.client, "error") == 0);
      continue;
    }
    CHECK(b.why() == reason::drain_deadline);
    if (where == "relaying") {
      CHECK(b.aborts == 1);
    } else if (where == "streaming" || where == "holding, comment sent") {
      CHECK(b.ends == 1);
      CHECK(count(b.client, "\"code\":\"drain_deadline\"") == 1);
      CHECK(count(b.client, "[DONE]") == 0);
    } else {
      CHECK(b.errors == 1);
      CHECK(b.flow.record().status == 503);
      CHECK(b.flow.error().retry_after_s == 1);
    }
  }
}

TEST_CASE("flow: in no state can time alone leave a request without an end") {
  for (const place& p : places()) {
    CAPTURE(p.name);
    testing::bench b;
    p.go(b);
    b.wait(601s);
    CHECK(at_rest(b));
  }
}

TEST_CASE("flow: events behind the end do nothing") {
  testing::bench b;
  b.to_holding();
  b.bytes(token);
  b.on(client_gone{});
  const http::response_head head;
  const std::vector<event> all = {refused{},
                                  picked{},
                                  not_picked{},
                                  engine_connected{},
                                  engine_unreachable{},
                                  request_sent{},
                                  engine_head{&head},
                                  engine_bytes{token},
                                  engine_end{},
                                  engine_lost{},
                                  client_gone{},
                                  client_blocked{},
                                  client_drained{},
                                  timer{},
                                  drain_now{}};
  for (const event& e : all) CHECK(b.on(e).empty());
  CHECK(b.finishes == 1);
}

TEST_CASE("flow: each deadline has its reason, and blames an engine only where one was asked") {
  struct row {
    const char* name;
    std::function<void(testing::bench&)> go;
    duration after;
    reason why;
    std::size_t faults;
  };
  const std::vector<row> rows = {
      {"body", [](testing::bench&) {}, 600s, reason::total_timeout, 0},
      {"first token, waiting for a turn", [](testing::bench& b) { b.to_deciding(); }, 30s,
       reason::first_token_timeout, 0},
      {"first token, of an engine that was asked at half time",
       [](testing::bench& b) {
         b.to_waiting();
         b.flow.record().engine_asked = b.now + 15s;
       },
       30s, reason::first_token_timeout, 1},
      {"first token, of one that was asked later",
       [](testing::bench& b) {
         b.to_waiting();
         b.flow.record().engine_asked = b.now + 16s;
       },
       30s, reason::first_token_timeout, 0},
      {"first token, no head", [](testing::bench& b) { b.to_waiting(); }, 30s, reason::first_token_timeout,
       1},
      {"first token, held",
       [](testing::bench& b) {
         b.to_holding();
         b.bytes(role);
       },
       30s, reason::first_token_timeout, 1},
      {"between events",
       [](testing::bench& b) {
         b.to_holding();
         b.bytes(token);
       },
       10s, reason::event_timeout, 1},
      {"relay",
       [](testing::bench& b) {
         b.to_waiting();
         b.head(404, "application/json");
       },
       10s, reason::event_timeout, 1},
  };
  for (const row& r : rows) {
    CAPTURE(r.name);
    testing::bench b;
    r.go(b);
    b.wait(r.after - 1ms);
    CHECK_FALSE(b.done());
    b.wait(1ms);
    CHECK(b.why() == r.why);
    CHECK(b.faults.size() == r.faults);
    CHECK(at_rest(b));
  }
}

TEST_CASE("flow: the first token's deadline runs from the body's end, over retries") {
  testing::bench b;
  b.to_waiting();
  b.now += 20s;
  b.on(engine_lost{false});
  b.asked_again();
  CHECK(b.wait(9s).empty());
  b.wait(1s);
  CHECK(b.why() == reason::first_token_timeout);
}

TEST_CASE("flow: events keep a stream alive without arming anything, until the total") {
  testing::bench b;
  b.to_holding();
  while (!b.done() && b.now < testing::bench::start + 700s) {
    b.bytes(token);
    b.wait(9s);
  }
  CHECK(b.why() == reason::total_timeout);
  CHECK(b.now - testing::bench::start < 610s);
  CHECK(count(b.client, "\"code\":\"total_timeout\"") == 1);
  CHECK(b.faults.empty());  // it did what it was asked, for long
  CHECK(at_rest(b));
}

TEST_CASE("flow: the total deadline blames an engine only while nothing came of it") {
  for (const bool relay : {false, true}) {
    CAPTURE(relay);
    config c = settings();
    c.timeouts.first_token = duration{};
    testing::bench silent(c);
    silent.facts.stream = !relay;
    silent.to_waiting();
    silent.wait(600s);
    CHECK(silent.why() == reason::total_timeout);
    CHECK(silent.faults.size() == 1);
    testing::bench slow_client;
    slow_client.to_waiting();
    slow_client.head(200, relay ? "application/json" : "text/event-stream");
    slow_client.bytes(token);
    slow_client.on(client_blocked{});
    slow_client.wait(600s);
    CHECK(slow_client.why() == reason::total_timeout);
    CHECK(slow_client.faults.empty());
    CHECK(at_rest(slow_client));
  }
}

TEST_CASE("flow: comments of an engine count as life, between events") {
  testing::bench b;
  b.to_holding();
  b.bytes(token);
  for (int i = 0; i < 5; ++i) {
    b.wait(9s);
    b.bytes(": ping\n\n");
  }
  CHECK_FALSE(b.done());
}

TEST_CASE("flow: an engine that we do not read from is not late") {
  for (const bool relay : {false, true}) {
    testing::bench b;
    b.to_waiting();
    b.head(200, relay ? "application/json" : "text/event-stream");
    b.bytes(token);
    CHECK(b.on(client_blocked{}) == "pause_engine");
    CHECK(b.wait(300s).empty());
    CHECK(b.on(client_drained{}) == "resume_engine");
    CHECK(b.wait(9s).empty());
    b.wait(1s);
    CHECK(b.why() == reason::event_timeout);
    CHECK(at_rest(b));
  }
}

TEST_CASE("flow: blocking and draining without an engine ask for nothing") {
  testing::bench b;
  b.to_deciding();
  CHECK(b.on(client_blocked{}).empty());
  CHECK(b.on(client_drained{}).empty());
}

TEST_CASE("flow: unset deadlines never come") {
  config c = settings();
  c.timeouts = {};
  testing::bench b(c);
  b.to_holding();
  CHECK(b.flow.deadline() == never);
  b.bytes(token);
  CHECK(b.flow.deadline() == never);
}

TEST_CASE("flow: refusals before anybody is asked") {
  testing::bench body;
  CHECK(body.on(refused{{.why = reason::body_too_large, .message = "m"}}) == "answer_error, finish");
  CHECK(body.flow.record().status == 413);
  CHECK(at_rest(body));
  testing::bench routing;
  routing.to_deciding();
  CHECK(routing.on(not_picked{{.why = reason::no_endpoint, .message = "m"}}) == "answer_error, finish");
  CHECK(routing.flow.record().status == 503);
  CHECK(routing.flow.record().attempts == 0);
  CHECK(at_rest(routing));
}

TEST_CASE("flow: every error of ours is a sentence that says what helps") {
  for (const place& p : places()) {
    testing::bench b;
    p.go(b);
    b.on(drain_now{});
    if (b.why() == reason::ok) continue;
    CHECK(b.flow.error().message.size() > 40);
    CHECK(b.flow.error().message.back() == '.');
  }
}
