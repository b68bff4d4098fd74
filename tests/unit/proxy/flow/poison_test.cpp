// Requests that kill the engines that read them: where both engines of a pair have one, and the first death
// cuts the other's connection, nobody else is shown the request before it is known whether that one lives.
#include <doctest/doctest.h>

#include <functional>
#include <utility>
#include <vector>

#include "unit/proxy/flow/bench.hpp"

using namespace penstock;
using namespace penstock::flow;
using namespace penstock::flow::testing;
using handoff::closing;

namespace {

struct poison : testing::bench {
  explicit poison(connector_kind how = connector_kind::mooncake) : bench(settings(), api_kind::chat, 1.0) {
    connector = how;
  }
  void ask(plan p) {
    to_deciding();
    p.connector = connector;
    on(picked{std::move(p)});
  }
  std::uint16_t prefill() const { return flow.engine_of(leg::prefill).slot; }
};

// Two prefill engines, 10 and 11, and two that decode, 20 and 21; the first of each were asked.
struct pairs : poison {
  explicit pairs(connector_kind how = connector_kind::mooncake) : poison(how) { to_both_sent(); }
};

bool sends(const std::string& line) { return line.find("send_request") != line.npos; }

const engine_unreachable no_prefill{reason::connect_failed, leg::prefill};
const engine_unreachable no_decode{reason::connect_failed};

}  // namespace

TEST_CASE("poison: a prefill engine died; the decode engine is reached before another is asked, and lives") {
  for (const bool first : {true, false}) {
    pairs b;
    CHECK(b.on(engine_lost{false, leg::prefill}).ends_with("prefill connect, connect(fresh)"));
    CHECK(b.prefill() == 11);
    CHECK(b.target() == 20);
    if (!first) CHECK(b.on(engine_connected{true, leg::prefill}) == "prefill dispatch");
    CHECK(b.on(engine_connected{false}) == "dispatch");
    CHECK(b.wait(49ms).empty());
    CHECK(b.wait(1ms) == "send_request");
    if (first) CHECK(b.on(engine_connected{true, leg::prefill}) == "prefill dispatch");
    CHECK(b.wait(49ms).empty());
    CHECK(b.wait(1ms) == "prefill send_request");
    b.on(request_sent{leg::prefill});
    b.on(request_sent{});
    b.primed();
    b.head();
    b.bytes(token);
    b.serve_rest();
    CHECK(b.why() == reason::ok);
    CHECK(at_rest(b));
  }
}

TEST_CASE("poison: a prefill engine died, and its decode engine as well: no third") {
  for (const connector_kind how : {connector_kind::mooncake, connector_kind::sglang})
    for (const bool first : {true, false}) {
      pairs b(how);
      b.on(engine_lost{false, leg::prefill});
      if (!first) CHECK_FALSE(sends(b.on(engine_connected{false, leg::prefill})));
      CHECK_FALSE(sends(b.on(no_decode)));
      CHECK(b.done());
      CHECK(b.why() == reason::connect_failed);
      CHECK(at_rest(b));
    }
}

// The kernel of a dying engine still accepts.
TEST_CASE("poison: an engine that was reached and is lost at once is dead") {
  pairs b;
  b.on(engine_lost{false, leg::prefill});
  b.on(engine_connected{false, leg::prefill});
  b.on(engine_connected{false});
  b.wait(49ms);
  CHECK_FALSE(sends(b.on(engine_lost{false})));
  CHECK(b.done());
  CHECK(b.why() == reason::engine_reset);
  CHECK(at_rest(b));
}

TEST_CASE("poison: a decode engine died, and its prefill engine as well: no third") {
  for (const bool first : {true, false}) {
    pairs b;
    CHECK(b.on(engine_lost{false}).ends_with("prefill connect(fresh), connect"));
    CHECK(b.prefill() == 10);
    CHECK(b.target() == 21);
    if (!first) CHECK_FALSE(sends(b.on(engine_connected{true})));
    CHECK_FALSE(sends(b.on(no_prefill)));
    CHECK(b.done());
    CHECK(at_rest(b));
  }
}

TEST_CASE("poison: a decode engine died; its prefill engine lives and is asked with another") {
  pairs b;
  b.on(engine_lost{false});
  CHECK(b.on(engine_connected{false}) == "dispatch");
  CHECK(b.on(engine_connected{false, leg::prefill}) == "prefill dispatch");
  CHECK(b.wait(50ms) == "prefill send_request");
  CHECK(b.wait(50ms) == "send_request");
  b.on(client_gone{});
  CHECK(at_rest(b));
}

TEST_CASE("poison: no pair with the engine that may be dead: nobody is asked") {
  poison b;
  b.ask(poison::split_plan(2, 1));
  b.both_sent();
  b.on(engine_lost{false, leg::prefill});
  CHECK(b.done());
  CHECK(b.why() == reason::engine_reset);
  CHECK(at_rest(b));
}

TEST_CASE("poison: the decode engine alone may serve what killed the prefill engine, once it is reached") {
  poison b;
  plan p = poison::split_plan(1, 1);
  p.candidates.push_back({.endpoint = {20, 1}});
  b.ask(std::move(p));
  b.on(engine_connected{false, leg::prefill});
  b.on(engine_connected{false});
  CHECK(b.on(engine_lost{false, leg::prefill}).ends_with("connect(fresh)"));
  CHECK(b.target() == 20);
  CHECK(b.flow.prefill() == nullptr);
  CHECK(b.on(engine_connected{false}) == "dispatch");
  CHECK(b.wait(50ms) == "send_request");
  b.on(client_gone{});
  CHECK(at_rest(b));
}

TEST_CASE("poison: after a death the engines of a pair are asked one after the other") {
  for (const bool prefill_first : {true, false})
    for (const bool dies : {true, false}) {
      poison b(connector_kind::sglang);
      b.to_prefill_sent();
      b.on(engine_lost{false, leg::prefill});
      const leg first = prefill_first ? leg::prefill : leg::answer;
      CHECK(sends(b.on(engine_connected{false, first})));
      CHECK_FALSE(sends(b.on(engine_connected{false, prefill_first ? leg::answer : leg::prefill})));
      if (dies) {
        CHECK_FALSE(sends(b.on(engine_lost{false, first})));
        CHECK(b.why() == reason::engine_reset);
      } else {
        CHECK(b.wait(50ms) == (prefill_first ? "send_request" : "prefill send_request"));
        b.on(client_gone{});
      }
      CHECK(at_rest(b));
    }
}

TEST_CASE("poison: a hand-off whose decode engine waits for its turn is delivered when the client leaves") {
  poison b;
  b.to_prefill_sent();
  b.on(engine_lost{false, leg::prefill});
  b.on(engine_connected{false, leg::prefill});
  b.on(request_sent{leg::prefill});
  b.on(engine_connected{false});
  b.primed();
  CHECK(b.on(client_gone{}) == "send_request");
  CHECK(b.on(request_sent{}) == "drop_engine, give_up_work, finish");
  CHECK(b.book.closed(closing::delivered) == 1);
  CHECK(b.booked == 0);
}

TEST_CASE("poison: an engine that was cut since its partner could not be reached counts once another dies") {
  poison b;
  b.ask(poison::split_plan(3, 0));
  b.on(engine_connected{false, leg::prefill});
  b.on(no_decode);  // 10 was asked, 20 is not there
  CHECK(b.prefill() == 11);
  CHECK(sends(b.on(engine_connected{false, leg::prefill})));
  CHECK_FALSE(sends(b.on(engine_connected{false})));
  CHECK_FALSE(sends(b.on(engine_lost{false, leg::prefill})));
  CHECK(b.done());
  CHECK(at_rest(b));
}

TEST_CASE("poison: a prefill engine that waits for its turn is not asked once decode refused") {
  poison b;
  b.to_prefill_sent();
  b.on(engine_lost{false, leg::prefill});
  b.on(engine_connected{false});
  b.on(engine_connected{false, leg::prefill});
  b.head(400, "application/json");
  CHECK_FALSE(sends(b.wait(100ms)));
  b.bytes("no");
  b.on(engine_end{});
  CHECK(b.flow.record().status == 400);
  CHECK(at_rest(b));
}

TEST_CASE("poison: a partner that had nothing of the request is not doubted") {
  poison b;
  b.to_prefill_sent();
  CHECK(b.on(engine_lost{false, leg::prefill}).ends_with("drop_engine, prefill connect, connect"));
  CHECK(b.target() == 21);
  b.on(client_gone{});
  CHECK(at_rest(b));
}

// A dead idle connection to an engine that takes no other: it died, perhaps of this request.
TEST_CASE("poison: stale connections of prefill engines that do not come back count as deaths") {
  for (const connector_kind how : {connector_kind::nixl, connector_kind::trtllm, connector_kind::mooncake}) {
    poison b(how);
    b.to_prefilling(4, 2);
    int killed = 0;
    for (; !b.done() && killed < 4; ++killed) {
      b.on(engine_connected{true, leg::prefill});
      b.on(request_sent{leg::prefill});
      b.on(engine_lost{false, leg::prefill});
      b.on(no_prefill);
    }
    CHECK(killed == 2);
    CHECK(at_rest(b));
  }
}

// Both had the request on the connections of a moment ago; the one whose end was not seen cannot be reached.
TEST_CASE("poison: the partner of a stale connection that cannot be reached is a death too") {
  poison b;
  b.to_both_sent(true);
  b.on(engine_lost{false, leg::prefill});
  CHECK_FALSE(sends(b.on(no_decode)));
  CHECK(b.prefill() == 10);
  CHECK(b.target() == 21);
  CHECK_FALSE(sends(b.on(engine_connected{false})));
  CHECK_FALSE(sends(b.on(no_prefill)));
  CHECK(b.done());
  CHECK(at_rest(b));
}

TEST_CASE("poison: behind a stale connection that was a death the partner is doubted as well") {
  for (const bool prefill_first : {true, false}) {
    poison b;
    b.to_both_sent(true);
    b.on(engine_lost{false, prefill_first ? leg::prefill : leg::answer});
    b.on(prefill_first ? no_prefill : no_decode);
    CHECK(b.prefill() == (prefill_first ? 11 : 10));
    CHECK(b.target() == (prefill_first ? 20 : 21));
    CHECK_FALSE(sends(b.on(engine_connected{false, prefill_first ? leg::prefill : leg::answer})));
    CHECK_FALSE(sends(b.on(prefill_first ? no_decode : no_prefill)));
    CHECK(b.done());
    CHECK(at_rest(b));
  }
}

// It was to decode, but the prefill engine handed nothing on, and so it did all. Other pairs have it as well.
TEST_CASE("poison: an engine that failed a request alone is not asked for it in a pair") {
  const std::vector<std::function<void(testing::bench&)>> failures = {
      [](auto& b) { b.on(engine_connected{false}), b.on(request_sent{}), b.on(engine_lost{false}); },
      [](auto& b) { b.on(engine_connected{false}), b.on(request_sent{}), b.head(503, "application/json"); },
      [](auto& b) { b.on(no_decode); },
  };
  for (const connector_kind how : {connector_kind::nixl, connector_kind::mooncake})
    for (std::size_t i = 0; i < failures.size(); ++i) {
      CAPTURE(i);
      poison b(how);
      plan p = testing::bench::split_plan(1, 1);
      p.candidates.insert(p.candidates.begin() + 1, {.endpoint = {20, 1}, .prefill = {11, 1}});
      b.ask(std::move(p));
      b.on(engine_connected{false, leg::prefill});
      b.on(request_sent{leg::prefill});
      b.prefill_head();
      b.on(engine_bytes{how == connector_kind::nixl ? "{}" : R"({"choices":[{"finish_reason":"stop"}]})",
                        leg::prefill});
      b.on(engine_end{leg::prefill});
      REQUIRE(b.target() == 20);
      REQUIRE(b.flow.prefill() == nullptr);
      failures[i](b);
      CHECK(b.target() == 0);
      CHECK(b.flow.prefill() == nullptr);
    }
}
