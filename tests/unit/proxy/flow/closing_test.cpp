// How hand-offs are closed that nobody waits for any more: their client left, or their decode engine is
// silent; and when what one needs is forgotten.
#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "unit/proxy/flow/bench.hpp"

using namespace penstock;
using namespace penstock::flow;
using namespace penstock::flow::testing;
using handoff::closing;

TEST_CASE("split: a prefill answer that crosses its leaving client is delivered") {
  testing::bench b;
  b.to_prefill_sent();
  CHECK(b.on(client_gone{}) == "prefill hang_up");
  CHECK(b.flow.where() == state::closing);
  CHECK(b.engines[1] == 1);
  b.handed();
  CHECK(b.engines[1] == 0);  // half closed, it serves nobody again
  CHECK(b.on(engine_connected{false}) == "send_request");
  CHECK(b.on(request_sent{}) == "drop_engine, finish");
  CHECK(b.book.closed(closing::delivered) == 1);
  CHECK(b.booked == 0);
  CHECK(b.why() == reason::client_gone);
  CHECK(b.flow.record().handoff == "delivered");
}

TEST_CASE("split: an engine that was hung up on and did not answer leaves nothing behind") {
  const std::vector<std::function<void(testing::bench&)>> ends = {
      [](auto& b) {
        b.on(engine_lost{false, leg::prefill});
      },
      [](auto& b) { b.prefill_head(400); },
      [](auto& b) { b.wait(5s); },
  };
  for (const bool reused : {false, true})
    for (std::size_t i = 0; i < ends.size(); ++i) {
      CAPTURE(i);
      testing::bench b;
      b.to_prefill_sent(2, 1, reused);
      b.on(client_gone{});
      ends[i](b);
      CHECK(b.done());
      CHECK(b.booked == 0);
      CHECK(b.engines[0] + b.engines[1] == 0);
      CHECK(b.book.opened() == 0);
      CHECK(b.faults.empty());
      CHECK(b.flow.record().handoff.empty());
    }
}

TEST_CASE("split: a request that its prefill engine has not whole is cut with its connection") {
  testing::bench b;
  b.to_prefilling();
  b.on(engine_connected{false, leg::prefill});
  CHECK(b.on(client_gone{}) == "prefill give_up_work, prefill drop_engine, abort_answer, finish");
  CHECK(at_rest(b));
}

// vLLM frees them when a request is aborted that it knows of; one that hangs, when the lease ends.
TEST_CASE("split: whether a decode engine that let a deadline pass frees the blocks nobody knows") {
  for (const connector_kind connector : {connector_kind::nixl, connector_kind::mooncake})
    for (const bool headed : {false, true}) {
      testing::bench b;
      b.connector = connector;
      if (connector == connector_kind::nixl) {
        b.to_decoding();
      } else {
        b.to_both_sent();
        b.primed();
      }
      if (headed) b.head();
      b.wait(30s);
      CHECK(b.why() == reason::first_token_timeout);
      CHECK(b.book.closed(closing::lapsed) == 1);
      CHECK(at_rest(b));
    }
}

// The prefill leg asked for one token and was taken; decode is asked for what the client wants, and says no
// before it looks at a hand-off.
TEST_CASE("split: a decode engine that refuses the request is asked for what frees the blocks") {
  testing::bench b;
  b.to_decoding();
  CHECK(b.head(400, "application/json") == "");
  CHECK(b.bytes("{}") == "answer_head, write(2)");
  CHECK(!b.flow.sent_for_good());
  CHECK(b.on(engine_end{}) == "give_up_work, keep_engine, connect(fresh)");
  CHECK(b.flow.where() == state::closing);
  CHECK(b.on(engine_connected{false}) == "send_request");
  CHECK(b.on(request_sent{}) == "drop_engine, end_answer, finish");
  CHECK(b.book.closed(closing::delivered) == 1);
  CHECK(b.why() == reason::engine_refused);
  CHECK(b.flow.record().status == 400);
  CHECK(at_rest(b));
}

TEST_CASE("split: a refused request whose blocks nobody can free has lapsed, and its client has its answer") {
  const std::vector<std::function<void(testing::bench&)>> ends = {
      [](auto& b) { b.on(engine_unreachable{reason::connect_failed}); },
      [](auto& b) { b.wait(2s); },
      [](auto& b) { b.on(drain_now{}); },
      [](auto& b) { b.on(client_gone{}), b.on(engine_unreachable{reason::connect_failed}); },
      [](auto& b) { b.on(engine_connected{false}), b.on(engine_lost{false}); },
  };
  for (std::size_t i = 0; i < ends.size(); ++i) {
    CAPTURE(i);
    testing::bench b;
    b.to_decoding();
    b.head(400, "application/json");
    b.bytes("{}");
    b.on(engine_end{});
    ends[i](b);
    CHECK(b.done());
    CHECK(b.why() == reason::engine_refused);
    CHECK(b.book.closed(closing::lapsed) == 1);
    CHECK(at_rest(b));
  }
}

TEST_CASE("split: a client that leaves inside a refusal leaves no blocks behind") {
  testing::bench b;
  b.to_decoding();
  b.head(400, "application/json");
  b.bytes("{");
  CHECK(b.on(client_gone{}) == "give_up_work, drop_engine, connect(fresh)");
  b.on(engine_connected{false});
  b.on(request_sent{});
  CHECK(b.book.closed(closing::delivered) == 1);
  CHECK(b.why() == reason::client_gone);
  CHECK(at_rest(b));
}

// Its context leg said what the client asks for; nobody was asked for less.
TEST_CASE("split: a refusal that a context engine would have given as well is only passed on") {
  testing::bench b;
  b.connector = connector_kind::trtllm;
  b.to_prefill_sent();
  b.handed(R"({"choices":[{"finish_reason":"length","disaggregated_params":{"ctx_request_id":1,"request_type":"context_only"}}]})");
  b.on(engine_connected{false});
  b.on(request_sent{});
  b.head(400, "application/json");
  b.bytes("{}");
  b.on(engine_end{});
  CHECK(b.done());
  CHECK(b.book.closed(closing::cut) == 1);
  CHECK(at_rest(b));
}

TEST_CASE("split: a prefill engine's parameters are held until nobody is asked with them again") {
  for (const bool stream : {true, false}) {
    testing::bench b;
    b.to_prefill_sent();
    b.handed();
    CHECK(b.flow.held_bytes() == testing::bench::handed_body.size());
    b.asked_again();
    b.head(200, stream ? "text/event-stream" : "application/json");
    CHECK(b.flow.held_bytes() == testing::bench::handed_body.size());
    b.bytes(stream ? token : "{");
    CHECK(b.flow.held_bytes() == 0);
  }
  // A refusal that did not look at them is followed by a request that shall.
  testing::bench b;
  b.to_decoding();
  b.head(400, "application/json");
  b.bytes("{}");
  CHECK(b.flow.held_bytes() == testing::bench::handed_body.size());
}
