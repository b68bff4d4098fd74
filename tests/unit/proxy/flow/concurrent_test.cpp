// Both legs at once: what the table of split_test does not show. Nothing of the decode answer passes before
// the prefill leg ended well, and what fails takes the other leg along.
#include <doctest/doctest.h>

#include <functional>

#include "unit/proxy/flow/bench.hpp"

using namespace penstock;
using namespace penstock::flow;
using namespace penstock::flow::testing;
using handoff::closing;

namespace {

struct both : testing::bench {
  explicit both(connector_kind how = connector_kind::mooncake, double retries = 1.0, config c = settings())
      : bench(std::move(c), api_kind::chat, retries) {
    connector = how;
  }
  // SGLang's prefill engine streams where the client does.
  void stream_prefill(bytes_view body) {
    prefill_engine = {};
    prefill_engine.status = 200;
    prefill_engine.fields.push_back({"content-type", "text/event-stream"});
    on(engine_head{&prefill_engine, leg::prefill});
    on(engine_bytes{body, leg::prefill});
  }
};

constexpr auto sglang = connector_kind::sglang;

}  // namespace

TEST_CASE("both: what decode says early passes when the prefill leg has ended, to the byte") {
  both b;
  b.facts.client_wants_usage = true;
  b.to_both_sent();
  b.head();
  CHECK(b.bytes(role).empty());
  CHECK(b.bytes(token).empty());
  CHECK(b.bytes(token).empty());
  CHECK(b.client.empty());
  CHECK(b.heads == 0);
  CHECK_FALSE(b.flow.committed());
  b.now += 3s;
  CHECK(b.primed().find("first_token, answer_head(sse), write") != std::string::npos);
  CHECK(b.client == std::string(role) + std::string(token) + std::string(token));
  CHECK(b.flow.record().first_token == b.now);  // the client's, not the engine's
  CHECK(b.flow.record().prefill_done == b.now);
  CHECK(b.flow.record().content_events == 2);
  b.bytes(token);
  b.serve_rest();
  CHECK(b.why() == reason::ok);
  CHECK(b.flow.record().handoff == "fetched");
  CHECK(at_rest(b));
}

// With the line ends that an event stream may have.
std::string with_ends(std::string_view events, std::string_view end) {
  std::string out;
  for (const char c : events) c == '\n' ? out.append(end) : out.append(1, c);
  return out;
}

TEST_CASE("both: an answer that was whole before the prefill leg ended passes whole, its usage corrected") {
  for (const std::string_view end : {"\n", "\r\n", "\r"}) {
    both b;
    b.facts.client_wants_usage = true;
    b.to_both_sent();
    b.head();
    b.bytes(with_ends(token, end));
    b.bytes(with_ends(usage, end));
    b.bytes(with_ends(usage, end));  // vLLM's continuous_usage_stats
    b.serve_rest();
    CHECK(b.client.empty());
    CHECK(b.engines[0] == 1);  // its head is still needed
    b.primed();
    std::string wanted(usage);
    wanted.replace(wanted.find("\"cached_tokens\":0"), 17, "\"cached_tokens\":7");
    CHECK(b.client == with_ends(std::string(token) + wanted + wanted, end) + std::string(end_marker));
    CHECK(b.flow.record().usage.cached == 7);
    CHECK(b.why() == reason::ok);
    CHECK(at_rest(b));
  }
}

TEST_CASE("both: an answer that is no stream waits as well") {
  for (const bool first : {true, false}) {
    both b;
    b.facts.stream = false;
    b.to_both_sent();
    if (first) b.primed();
    b.head(200, "application/json");
    b.bytes(R"({"a":)");
    CHECK(b.client.empty() != first);
    b.bytes("1}");
    b.on(engine_end{});
    if (!first) {
      CHECK(b.client.empty());
      CHECK(b.heads == 0);
      b.primed();
    }
    CHECK(b.client == R"({"a":1})");
    CHECK(b.why() == reason::ok);
    CHECK(b.flow.record().handoff == "fetched");
    CHECK(at_rest(b));
  }
}

TEST_CASE("both: what is held is bounded; the engine waits, and goes on when the gate opens") {
  config c = settings();
  c.limits.held_bytes = 1000;
  both b(connector_kind::mooncake, 1.0, c);
  b.to_both_sent();
  b.head();
  std::string held;
  while (!b.paused) {
    REQUIRE(held.size() < 2000);
    b.bytes(token);
    held += token;
  }
  CHECK(b.flow.held_bytes() == held.size());
  // A client that lags and drains in between does not wake it.
  b.on(client_blocked{});
  b.on(client_drained{});
  CHECK(b.paused);
  b.primed();
  CHECK_FALSE(b.paused);
  CHECK(b.client == held);
  b.on(client_gone{});
  CHECK(at_rest(b));
}

TEST_CASE("both: no comment goes out while the prefill engine may still refuse") {
  both b;
  b.to_both_sent();
  b.head();
  b.wait(20s);
  CHECK(b.client.empty());
  CHECK(b.heads == 0);
  b.prefill_head(400);
  b.on(engine_bytes{"no", leg::prefill});
  CHECK(b.client.empty());  // events of the adopted leg come as the answer's
  b.bytes("no");
  b.on(engine_end{});
  CHECK(b.client == "no");
  CHECK(b.flow.record().status == 400);
  CHECK(at_rest(b));
}

TEST_CASE("both: a prefill leg that fails takes decode along, and what it said is forgotten") {
  const std::vector<std::function<void(both&)>> failures = {
      [](both& b) {
        b.on(engine_lost{false, leg::prefill});
      },
      [](both& b) {
        b.on(engine_lost{true, leg::prefill});
      },
      [](both& b) { b.prefill_head(500); },
      [](both& b) { b.prefill_head(503); },
      [](both& b) {
        b.prefill_head();
        b.on(engine_bytes{R"({"error":{"message":"x"}})", leg::prefill});
        b.on(engine_end{leg::prefill});
      },
      [](both& b) {
        b.prefill_head();
        b.on(engine_bytes{"{", leg::prefill});
        b.on(engine_end{leg::prefill});
      },
      [](both& b) { b.wait(10s); },  // its answer does not end although decode generates
  };
  for (const auto& fail : failures)
    for (const bool spare : {true, false}) {
      both b;
      b.to_deciding();
      plan p = testing::bench::split_plan(spare ? 2 : 1, 0, true);
      p.connector = b.connector;
      b.on(picked{p});
      b.both_sent();
      b.head();
      b.bytes(token);
      fail(b);
      if (!spare) {
        // Nobody else: 4xx and 5xx of the prefill engine are the answer, all else is one error.
        CHECK(b.client.empty());
        if (!b.done()) b.on(engine_end{});
        CHECK(at_rest(b));
        CHECK(b.why() != reason::ok);
        continue;
      }
      CHECK(b.flow.where() == state::connecting);
      CHECK(b.flow.held_bytes() == 0);
      CHECK(b.booked == 0);
      b.both_sent();
      b.primed();
      b.head();
      b.bytes(role);
      b.bytes(token);
      b.serve_rest();
      CHECK(b.client == std::string(role) + std::string(token) + std::string(end_marker));
      CHECK(b.flow.record().content_events == 1);
      CHECK(at_rest(b));
    }
}

TEST_CASE("both: a decode leg that fails takes prefill along, whatever it said before") {
  struct failure {
    std::function<void(both&)> happens;
    std::uint16_t next;  // prefill engine: that of a decode engine that died is reached anew
  };
  const std::vector<failure> failures = {
      {[](both& b) { b.on(engine_lost{false}); }, 10},
      {[](both& b) { b.on(engine_lost{true}); }, 10},
      {[](both& b) { b.on(engine_end{}); }, 10},
      {[](both& b) { b.bytes(engine_error); }, 11},
  };
  for (const failure& f : failures)
    for (const bool spare : {true, false}) {
      both b;
      b.to_prefilling(spare ? 2 : 1, 0);
      b.both_sent();
      b.head();
      b.bytes(token);
      f.happens(b);
      CHECK(b.client.find("always") == std::string::npos);  // nothing of the token
      CHECK(b.engines[1] == (spare ? 1 : 0));
      if (spare) {
        CHECK(b.flow.where() == state::connecting);
        CHECK(b.target() == 21);
        CHECK(b.flow.engine_of(leg::prefill).slot == f.next);
      } else if (!b.done()) {
        b.serve_rest();  // the engine's own error event passed
        CHECK(b.why() == reason::engine_error_event);
      }
      b.on(client_gone{});
      CHECK(at_rest(b));
    }
}

TEST_CASE("both: a decode engine's refusal is the answer, and prefill is not wanted any more") {
  for (const int status : {400, 500, 503}) {
    both b;
    b.to_prefilling(1, 0);
    b.both_sent();
    const std::string line = b.head(status, "application/json");
    CHECK(line.find("prefill give_up_work, prefill drop_engine") != std::string::npos);
    b.bytes("no");
    b.on(engine_end{});
    CHECK(b.client == "no");
    CHECK(b.flow.record().status == status);
    CHECK(at_rest(b));
  }
}

TEST_CASE("both: engines that die with a request, two at most") {
  both b;
  b.to_prefilling(4, 2);
  for (int i = 0; i < 2; ++i) {
    b.both_sent();
    i == 0 ? b.on(engine_lost{false, leg::prefill}) : b.on(engine_lost{false});
  }
  CHECK(b.done());
  CHECK(b.why() == reason::engine_reset);
  CHECK(at_rest(b));
}

TEST_CASE("both: a dead idle connection costs nothing but a new pair of requests") {
  for (const leg dead : {leg::prefill, leg::answer}) {
    both b(connector_kind::mooncake, 0.0);
    b.to_both_sent(true);
    CHECK(b.on(engine_lost{false, dead})
              .ends_with(dead == leg::prefill ? "drop_engine, prefill connect(fresh), connect"
                                              : "drop_engine, prefill connect, connect(fresh)"));
    CHECK(b.flow.engine_of(leg::prefill).slot == 10);
    CHECK(b.target() == 20);
    CHECK(b.faults.empty());
    b.both_sent();
    b.primed();
    b.head();
    b.bytes(token);
    b.serve_rest();
    CHECK(b.why() == reason::ok);
    CHECK(at_rest(b));
  }
}

TEST_CASE("both: another decode engine may join a hand-off of which the first heard nothing") {
  both b;
  b.to_deciding();
  plan p = testing::bench::split_plan(1, 0);
  p.connector = b.connector;
  p.candidates.push_back({.endpoint = {21, 1}, .prefill = {10, 1}});
  b.on(picked{p});
  b.on(engine_connected{false, leg::prefill});
  CHECK(b.on(engine_unreachable{reason::connect_failed}) == "engine_failed(unreachable), connect");
  CHECK(b.target() == 21);
  b.on(client_gone{});
  CHECK(at_rest(b));
}

TEST_CASE("both: a connection that ends behind a held answer is nobody's death") {
  both b;
  b.to_both_sent();
  b.head();
  b.bytes(token);
  b.serve_rest();
  b.on(engine_lost{false});
  CHECK(b.faults.empty());
  CHECK(b.flow.where() == state::connecting);
  CHECK(b.target() == 20);
  b.on(client_gone{});
  CHECK(at_rest(b));
}

TEST_CASE("both: the lease is open from the prefill answer to the first sign of the blocks") {
  both b;
  b.to_both_sent();
  b.head();
  b.primed(false);
  CHECK(b.book.open_count() == 1);
  CHECK(b.book.held()[0].until == b.now + 480s);
  b.bytes(token);  // held, but proof
  CHECK(b.book.closed(closing::fetched) == 1);
  b.on(engine_end{leg::prefill});
  b.serve_rest();
  CHECK(at_rest(b));
  // A head that comes behind the token opens nothing that stays.
  both late;
  late.to_both_sent();
  late.head();
  late.bytes(token);
  late.primed(false);
  CHECK(late.book.open_count() == 0);
  CHECK(late.book.closed(closing::fetched) == 1);
  late.on(client_gone{});
  CHECK(at_rest(late));
}

TEST_CASE(
    "mooncake: a client that leaves once the prefill engine answered leaves a delivered decode request") {
  both b;
  b.to_prefill_sent();
  b.on(engine_connected{false});
  b.primed(false);
  CHECK(b.on(client_gone{}).empty());
  CHECK(b.flow.where() == state::closing);
  b.on(engine_end{leg::prefill});
  CHECK(b.on(request_sent{}) == "drop_engine, give_up_work, finish");
  CHECK(b.book.closed(closing::delivered) == 1);
  CHECK(b.booked == 0);
}

TEST_CASE("sglang: both legs are closed at once in every state, the prefill engine's first") {
  both b(sglang);
  b.to_both_sent();
  b.stream_prefill(role);
  CHECK(b.on(client_gone{}) ==
        "give_up_work, prefill give_up_work, prefill drop_engine, drop_engine, abort_answer, finish");
  CHECK(b.book.closed(closing::cut) == 1);
  CHECK(at_rest(b));
}

TEST_CASE("sglang: a streamed prefill answer ends well with its marker and without an error") {
  struct sample {
    std::string body;
    bool good;
  };
  const std::string t(token), e(end_marker), error(engine_error), u(usage);
  for (const sample& said : {sample{t + u + e, true}, sample{t, false}, sample{error + e, false},
                             sample{t + error, false}, sample{e, true}}) {
    const std::string& body = said.body;
    const bool good = said.good;
    CAPTURE(body);
    both b(sglang);
    b.to_both_sent();
    b.head();
    b.bytes(token);
    b.stream_prefill(body);
    CHECK(b.client.empty());
    b.on(engine_end{leg::prefill});
    CHECK(b.flow.committed() == good);
    CHECK(b.client == (good ? t : ""));
    CHECK(b.flow.prefill()->cached_known() == (good && body.find("usage") != body.npos));
    b.on(client_gone{});
    CHECK(at_rest(b));
  }
}

TEST_CASE("sglang: its prefill answer ends when the blocks are fetched") {
  both b(sglang);
  b.to_both_sent();
  b.primed();
  CHECK(b.book.closed(closing::fetched) == 1);
  b.on(client_gone{});
  CHECK(at_rest(b));
}

TEST_CASE("sglang: nobody serves alone what could not be handed over") {
  both b(sglang);
  b.to_prefilling(1, 0);
  b.on(engine_connected{false, leg::prefill});
  b.on(engine_connected{false});
  b.prefill_head(503);
  CHECK(b.flow.where() == state::relaying);  // the refusal is the answer
  b.on(engine_end{});
  CHECK(at_rest(b));
}

TEST_CASE("mooncake: a prefill that ended with its first token handed nothing on") {
  both b;
  b.to_both_sent();
  b.prefill_head();
  b.on(engine_bytes{R"({"choices":[{"finish_reason":"stop"}]})", leg::prefill});
  const std::string line = b.on(engine_end{leg::prefill});
  CHECK(line == "prefill complete_work, prefill keep_engine, give_up_work, drop_engine, connect");
  CHECK(b.flow.prefill() == nullptr);
  CHECK(b.target() == 20);
  b.asked_again();
  b.head();
  b.bytes(token);
  b.serve_rest();
  CHECK(b.why() == reason::ok);
  CHECK(at_rest(b));
}
