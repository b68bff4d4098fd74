// What clients send: heads, bodies, limits, order, and what needs no engine.
#include <doctest/doctest.h>

#include "unit/proxy/worker/bench.hpp"

using namespace penstock;
using namespace penstock::worker;
using namespace penstock::worker::testing;

TEST_CASE("worker: pipelined requests are answered in order, and nothing is read while one is in hand") {
  testing::bench b;
  const socket_id c = b.client();
  const std::string pipeline = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n" + post(json_body) +
                               "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n" + post(json_body);
  b.give(c, pipeline);
  CHECK(begins(b.read(c), "HTTP/1.1 200 OK\r\n"));
  CHECK(b.io.at(c).paused);
  const socket_id e = b.engine();
  b.give(e, answer_of(json_answer));
  const std::string then = b.read(c);
  CHECK(then.find(json_answer) < then.find("\"object\":\"list\""));
  CHECK(has(b.io.at(e).out, "POST /v1/chat/completions HTTP/1.1\r\n"));
  CHECK(b.io.connecting.empty());  // the second chat request took the pooled connection
  b.give(e, answer_of(json_answer));
  CHECK(has(b.read(c), json_answer));
  CHECK_FALSE(b.io.at(c).paused);
  CHECK(b.told.accounts.size() == 4);
  CHECK(b.rests());
}

TEST_CASE("worker: the same requests in pieces of any size give the same answers") {
  const std::string pipeline =
      post(json_body, "Expect: 100-continue\r\n") +
      "HEAD /v1/models HTTP/1.1\r\nHost: h\r\n\r\nGET /nothing HTTP/1.1\r\nHost: h\r\n\r\n";
  std::string expected;
  for (const std::size_t piece : {100000u, 1u, 2u, 3u, 7u, 50u, 101u}) {
    testing::bench b;
    const socket_id c = b.client();
    for (std::size_t at = 0; at < pipeline.size(); at += piece)
      b.give(c, bytes_view(pipeline).substr(at, piece));
    const socket_id e = b.engine();
    b.give(e, answer_of(json_answer));
    const std::string got = b.read(c);
    if (expected.empty()) expected = got;
    CAPTURE(piece);
    CHECK(got == expected);
    CHECK(b.rests());
  }
  CHECK(begins(expected, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "));
  CHECK(has(expected, "HTTP/1.1 404 "));
}

TEST_CASE("worker: a refused request is accounted under the call that it named, and no other") {
  struct sample {
    std::string text;
    api_kind api;
    std::string path, said;
  };
  const std::string host = " HTTP/1.1\r\nHost: h\r\n";
  for (const sample& s : {
           sample{"GET /nothing" + host + "\r\n", api_kind::unknown, "/nothing", "404"},
           sample{"GET //v1/models" + host + "\r\n", api_kind::unknown, "//v1/models", "400"},
           sample{"nonsense\r\n\r\n", api_kind::unknown, "", "400"},
           sample{"GET /v1/embeddings?a=b" + host + "\r\n", api_kind::embeddings, "/v1/embeddings", "405"},
           sample{"POST http://other/v1/messages" + host + "Content-Type: text/plain\r\n\r\n",
                  api_kind::messages, "/v1/messages", "{\"type\":\"error\""},
           sample{"GET http://other/v1/chat/completions" + host + "\r\n", api_kind::chat,
                  "/v1/chat/completions", "Allow: POST, OPTIONS\r\n"},
       }) {
    CAPTURE(s.text);
    testing::bench b;
    const socket_id c = b.client();
    b.give(c, s.text);
    CHECK(has(b.read(c), s.said));
    REQUIRE(b.told.accounts.size() == 1);
    CHECK(b.told.accounts[0].api == s.api);
    CHECK(b.told.accounts[0].path == s.path);
  }
}

TEST_CASE("worker: 100-continue comes after the checks of the head, and is never forwarded") {
  testing::bench b;
  const socket_id c = b.client();
  const std::string text = post(json_body, "Expect: 100-continue\r\n");
  b.give(c, bytes_view(text).substr(0, text.size() - json_body.size()));
  CHECK(b.read(c) == "HTTP/1.1 100 Continue\r\n\r\n");
  b.give(c, json_body);
  const socket_id e = b.engine();
  CHECK_FALSE(has(b.io.at(e).out, "100-continue"));
  b.give(e, answer_of(json_answer));
  CHECK(begins(b.read(c), "HTTP/1.1 200 "));

  config small = settings();
  small.limits.body_bytes = 10;
  testing::bench no(small);
  const socket_id d = no.client();
  no.give(d,
          "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
          "Expect: 100-continue\r\nContent-Length: 11\r\n\r\n");
  CHECK(begins(no.read(d), "HTTP/1.1 413 "));
  CHECK(b.rests());
  CHECK(no.rests());
}

TEST_CASE(
    "worker: a body that is too large is 413 by its length or by its bytes, and the rest is thrown away") {
  config small = settings();
  small.limits.body_bytes = 1000;
  for (const bool chunked : {false, true}) {
    CAPTURE(chunked);
    testing::bench b(small);
    const socket_id c = b.client();
    const std::string head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n";
    if (chunked) {
      b.give(c, head + "Transfer-Encoding: chunked\r\n\r\n");
      b.give(c, chunk(std::string(600, ' ')));
      CHECK(b.read(c).empty());
      b.give(c, chunk(std::string(600, ' ')));
    } else {
      b.give(c, head + "Content-Length: 1001\r\n\r\n");
    }
    const std::string got = b.read(c);
    CHECK(begins(got, "HTTP/1.1 413 "));
    CHECK(has(got, "onnection: close\r\n"));
    CHECK(has(got, "\"code\":\"body_too_large\""));
    CHECK(b.io.at(c).fin);
    CHECK(b.io.at(c).open);  // lingers, so that the answer is read
    for (int i = 0; i < 100; ++i) b.give(c, std::string(10'000, 'x'));
    CHECK(b.read(c).empty());
    CHECK(b.w->held().body_bytes == 0);
    b.wait(1100ms);
    CHECK_FALSE(b.io.at(c).open);
    REQUIRE(b.told.accounts.size() == 1);
    CHECK(b.told.accounts[0].why == reason::body_too_large);
    CHECK(b.told.accounts[0].status == 413);
    CHECK(b.rests());
  }
}

TEST_CASE("worker: a full body budget makes new bodies wait, and then serves them") {
  config small = settings();
  small.limits.body_memory = 4096;
  testing::bench b(small);
  const socket_id first = b.client(), second = b.client();
  const std::string text = post(json_body);
  b.give(first, bytes_view(text).substr(0, text.size() - 1));
  b.give(second, text);
  CHECK(b.io.at(second).paused);
  CHECK(b.w->metrics().memory_waits == 1);
  b.wait(900ms);
  CHECK(b.read(second).empty());
  b.give(first, bytes_view(text).substr(text.size() - 1));  // whoever holds bytes finishes
  b.give(b.engine(), answer_of(json_answer));
  CHECK(begins(b.read(first), "HTTP/1.1 200 "));
  CHECK_FALSE(b.io.at(second).paused);
  b.give({2, 1}, answer_of(json_answer));  // the pooled connection serves it
  CHECK(begins(b.read(second), "HTTP/1.1 200 "));
  CHECK(b.rests());
}

TEST_CASE("worker: bodies wait one second for memory, then 503") {
  config small = settings();
  small.limits.body_memory = 4096;
  testing::bench b(small);
  const socket_id first = b.client(), second = b.client();
  const std::string text = post(json_body);
  b.give(first, bytes_view(text).substr(0, text.size() - 1));
  b.give(second, text);
  b.wait(1100ms);
  const std::string got = b.read(second);
  CHECK(begins(got, "HTTP/1.1 503 "));
  CHECK(has(got, "Retry-After: 1\r\n"));
  CHECK(has(got, "\"code\":\"memory\""));
  CHECK(b.told.accounts.at(0).why == reason::memory);
  CHECK(b.rests());
}

TEST_CASE("worker: a client that leaves while it waits for memory leaves the queue") {
  config small = settings();
  small.limits.body_memory = 4096;
  testing::bench b(small);
  const socket_id first = b.client(), second = b.client();
  const std::string text = post(json_body);
  b.give(first, bytes_view(text).substr(0, text.size() - 1));
  b.give(second, text);
  b.w->lost(second, loss::reset);
  b.io.at(second).open = false;
  b.w->finished(first);
  CHECK(b.told.accounts.size() == 2);
  CHECK(b.rests());
}

TEST_CASE("worker: HEAD and OPTIONS") {
  testing::bench b;
  const socket_id c = b.client();
  b.give(c, "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string get = b.read(c);
  b.give(c, "HEAD /v1/models HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string head = b.read(c);
  const std::string body = get.substr(get.find("\r\n\r\n") + 4);
  CHECK(body == R"({"object":"list","data":[]})");
  CHECK(has(head, fmt::format("ontent-Length: {}\r\n", body.size())));
  CHECK(head.substr(head.size() - 4) == "\r\n\r\n");
  b.give(c, "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string options = b.read(c);
  CHECK(begins(options, "HTTP/1.1 204 "));
  CHECK(has(options, "Allow: "));
  CHECK(has(options, "POST"));
  CHECK_FALSE(has(options, "ontent-Length"));
  b.give(c, "GET /v1/chat/completions HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string wrong = b.read(c);
  CHECK(begins(wrong, "HTTP/1.1 405 "));
  CHECK(has(wrong, "Allow: "));
  CHECK(b.io.at(c).open);
  CHECK(b.rests());
}

TEST_CASE("worker: readiness follows the fleet") {
  auto fleet = fleet_of(settings(), 1);
  fleet->ready = false;
  testing::bench b(fleet);
  const socket_id c = b.client();
  b.give(c, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(begins(b.read(c), "HTTP/1.1 503 "));
  auto ready = fleet_of(settings(), 1);
  b.w->fleet_changed(ready);
  b.give(c, "GET /ping HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(begins(b.read(c), "HTTP/1.1 200 "));
  auto draining = fleet_of(settings(), 1);
  draining->ready = false;
  draining->draining = true;
  b.w->fleet_changed(draining);
  b.give(c, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string last = b.read(c);
  CHECK(begins(last, "HTTP/1.1 503 "));
  CHECK(has(last, "onnection: close\r\n"));
  CHECK(b.io.at(c).fin);
  CHECK(b.rests());
}

TEST_CASE("worker: a client's request id passes, unless one like it is in flight") {
  testing::bench b;
  const socket_id one = b.client(), two = b.client();
  const std::string text = post(json_body, "X-Request-Id: mine-1\r\n");
  b.give(one, text);
  b.give(two, text);
  const socket_id e1 = b.engine(), e2 = b.engine();
  CHECK(has(b.io.at(e1).out, "X-Request-Id: mine-1\r\n"));
  CHECK_FALSE(has(b.io.at(e2).out, "mine-1"));
  CHECK(has(b.io.at(e2).out, "X-Request-Id: req-"));
  b.give(e1, answer_of(json_answer));
  b.give(e2, answer_of(json_answer));
  CHECK(has(b.read(one), "X-Request-Id: mine-1\r\n"));
  CHECK(has(b.read(two), "X-Request-Id: req-"));
  b.give(two, text);  // free again
  CHECK(has(b.io.at(e2).out, "mine-1"));
  b.give(e2, answer_of(json_answer));
  for (const std::string& bad : {std::string(129, 'a'), std::string("two words")}) {
    b.read(e2);
    b.give(two, post(json_body, "x-request-id: " + bad + "\r\n"));
    CHECK(has(b.io.at(e2).out, "X-Request-Id: req-"));
    b.give(e2, answer_of(json_answer));
  }
  CHECK(b.rests());
}

TEST_CASE("worker: answers that need no engine carry the client's request id by the same rules") {
  testing::bench b;
  const socket_id c = b.client(), other = b.client();
  const std::string rest = " HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine-1\r\n\r\n";
  for (const std::string ask : {"GET /v1/models", "GET /nothing", "OPTIONS /v1/models", "GET /v1/messages"}) {
    CAPTURE(ask);
    b.give(c, ask + rest);
    CHECK(has(b.read(c), "X-Request-Id: mine-1\r\n"));
    CHECK(b.told.accounts.back().request_id == "mine-1");
  }
  b.give(other, post(json_body, "X-Request-Id: mine-1\r\n"));
  b.give(c, "GET /v1/models" + rest);  // in flight now
  CHECK(has(b.read(c), "X-Request-Id: req-"));
  b.give(c, "GET /v1/models HTTP/1.1\r\nHost: h\r\nX-Request-Id: two words\r\n\r\n");
  CHECK(has(b.read(c), "X-Request-Id: req-"));
  b.give(b.engine(), answer_of(json_answer));
  CHECK(b.rests());
}

TEST_CASE("worker: Connection: close and HTTP/1.0 end the connection behind the answer") {
  for (const bool old : {false, true}) {
    testing::bench b;
    const socket_id c = b.client();
    b.give(c, old ? post(json_body, "", "1.0") : post(json_body, "Connection: close\r\n"));
    b.give(b.engine(), answer_of(json_answer));
    const std::string got = b.read(c);
    CHECK(has(got, json_answer));
    CHECK(has(got, "onnection: close\r\n"));
    CHECK(b.io.at(c).fin);
    CHECK(b.io.at(c).open);
    b.w->finished(c);
    CHECK_FALSE(b.io.at(c).open);
    CHECK(b.rests());
  }
}

TEST_CASE("worker: broken HTTP is answered once and the connection closed") {
  struct row {
    const char* text;
    const char* status;
  };
  const row rows[] = {
      {"GET / HTTP/1.1\r\nHost: h\n\r\n", "HTTP/1.1 400 "},
      {"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: "
       "chunked\r\n\r\n",
       "HTTP/1.1 400 "},
      {"GET / HTTP/2.0\r\nHost: h\r\n\r\n", "HTTP/1.1 505 "},
      {"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 501 "},
  };
  for (const row& r : rows) {
    CAPTURE(r.text);
    testing::bench b;
    const socket_id c = b.client();
    b.give(c, r.text);
    b.give(c, "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n");
    const std::string got = b.read(c);
    CHECK(begins(got, r.status));
    CHECK_FALSE(has(got, "}HTTP/1.1 "));
    CHECK(b.told.accounts.size() == 1);
    CHECK(b.rests());
  }
}

TEST_CASE("worker: a chunk size that is no number, inside a body") {
  testing::bench b;
  const socket_id c = b.client();
  b.give(c,
         "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
         "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"m\r\nxyz\r\n");
  const std::string got = b.read(c);
  CHECK(begins(got, "HTTP/1.1 400 "));
  CHECK(has(got, "onnection: close\r\n"));
  CHECK(b.told.accounts.at(0).why == reason::bad_framing);
  CHECK(b.rests());
}

TEST_CASE("worker: bad bodies are 400 with a param, and the connection goes on") {
  testing::bench b;
  const socket_id c = b.client();
  b.give(c, post("{\"messages\":[]}"));
  CHECK(has(b.read(c), "\"param\":\"model\""));
  b.give(c, post("{"));
  CHECK(has(b.read(c), "\"code\":\"invalid_json\""));
  b.give(c, post(""));
  CHECK(begins(b.read(c), "HTTP/1.1 400 "));
  b.give(c, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(begins(b.read(c), "HTTP/1.1 200 "));
  CHECK(b.rests());
}

TEST_CASE("worker: slow heads, slow bodies and idle connections have their deadlines") {
  testing::bench b;
  const socket_id idle = b.client(), head = b.client(), body = b.client(), trickle = b.client();
  b.give(head, "GET /v1/mod");
  const std::string text = post(json_body);
  b.give(body, bytes_view(text).substr(0, text.size() - 1));
  b.give(trickle,
         "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
         "Content-Length: 100000\r\n\r\n");
  for (int i = 0; i < 9; ++i) {
    b.wait(1s);
    b.give(trickle, "                ");
  }
  CHECK(b.read(head).empty());
  b.wait(1100ms);
  CHECK(begins(b.read(head), "HTTP/1.1 408 "));
  b.wait(2s);
  CHECK(begins(b.read(trickle), "HTTP/1.1 408 "));  // below its least rate
  CHECK(begins(b.read(body), "HTTP/1.1 408 "));
  CHECK(b.io.at(idle).open);
  b.wait(50s);
  CHECK_FALSE(b.io.at(idle).open);
  CHECK(b.read(idle).empty());
  CHECK(b.told.accounts.size() == 3);  // an idle connection asked nothing
  CHECK(b.rests());
}

TEST_CASE("worker: a head that never ends behind answers that nobody reads is refused once") {
  testing::bench b;
  const socket_id c = b.client();
  b.io.at(c).window = 0;
  b.give(c, "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\nGET /v1/mod");
  b.wait(10100ms);
  CHECK(b.told.accounts.size() == 2);
  CHECK(b.told.accounts.back().why == reason::head_timeout);
  b.take(c, hand_driver::npos);
  const std::string got = b.read(c);
  CHECK(has(got, "\"object\":\"list\""));
  CHECK(has(got, "\"code\":\"head_timeout\""));
  b.wait(1100ms);
  CHECK_FALSE(b.io.at(c).open);
  CHECK(b.rests());
}

TEST_CASE("worker: a body refused while its answer cannot be written has no deadlines any more") {
  testing::bench b;
  const socket_id c = b.client();
  b.io.at(c).window = 0;
  const std::string text = post(json_body);
  b.give(c, "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n" + text.substr(0, text.size() - 1));
  b.wait(19s);  // below its least rate since the 10th second
  CHECK(b.told.accounts.size() == 1);
  CHECK(b.io.at(c).open);
  b.wait(1100ms);
  CHECK_FALSE(b.io.at(c).open);  // took nothing for 20 s
  CHECK(b.told.accounts.size() == 2);
  CHECK(b.told.accounts.back().why == reason::slow_client);
  CHECK(b.rests());
}

TEST_CASE("worker: connections at the limit stop the accepting until one ends") {
  config c = settings();
  c.limits.connections = 2;
  testing::bench b(c);
  b.client();
  CHECK(b.io.accepting);
  const socket_id second = b.client();
  CHECK_FALSE(b.io.accepting);
  b.w->finished(second);
  CHECK(b.io.accepting);
  CHECK(b.rests());
}

TEST_CASE("worker: unread answers stop the reading of further requests") {
  testing::bench b;
  const socket_id c = b.client();
  b.io.at(c).window = 0;
  const std::string one = "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n";
  int sent = 0;
  while (!b.io.at(c).paused && sent < 1000) {
    b.give(c, one);
    ++sent;
  }
  CHECK(sent < 1000);
  CHECK(b.w->held().buffer_bytes > 0);
  b.take(c, hand_driver::npos);
  CHECK_FALSE(b.io.at(c).paused);
  const std::string got = b.read(c);
  std::size_t answers = 0;
  for (std::size_t at = got.find("HTTP/1.1 200"); at != got.npos; at = got.find("HTTP/1.1 200", at + 1))
    ++answers;
  CHECK(answers == static_cast<std::size_t>(sent));
  CHECK(b.rests());
}
