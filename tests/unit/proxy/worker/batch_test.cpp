// What waits for the end of a batch of events, and what does not.
#include <doctest/doctest.h>

#include "unit/proxy/worker/bench.hpp"

using namespace penstock;
using namespace penstock::worker;
using namespace penstock::worker::testing;

TEST_CASE("worker: little is written when the batch of events ends, much at once") {
  testing::bench b;
  const socket_id c = b.client();
  b.give(c, post(json_body));
  const socket_id e = b.engine();
  b.io.writes = 0;
  b.w->received(e, answer_of(json_answer));
  CHECK(b.io.writes == 0);
  CHECK(b.told.accounts.empty());
  b.w->batch_ended();
  CHECK(b.io.writes == 1);
  CHECK(b.told.accounts.size() == 1);
  CHECK(has(b.read(c), json_answer));

  b.give(c, post(json_body));
  const std::string large = "{\"a\":\"" + std::string(20'000, 'x') + "\"}";
  b.w->received(e, answer_of(large));
  CHECK(b.told.accounts.size() == 2);
  CHECK(has(b.read(c), large));

  // A FIN in the same batch came behind the answer.
  b.give(c, post(json_body));
  b.w->received(e, answer_of(json_answer));
  b.w->finished(c);
  CHECK(b.told.accounts.at(2).why == reason::ok);
  CHECK(has(b.io.at(c).out, json_answer));
  CHECK(b.rests());
}

TEST_CASE("worker: many small writes do not wait for the end of a long batch") {
  testing::bench b;
  std::vector<socket_id> clients;
  for (int i = 0; i < 40; ++i) clients.push_back(b.client());
  b.io.writes = 0;
  for (const socket_id c : clients) b.w->received(c, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(b.io.writes == 32);
  b.w->batch_ended();
  CHECK(b.io.writes == 40);
  CHECK(b.rests());
}

TEST_CASE("worker: a refusal that its client does not take has no deadline but the client's") {
  config small = settings();
  small.limits.body_memory = 4096;
  testing::bench b(small);
  const socket_id first = b.client(), second = b.client(), third = b.client();
  const std::string text = post(json_body);
  b.io.at(second).window = b.io.at(third).window = 0;
  b.give(first, bytes_view(text).substr(0, text.size() - 1));
  b.give(second, text);
  b.give(third, "POST /v1/chat/comp");
  b.wait(15s);  // above memory_wait and request_head
  b.take(second, hand_driver::npos);
  b.take(third, hand_driver::npos);
  CHECK(begins(b.read(second), "HTTP/1.1 503 "));
  CHECK(begins(b.read(third), "HTTP/1.1 408 "));
  CHECK(b.rests());
}
