// Requests that wait in the proxy for their turn at an engine that has enough to do.
#include <doctest/doctest.h>

#include <string>

#include "unit/proxy/worker/bench.hpp"

using namespace penstock;
using namespace penstock::worker;
using namespace penstock::worker::testing;

namespace {

// A stream that asks for `tokens` tokens, more or less, that no other prompt has.
std::string asks(std::string_view name, std::size_t tokens) {
  std::string text(tokens * 4, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + (i * 7 + i / 13) % 26);
  return post(fmt::format(R"({{"model":"m","stream":true,"messages":[{{"role":"user","content":"{}{}"}}]}})",
                          name, text));
}

config held(duration longest, duration first_token = {}) {
  config c = settings();
  c.routing.hold = longest;
  if (first_token != duration{}) c.timeouts.first_token = first_token;
  return c;
}

// An engine of 1,000 tokens a second that has 5,000 before it.
struct busy : testing::bench {
  explicit busy(duration longest = 10s, std::size_t engines = 1, duration first_token = {})
      : testing::bench(held(longest, first_token), engines) {
    shared.board.tell_speed({0, 1}, 1000);
    first = client();
    give(first, asks("first", 5000));
    at_work = engine();
    CHECK(has(read(at_work), "first"));
  }
  // The engine's first token, and the end of its answer.
  void answer(socket_id e) {
    w->received(e, std::string(stream_head) + chunk(token("x")));
    w->batch_ended();
    w->received(e, chunk(end_marker) + std::string(last_chunk));
    w->batch_ended();
  }
  socket_id first, at_work;
};

}  // namespace

TEST_CASE("worker: behind an engine with enough to do the short prompt goes before the long one") {
  busy b;
  const socket_id long_one = b.client(), short_one = b.client();
  b.give(long_one, asks("long", 3000));
  b.give(short_one, asks("short", 20));
  CHECK(b.io.connecting.empty());
  CHECK(b.shared.board.held_tokens({0, 1}) > 3000);
  CHECK(b.w->held().requests == 3);
  b.wait(2s);
  CHECK(b.io.connecting.empty());

  b.answer(b.at_work);
  const socket_id before = b.engine();
  CHECK(has(b.read(before), "short"));
  // 20 tokens are not enough to do: the long one is on its way as well.
  const socket_id behind = b.engine();
  CHECK(has(b.read(behind), "long"));
  CHECK(b.shared.board.held_tokens({0, 1}) == 0);
  b.answer(before);
  b.answer(behind);
  REQUIRE(b.told.accounts.size() == 3);
  CHECK(b.told.accounts[0].held == duration{});
  CHECK(b.told.accounts[1].held == 2s);
  CHECK(b.told.accounts[2].held == 2s);
  // What was before it when it came is gone.
  CHECK(b.told.accounts[1].predicted_prefill < 1s);
  CHECK(has(b.read(long_one), "[DONE]"));
  CHECK(b.rests());
}

TEST_CASE("worker: only as many go as the engine takes, connected or not") {
  busy b;
  std::vector<socket_id> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(b.client());
    b.give(clients.back(), asks(fmt::format("n{}", i), 1000));
  }
  b.w->finished(b.first);  // its work is gone, and with it the connection
  b.w->batch_ended();
  CHECK(b.io.connecting.size() == 1);
  const socket_id e = b.engine();
  CHECK(has(b.read(e), "n0"));
  CHECK(b.io.connecting.empty());
  b.answer(e);
  REQUIRE(b.io.connecting.size() == 1);
  CHECK(has(b.read(b.engine()), "n1"));
  CHECK(b.rests());
}

TEST_CASE("worker: nobody waits for longer than is allowed, and a client that leaves is forgotten") {
  busy b(1s);
  const socket_id leaves = b.client(), stays = b.client();
  b.give(leaves, asks("leaves", 1000));
  b.give(stays, asks("stays", 1000));
  b.w->finished(leaves);
  b.w->batch_ended();
  CHECK(b.told.accounts.at(0).why == reason::client_gone);
  b.wait(900ms);
  CHECK(b.io.connecting.empty());
  b.wait(200ms);
  REQUIRE(b.io.connecting.size() == 1);
  CHECK(has(b.read(b.engine()), "stays"));
  CHECK(b.rests());
  CHECK(b.shared.board.held_tokens({0, 1}) == 0);
}

TEST_CASE("worker: whose token is due before its turn is answered here, and no engine is asked") {
  busy b(10s, 1, 1s);
  const socket_id waits = b.client();
  b.give(waits, asks("waits", 1000));
  b.wait(1100ms);
  CHECK(begins(b.read(waits), "HTTP/1.1 504 "));
  CHECK(b.io.connecting.empty());
  CHECK(b.shared.board.held_tokens({0, 1}) == 0);
  CHECK(b.told.accounts.back().why == reason::first_token_timeout);
  CHECK(b.rests());
}

TEST_CASE("worker: whose engine fails meanwhile is sent to another") {
  busy b(10s, 2);
  b.shared.board.tell_speed({1, 1}, 1000);
  const socket_id other = b.client();
  b.give(other, asks("other", 5000));
  const socket_id second = b.engine();
  CHECK(has(b.read(second), "other"));
  const socket_id waits = b.client();
  b.give(waits, asks("waits", 100));
  CHECK(b.io.connecting.empty());
  // Both engines stop; the one that it waits for is known to.
  const bool at_first = b.shared.board.held_tokens({0, 1}) > 0;
  b.shared.board.suspect({static_cast<std::uint16_t>(at_first ? 0 : 1), 1}, b.io.clock + 60s);
  b.wait(11s);
  REQUIRE(b.io.connecting.size() == 1);
  const socket_id e = b.engine();
  CHECK(b.io.at(e).port == (at_first ? 2 : 1));
  CHECK(has(b.read(e), "waits"));
  CHECK(b.rests());
}

// Its first token is guessed, and the engine would stand idle while the guess is too late.
TEST_CASE("worker: nobody waits behind a request that is not streamed") {
  testing::bench b(held(10s));
  b.shared.board.tell_speed({0, 1}, 1000);
  std::string unseen = asks("unseen", 5000);
  unseen.replace(unseen.find("true"), 4, "null");
  b.give(b.client(), unseen);
  const socket_id e = b.engine();
  CHECK(has(b.read(e), "unseen"));
  CHECK(b.shared.board.read({0, 1}).prefill_tokens > 4000);
  b.give(b.client(), asks("second", 3000));
  CHECK(b.io.connecting.size() == 1);
  // The guess comes true: what is given back was not counted twice.
  b.wait(10s);
  CHECK(b.shared.board.held_tokens({0, 1}) == 0);
  CHECK(b.rests());
}

TEST_CASE("worker: where nothing is to be held back everything is sent at once") {
  busy b(penstock::duration{});
  const socket_id c = b.client();
  b.give(c, asks("second", 3000));
  CHECK(b.io.connecting.size() == 1);
  CHECK(b.rests());
}

TEST_CASE("worker: what another worker sent makes them wait as well, and what ended there is seen") {
  busy b;
  const routing::booked_work theirs{.prefill_tokens = 4000};
  REQUIRE(b.shared.board.book({0, 1}, theirs, b.io.clock));
  const socket_id c = b.client();
  b.give(c, asks("mine", 100));
  b.answer(b.at_work);
  CHECK(b.read(b.at_work).empty());
  b.shared.board.release({0, 1}, theirs, false);
  b.wait(20ms);
  CHECK(has(b.read(b.at_work), "mine"));
  CHECK(b.rests());
}
