// What engines answer and clients get: framing, back-pressure, retries, departures, drains.
#include <doctest/doctest.h>

#include "unit/proxy/worker/bench.hpp"

using namespace penstock;
using namespace penstock::worker;
using namespace penstock::worker::testing;

namespace {

struct streaming {
  explicit streaming(testing::bench& b, std::string_view fields = "", std::string_view version = "1.1")
      : c(b.client()) {
    b.give(c, post(stream_body, fields, version));
    e = b.engine();
    b.give(e, stream_head);
  }
  socket_id c, e;
};

}  // namespace

TEST_CASE("worker: a stream, its usage asked for and taken out") {
  testing::bench b;
  streaming s(b);
  const std::string asked = b.read(s.e);
  CHECK(has(
      asked,
      R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}],"stream_options":{"include_usage":true}})"));
  CHECK(has(asked, fmt::format("ontent-Length: {}\r\n", asked.size() - asked.find("\r\n\r\n") - 4)));
  CHECK(has(asked, "Host: engine-0\r\n"));
  CHECK(b.read(s.c).empty());  // held until the first token
  b.give(s.e, chunk("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"));
  CHECK(b.read(s.c).empty());
  b.io.writes = 0;
  b.give(s.e, chunk(token("a")));
  CHECK(b.io.writes == 1);  // head, chunk and events with one call
  b.give(s.e,
         chunk(token("b")) +
             chunk("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n") +
             chunk(end_marker) + std::string(last_chunk));
  CHECK(b.io.writes == 2);
  bool complete = false;
  const std::string got = b.read(s.c);
  CHECK(dechunk(got, &complete) == "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n" +
                                       token("a") + token("b") + std::string(end_marker));
  CHECK(complete);
  const account_record& r = b.told.accounts.at(0);
  CHECK(r.why == reason::ok);
  CHECK(r.usage.prompt == 9);
  CHECK(r.pool == "main");
  CHECK(r.endpoint_url == "http://engine-0");
  CHECK(r.bytes_out == got.size());
  CHECK(r.client == "10.0.0.1:4711");
  CHECK(b.w->held().idle_engines == 1);
  b.wait(5s);
  CHECK(b.w->held().idle_engines == 0);  // closed before the engine's own keep-alive ends
  CHECK(b.rests());
}

TEST_CASE("worker: the client's bytes do not depend on how the engine's are cut") {
  const std::string answer = std::string(stream_head) + chunk(token("a") + token("b")) + chunk(token("c")) +
                             chunk(end_marker) + std::string(last_chunk);
  const std::string expected = token("a") + token("b") + token("c") + std::string(end_marker);
  for (std::size_t cut = 1; cut < answer.size(); ++cut) {
    testing::bench b;
    const socket_id c = b.client();
    b.give(c, post(stream_body));
    const socket_id e = b.engine();
    b.give(e, bytes_view(answer).substr(0, cut));
    b.give(e, bytes_view(answer).substr(cut));
    bool complete = false;
    CAPTURE(cut);
    REQUIRE(dechunk(b.read(c), &complete) == expected);
    REQUIRE(complete);
    REQUIRE(b.told.accounts.size() == 1);
  }
}

TEST_CASE("worker: HTTP/1.0 gets a stream that ends with the connection, and a reset where it was cut") {
  testing::bench b;
  streaming s(b, "", "1.0");
  b.give(s.e, chunk(token("a")));
  const std::string got = b.read(s.c);
  CHECK_FALSE(has(got, "chunked"));
  CHECK(got.substr(got.find("\r\n\r\n") + 4) == token("a"));
  b.give(s.e, chunk(end_marker) + std::string(last_chunk));
  CHECK(b.read(s.c) == end_marker);
  CHECK(b.io.at(s.c).fin);
  CHECK(b.rests());

  testing::bench cut;
  const socket_id c = cut.client();
  cut.give(c, post(json_body, "", "1.0"));
  const socket_id e = cut.engine();
  cut.give(e, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" +
                  chunk("{\"a\""));
  cut.w->lost(e, loss::reset);
  cut.io.at(e).open = false;
  CHECK(cut.io.at(c).reset);
  CHECK(cut.rests());
}

TEST_CASE("worker: a slow reader pauses its engine and gets every byte in the end") {
  testing::bench b;
  streaming s(b);
  b.io.at(s.c).window = 100;
  std::string expected;
  int events = 0;
  while (!b.io.at(s.e).paused && events < 1000) {
    const std::string event = token(fmt::format("t{}", events++));
    b.give(s.e, chunk(event));
    expected += event;
  }
  CHECK(b.io.at(s.e).paused);
  CHECK(b.w->held().buffer_bytes >= 4096);
  CHECK(b.w->held().buffer_bytes < 16384);
  b.wait(15s);  // above between_events: an engine that we do not read is not late
  b.take(s.c, 100);
  CHECK(b.io.at(s.e).paused);
  b.take(s.c, hand_driver::npos);
  CHECK_FALSE(b.io.at(s.e).paused);
  CHECK(b.w->held().buffer_bytes == 0);
  b.give(s.e, chunk(end_marker) + std::string(last_chunk));
  CHECK(dechunk(b.read(s.c)) == expected + std::string(end_marker));
  CHECK(b.rests());
}

TEST_CASE("worker: a client that takes nothing for too long is reset") {
  testing::bench b;
  streaming s(b);
  b.io.at(s.c).window = 10;
  b.give(s.e, chunk(token("a")));
  b.wait(9s);
  b.give(s.e, chunk(token("b")));
  b.wait(9s);
  b.give(s.e, chunk(token("c")));
  b.wait(3s);
  CHECK(b.io.at(s.c).reset);
  CHECK_FALSE(b.io.at(s.e).open);
  CHECK(b.told.accounts.at(0).why == reason::slow_client);
  CHECK(b.rests());
}

TEST_CASE("worker: the client's answer may be unsent when the engine is done with it") {
  testing::bench b;
  streaming s(b);
  b.io.at(s.c).window = 0;
  b.give(s.e, chunk(token("a")) + chunk(end_marker) + std::string(last_chunk));
  CHECK(b.w->held().idle_engines == 1);  // free for others already
  CHECK(b.told.accounts.empty());
  b.give(s.c, post(json_body));
  for (int i = 0; i < 10000 && b.told.accounts.empty(); ++i) b.take(s.c, 7);
  CHECK(b.told.accounts.size() == 1);
  CHECK(dechunk(b.read(s.c)) == token("a") + std::string(end_marker));
  b.take(s.c, hand_driver::npos);
  b.give(s.e, answer_of(json_answer));
  CHECK(has(b.read(s.c), json_answer));
  CHECK(b.rests());
}

TEST_CASE("worker: a FIN before the end is leaving, or may be tolerated") {
  for (const half_close_mode mode : {half_close_mode::abort, half_close_mode::tolerate}) {
    config c = settings();
    c.server.half_close = mode;
    testing::bench b(c);
    streaming s(b);
    b.give(s.e, chunk(token("a")));
    b.w->finished(s.c);
    const bool tolerated = mode == half_close_mode::tolerate;
    CHECK(b.io.at(s.c).open == tolerated);
    CHECK(b.io.at(s.e).open == tolerated);
    if (tolerated) {
      b.give(s.e, chunk(end_marker) + std::string(last_chunk));
      bool complete = false;
      CHECK(dechunk(b.read(s.c), &complete) == token("a") + std::string(end_marker));
      CHECK(complete);
      CHECK_FALSE(b.io.at(s.c).open);  // both sides are done: nothing to linger for
    }
    CHECK(b.told.accounts.at(0).why == (tolerated ? reason::ok : reason::client_gone));
    CHECK(b.rests());
  }
}

TEST_CASE("worker: requests that were pipelined ahead of a tolerated FIN are all answered") {
  config settings_with = settings();
  settings_with.server.half_close = half_close_mode::tolerate;
  const std::string one = post(json_body), two = one + one + "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n";
  const std::string half = one.substr(0, one.size() - 1);
  // What came in one read with the first request, what came later, and whether the end is told last.
  const std::pair<std::string, std::string> arrivals[] = {{two, ""}, {one + "P", two.substr(one.size() + 1)}};
  for (const auto& arrival : arrivals)
    for (const bool end_behind_answers : {false, true})
      for (const std::string& rest : {std::string(), half}) {
        const std::string &at_once = arrival.first, &later = arrival.second;
        CAPTURE(at_once.size());
        CAPTURE(end_behind_answers);
        testing::bench b(settings_with);
        const socket_id c = b.client();
        b.give(c, at_once + (later.empty() ? rest : ""));
        REQUIRE(b.io.at(c).paused);
        b.w->finished(c);  // ahead of what was not read
        const socket_id e = b.engine();
        b.give(e, answer_of(json_answer));
        CHECK(b.io.at(c).paused == later.empty());  // the third request is behind the second
        if (!later.empty()) b.give(c, later + rest);
        if (!end_behind_answers && !b.io.at(c).paused) b.w->finished(c);
        CHECK(b.io.at(c).open);
        b.give(e, answer_of(json_answer));
        if (b.io.at(c).open) b.w->finished(c);
        const std::string got = b.read(c);
        CHECK(begins(got, "HTTP/1.1 200 "));
        CHECK(got.find(json_answer) != got.rfind(json_answer));
        CHECK(has(got, "\"object\":\"list\""));
        CHECK_FALSE(b.io.at(c).open);
        CHECK(b.told.accounts.size() == (rest.empty() ? 3 : 4));
        CHECK(b.told.accounts.back().why == (rest.empty() ? reason::ok : reason::client_gone));
        CHECK(b.rests());
      }
}

TEST_CASE("worker: held events, unfinished events and pipelined bytes are charged to the buffer budget") {
  testing::bench b;
  streaming s(b);
  const auto held = [&] { return b.w->held().buffer_bytes; };
  CHECK(held() == 0);
  const std::string role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
  b.give(s.e, chunk(role));
  CHECK(held() == role.size());
  b.give(s.e, chunk(token("a").substr(0, 10)));
  CHECK(held() == role.size() + 10);
  b.give(s.e, chunk(token("a").substr(10)));
  CHECK(held() == 0);
  b.give(s.e, chunk(token("b").substr(0, 7)));
  CHECK(held() == 7);
  b.give(s.c, "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(held() >= 7 + 36);
  b.give(s.e, chunk(token("b").substr(7)) + chunk(end_marker) + std::string(last_chunk));
  CHECK(held() == 0);
  CHECK(has(b.read(s.c), "\"object\":\"list\""));
  CHECK(b.rests());
}

TEST_CASE("worker: held bytes of a stream count when the budget decides who is paused") {
  config small = settings();
  small.limits.buffer_memory = 1000;
  testing::bench b(small, 2);
  streaming holder(b), slow(b);
  b.give(slow.e, chunk(token("a")));
  b.io.at(slow.c).window = 0;
  b.give(slow.e, chunk(token("b")));
  CHECK_FALSE(b.io.at(slow.e).paused);  // little is unsent
  b.give(holder.e, chunk("data: " + std::string(2000, 'x')));
  b.give(slow.e, chunk(token("c")));
  CHECK(b.io.at(slow.e).paused);
  b.take(slow.c, hand_driver::npos);
  CHECK_FALSE(b.io.at(slow.e).paused);
  CHECK(b.rests());
}

TEST_CASE("worker: a tolerated FIN inside a request is still leaving") {
  config c = settings();
  c.server.half_close = half_close_mode::tolerate;
  testing::bench b(c);
  const socket_id s = b.client();
  const std::string text = post(json_body);
  b.give(s, bytes_view(text).substr(0, text.size() - 1));
  b.w->finished(s);
  CHECK_FALSE(b.io.at(s).open);
  CHECK(b.told.accounts.at(0).why == reason::client_gone);
  CHECK(b.rests());
}

TEST_CASE("worker: the client leaves, and its engine is closed at once, connecting or connected") {
  testing::bench b;
  const socket_id one = b.client();
  b.give(one, post(json_body));
  const socket_id connecting = b.io.connecting.at(0);
  b.w->finished(one);
  CHECK_FALSE(b.io.at(connecting).open);
  b.io.connecting.clear();
  const socket_id two = b.client();
  b.give(two, post(json_body));
  const socket_id e = b.engine();
  b.w->lost(two, loss::reset);
  b.io.at(two).open = false;
  CHECK_FALSE(b.io.at(e).open);
  CHECK(b.told.accounts.size() == 2);
  CHECK(b.rests());
}

TEST_CASE("worker: routing is shown only where the configuration allows it") {
  for (const bool expose : {false, true}) {
    config c = settings();
    c.server.expose_routing = expose;
    testing::bench b(c);
    const socket_id s = b.client();
    b.give(s, post(json_body, "x-penstock-explain: 1\r\n"));
    b.give(b.engine(), answer_of(json_answer));
    const std::string got = b.read(s);
    CHECK(has(got, "x-penstock-endpoint: http://engine-0\r\n") == expose);
    CHECK(has(got, "x-penstock-reason: prefix only_candidate\r\n") == expose);
    CHECK(b.rests());
  }
}

TEST_CASE("worker: an endpoint's key and headers replace the client's") {
  auto fleet = fleet_of(settings(), 1);
  fleet->endpoints[0].settings.api_key = "secret";
  fleet->endpoints[0].settings.headers = {{"x-team", "ours"}};
  fleet->endpoints[0].path_prefix = "/base";
  testing::bench b(fleet);
  const socket_id c = b.client();
  b.give(c,
         post(json_body, "Authorization: Bearer theirs\r\nx-team: theirs\r\ntraceparent: 00-aa-bb-01\r\n"));
  const socket_id e = b.engine();
  const std::string asked = b.read(e);
  CHECK(begins(asked, "POST /base/v1/chat/completions HTTP/1.1\r\n"));
  CHECK(has(asked, "uthorization: Bearer secret\r\n"));
  CHECK(has(asked, "x-team: ours\r\n"));
  CHECK_FALSE(has(asked, "theirs"));
  CHECK(has(asked, "traceparent: 00-aa-bb-01\r\n"));
  b.give(e, answer_of(json_answer));
  CHECK(b.told.accounts.at(0).trace_parent == "00-aa-bb-01");
  CHECK(b.rests());
}

TEST_CASE("worker: a refused connection leads to the next endpoint, a timeout too") {
  testing::bench b(settings(), 2);
  const socket_id c = b.client();
  b.give(c, post(json_body));
  const socket_id first = b.io.connecting.at(0);
  b.io.connecting.clear();
  b.io.at(first).open = false;
  b.w->lost(first, loss::refused);
  REQUIRE(b.io.connecting.size() == 1);
  const socket_id second = b.engine();
  CHECK(b.io.at(second).port != b.io.at(first).port);
  b.give(second, answer_of(json_answer));
  CHECK(has(b.read(c), json_answer));
  CHECK(b.told.accounts.at(0).attempts == 2);
  const bool failed = std::any_of(b.told.outcomes.begin(), b.told.outcomes.end(),
                                  [](const auto& o) { return o.fault == flow::fault::unreachable; });
  CHECK(failed);
  CHECK(b.rests());

  testing::bench slow;
  const socket_id d = slow.client();
  slow.give(d, post(json_body));
  slow.wait(2100ms);
  CHECK(begins(slow.read(d), "HTTP/1.1 504 "));
  CHECK(slow.rests());
}

TEST_CASE("worker: a stale pooled connection costs the client nothing") {
  testing::bench b;
  const socket_id c = b.client();
  b.give(c, post(json_body));
  const socket_id e = b.engine();
  b.give(e, answer_of(json_answer));
  b.read(c);
  b.give(c, post(json_body));
  CHECK(b.io.connecting.empty());
  b.io.at(e).open = false;
  b.w->lost(e, loss::reset);  // its keep-alive had ended
  const socket_id fresh = b.engine();
  b.give(fresh, answer_of(json_answer));
  CHECK(has(b.read(c), json_answer));
  CHECK(b.told.accounts.at(1).why == reason::ok);
  const bool blamed = std::any_of(b.told.outcomes.begin(), b.told.outcomes.end(),
                                  [](const auto& o) { return o.fault != flow::fault::none; });
  CHECK_FALSE(blamed);
  CHECK(b.rests());
}

TEST_CASE("worker: connections that must not be used again are not") {
  const auto idle_after = [](std::string answer, bool fin) {
    testing::bench b;
    const socket_id c = b.client();
    b.give(c, post(json_body));
    const socket_id e = b.engine();
    b.give(e, answer);
    if (fin) b.w->finished(e);
    CHECK(has(b.read(c), json_answer));
    const std::size_t idle = b.w->held().idle_engines;
    CHECK(b.rests());
    return idle;
  };
  CHECK(idle_after(answer_of(json_answer), false) == 1);
  CHECK(idle_after(answer_of(json_answer), true) == 0);
  CHECK(idle_after(answer_of(json_answer, 200, "Connection: close\r\n"), false) == 0);
  CHECK(idle_after(answer_of(json_answer) + "HTTP/1.1 200 OK\r\n", false) ==
        0);  // an answer nobody asked for
  CHECK(idle_after(fmt::format("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}", json_answer),
                   true) == 0);
}

TEST_CASE("worker: an engine that answers before it has the whole request is not used again") {
  testing::bench b;
  const socket_id c = b.client();
  b.give(c, post(json_body));
  const socket_id e = b.io.connecting.at(0);
  b.io.at(e).window = 50;
  b.engine();
  b.give(e, answer_of("{\"error\":1}", 413));
  CHECK(begins(b.read(c), "HTTP/1.1 413 "));
  CHECK_FALSE(b.io.at(e).open);
  CHECK(b.rests());
}

TEST_CASE("worker: a request that an engine takes slowly arrives whole") {
  testing::bench b;
  const socket_id c = b.client();
  const std::string body =
      fmt::format(R"({{"model":"m","stream":true,"messages":[{{"role":"user","content":"{}"}}]}})",
                  std::string(50000, 'x'));
  b.give(c, post(body));
  const socket_id e = b.io.connecting.at(0);
  b.io.at(e).window = 1;
  b.engine();
  while (b.io.at(e).wants_writable) b.take(e, 997);
  const std::string asked = b.read(e);
  const std::string sent = asked.substr(asked.find("\r\n\r\n") + 4);
  CHECK(sent == body.substr(0, body.size() - 1) + R"(,"stream_options":{"include_usage":true}})");
  b.give(e, std::string(stream_head) + chunk(token("a")) + chunk(end_marker) + std::string(last_chunk));
  CHECK(b.told.accounts.at(0).why == reason::ok);
  CHECK(b.rests());
}

TEST_CASE("worker: out of descriptors is our failure: 500 internal, and health hears nothing of an engine") {
  testing::bench b;
  const socket_id c = b.client();
  b.give(c, post(json_body));
  b.w->lost(std::exchange(b.io.connecting, {}).at(0), loss::local);
  CHECK(has(b.read(c), "\"code\":\"internal\""));
  CHECK(b.told.accounts.at(0).why == reason::internal);
  CHECK(b.told.outcomes.empty());
  CHECK(b.rests());
}

TEST_CASE("worker: garbage from an engine is 502, and after the first token one error event") {
  testing::bench b;
  const socket_id c = b.client();
  b.give(c, post(json_body));
  b.give(b.engine(), "SSH-2.0-OpenSSH\r\n\r\n");
  const std::string got = b.read(c);
  CHECK(begins(got, "HTTP/1.1 502 "));
  CHECK(has(got, "\"code\":\"engine_garbage\""));
  streaming s(b);
  b.give(s.e, chunk(token("a")) + "zz\r\n");
  bool complete = false;
  const std::string body = dechunk(b.read(s.c), &complete);
  CHECK(complete);
  CHECK(begins(body, token("a") + "data: {\"error\":"));
  CHECK_FALSE(has(body, "[DONE]"));
  CHECK(b.rests());
}

TEST_CASE("worker: a cut answer with a length is cut, not completed") {
  testing::bench b;
  const socket_id c = b.client();
  b.give(c, post(json_body));
  const socket_id e = b.engine();
  const std::string whole = answer_of(json_answer);
  b.give(e, bytes_view(whole).substr(0, whole.size() - 5));
  b.w->finished(e);
  const std::string got = b.read(c);
  CHECK(has(got, fmt::format("ontent-Length: {}\r\n", json_answer.size())));
  CHECK(got.size() - got.find("\r\n\r\n") - 4 == json_answer.size() - 5);
  CHECK_FALSE(b.io.at(c).open);
  CHECK(b.told.accounts.at(0).why == reason::engine_cut);
  CHECK(b.rests());
}

TEST_CASE("worker: draining says close, ends the idle, and at its deadline everything, in error") {
  testing::bench b;
  const socket_id idle = b.client(), waiting = b.client();
  b.give(waiting, post(json_body));
  b.engine();
  streaming s(b);
  b.give(s.e, chunk(token("a")));
  auto draining = fleet_of(settings(), 1);
  draining->draining = true;
  b.w->fleet_changed(draining);
  b.w->close_idle();
  CHECK_FALSE(b.io.at(idle).open);
  CHECK(b.io.at(s.c).open);
  b.w->end_all();
  const std::string refused = b.read(waiting);
  CHECK(begins(refused, "HTTP/1.1 503 "));
  CHECK(has(refused, "\"code\":\"drain_deadline\""));
  CHECK(has(refused, "onnection: close\r\n"));
  bool complete = false;
  const std::string body = dechunk(b.read(s.c), &complete);
  CHECK(complete);
  CHECK(has(body, "\"code\":\"drain_deadline\""));
  CHECK_FALSE(has(body, "[DONE]"));
  CHECK(b.told.accounts.size() == 2);
  CHECK(b.w->live_requests() == 0);
  CHECK(b.rests());
}

TEST_CASE("worker: without drain the last connections still say close when all ends") {
  testing::bench b;
  const socket_id c = b.client();
  b.give(c, post(json_body));
  b.engine();
  b.w->end_all();
  CHECK(has(b.read(c), "onnection: close\r\n"));
  CHECK(b.io.at(c).fin);
  CHECK(b.rests());
}

TEST_CASE("worker: endpoints may go while their requests live") {
  testing::bench b(settings(), 2);
  streaming s(b);
  b.give(s.e, chunk(token("a")));
  b.w->fleet_changed(fleet_of(settings(), 0));
  b.give(s.e, chunk(end_marker) + std::string(last_chunk));
  bool complete = false;
  dechunk(b.read(s.c), &complete);
  CHECK(complete);
  b.give(s.c, post(json_body));
  CHECK(begins(b.read(s.c), "HTTP/1.1 503 "));
  CHECK(b.rests());
}

TEST_CASE("worker: events of sockets that are gone hit nobody") {
  testing::bench b;
  streaming s(b);
  b.w->finished(s.c);
  for (const socket_id dead : {s.c, s.e, socket_id{99, 1}, socket_id{s.c.index, 2}}) {
    b.w->received(dead, "x");
    b.w->finished(dead);
    b.w->writable(dead);
    b.w->connected(dead, alpn::http1);
    b.w->lost(dead, loss::reset);
    CHECK(b.w->receive_target(dead).empty());
  }
  CHECK(b.told.accounts.size() == 1);
  CHECK(b.rests());
}

TEST_CASE("worker: gauges are of the moment") {
  testing::bench b;
  streaming s(b);
  const worker_metrics m = b.w->metrics();
  CHECK(m.client_connections == 1);
  CHECK(m.engine_connections == 1);
  CHECK(m.idle_engine_connections == 0);
  CHECK(m.live_requests == 1);
  CHECK(m.live_streams == 1);
  CHECK(m.accepted == 1);
  CHECK(m.engine_connects == 1);
  CHECK(m.body_bytes > 0);  // kept for a retry until the first token
  b.give(s.e, chunk(token("a")));
  CHECK(b.w->metrics().body_bytes == 0);
  CHECK(b.rests());
}
