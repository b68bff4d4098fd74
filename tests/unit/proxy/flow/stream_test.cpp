// Streams that pass: what is held, the order of commitment, what is dropped, how they end.
#include <doctest/doctest.h>

#include "unit/proxy/flow/bench.hpp"

using namespace penstock;
using namespace penstock::flow;
using namespace penstock::flow::testing;

namespace {

const std::string whole = fmt::format("{}{}{}{}{}", role, token, last_token, usage, end_marker);
const std::string without_usage = fmt::format("{}{}{}{}", role, token, last_token, end_marker);

}  // namespace

TEST_CASE("flow: a stream from its body to its accounting, action by action") {
  testing::bench b;
  b.facts.client_wants_usage = true;
  CHECK(b.flow.where() == state::reading);
  CHECK(b.on(body_ready{&b.facts}) == "decide");
  CHECK(b.flow.where() == state::deciding);
  plan p;
  p.candidates = {{.endpoint = {7, 1}}};
  CHECK(b.on(picked{p}) == "connect");
  CHECK(b.target() == 7);
  CHECK(b.on(engine_connected{false}) == "dispatch, send_request");
  CHECK(b.on(request_sent{}).empty());
  CHECK(b.flow.where() == state::waiting);
  CHECK(b.head().empty());
  CHECK(b.flow.where() == state::holding);
  b.now += 100ms;
  CHECK(b.bytes(role).empty());
  CHECK_FALSE(b.flow.committed());
  b.now += 100ms;
  const auto expected =
      fmt::format("first_token, answer_head(sse), write({}), write({})", role.size(), token.size());
  CHECK(b.bytes(token) == expected);
  CHECK(b.flow.committed());
  CHECK(b.flow.where() == state::streaming);
  b.now += 300ms;
  b.bytes(last_token);
  b.bytes(usage);
  CHECK(b.bytes(end_marker) == "write(14)");
  CHECK(b.on(engine_end{}) == "end_answer, complete_work, keep_engine, finish");
  CHECK(b.client == whole);
  CHECK(at_rest(b));
  const account_record& r = b.flow.record();
  CHECK(r.why == reason::ok);
  CHECK(r.status == 200);
  CHECK(r.attempts == 1);
  CHECK(r.content_events == 2);
  CHECK(r.events == 5);
  CHECK(r.usage.known);
  CHECK(r.usage.prompt == 23);
  CHECK(r.usage.completion == 12);
  CHECK(r.first_token - r.accepted == 200ms);
  CHECK(r.longest_gap == 300ms);
  CHECK(b.faults.empty());
}

TEST_CASE("flow: the same bytes to the client wherever the engine's pieces are cut") {
  for (const bool wants : {true, false}) {
    for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
      testing::bench b;
      b.facts.client_wants_usage = wants;
      b.to_holding();
      b.bytes(bytes_view(whole).substr(0, cut));
      b.bytes(bytes_view(whole).substr(cut));
      b.on(engine_end{});
      CAPTURE(cut);
      REQUIRE(b.client == (wants ? whole : without_usage));
      REQUIRE(at_rest(b));
      REQUIRE(b.why() == reason::ok);
      REQUIRE(b.flow.record().usage.completion == 12);
      REQUIRE(b.flow.record().content_events == 2);
    }
  }
}

TEST_CASE("flow: one byte at a time, and bytes that die right after the call") {
  testing::bench b;
  b.to_holding();
  for (const char c : whole) {
    const std::string loan(1, c);
    b.bytes(loan);
  }
  b.on(engine_end{});
  CHECK(b.client == without_usage);
  CHECK(b.heads == 1);
}

TEST_CASE("flow: whole events behind each other are one write") {
  testing::bench b;
  b.to_holding();
  b.bytes(role);
  b.bytes(token);
  const std::string three = fmt::format("{}{}{}", token, token, token);
  CHECK(b.bytes(three) == fmt::format("write({})", three.size()));
}

TEST_CASE("flow: usage is asked for and dropped only where the client did not ask") {
  const auto injects = [](api_kind api, bool stream, bool wants, usage_mode mode) {
    config c = settings();
    c.server.usage = mode;
    testing::bench b(c, api);
    b.facts.stream = stream;
    b.facts.client_wants_usage = wants;
    b.to_deciding();
    return b.flow.inject_usage();
  };
  CHECK(injects(api_kind::chat, true, false, usage_mode::inject));
  CHECK(injects(api_kind::completions, true, false, usage_mode::inject));
  CHECK_FALSE(injects(api_kind::chat, true, true, usage_mode::inject));
  CHECK_FALSE(injects(api_kind::chat, false, false, usage_mode::inject));
  CHECK_FALSE(injects(api_kind::chat, true, false, usage_mode::observe));
  CHECK_FALSE(injects(api_kind::responses, true, false, usage_mode::inject));
  CHECK_FALSE(injects(api_kind::messages, true, false, usage_mode::inject));
  testing::bench continuous;  // whose body is left alone: what the engine then tells is the client's
  continuous.facts.continuous_usage = true;
  continuous.to_holding();
  CHECK_FALSE(continuous.flow.inject_usage());

  config c = settings();
  c.server.usage = usage_mode::observe;
  testing::bench b(c);
  b.to_holding();
  b.bytes(whole);
  b.on(engine_end{});
  CHECK(b.client == whole);  // the engine sent usage unasked: not ours to drop
}

TEST_CASE("flow: more than the limit before the first token goes out, and the deadline stays") {
  config c = settings();
  c.limits.held_bytes = 1024;
  testing::bench b(c);
  b.to_holding();
  std::string frames;
  while (frames.size() + role.size() <= 1024) {
    CHECK(b.bytes(role).empty());
    frames += role;
  }
  CHECK(b.client.empty());
  frames += role;
  CHECK(b.bytes(role) == fmt::format("answer_head(sse), write({})", frames.size()));
  CHECK(b.client == frames);
  CHECK(b.flow.committed());
  CHECK(b.flow.record().first_token == instant{});
  b.wait(31s);
  CHECK(b.why() == reason::first_token_timeout);
  CHECK(b.client.find("\"code\":\"first_token_timeout\"") != std::string::npos);
  CHECK(at_rest(b));
}

TEST_CASE("flow: an answer without any token ends well") {
  testing::bench b;
  b.to_holding();
  b.bytes(role);
  CHECK(b.bytes(end_marker) == fmt::format("answer_head(sse), write({}), write(14)", role.size()));
  CHECK(b.on(engine_end{}) == "end_answer, complete_work, keep_engine, finish");
  CHECK(b.why() == reason::ok);
  CHECK(b.flow.record().first_token == instant{});
  CHECK(b.faults.empty());
}

TEST_CASE("flow: a stream whose engine does not close behind the end marker is over all the same") {
  for (const bool with_token : {false, true}) {
    testing::bench b;
    b.to_holding();
    b.bytes(role);
    if (with_token) b.bytes(token);
    b.bytes(end_marker);
    const std::string before = b.client;
    b.wait(700s);
    CAPTURE(with_token);
    CHECK(at_rest(b));
    CHECK(b.client == before);  // nothing behind [DONE]
    CHECK(b.ends == 1);
    CHECK(b.why() == reason::ok);
  }
}

TEST_CASE("flow: nothing is said behind the engine's end, however its connection goes") {
  const std::vector<event> ends = {engine_lost{false}, engine_lost{true}, drain_now{}, engine_end{}};
  for (const event& e : ends) {
    for (const bool failed : {false, true}) {
      testing::bench b;
      b.to_holding();
      b.bytes(role);
      b.bytes(token);
      b.bytes(failed ? engine_error : end_marker);
      const std::string before = b.client;
      b.on(e);
      CAPTURE(e.index());
      CAPTURE(failed);
      CHECK(b.client == before);
      CHECK(b.ends == 1);
      CHECK(at_rest(b));
      CHECK(b.why() == (failed ? reason::engine_error_event : reason::ok));
      CHECK(b.faults.size() == (failed ? 1 : 0));
    }
  }
}

TEST_CASE("flow: the engine's own error event passes once, with the [DONE] behind it, and none of ours") {
  testing::bench b;
  b.to_holding();
  b.bytes(role);
  b.bytes(token);
  b.bytes(engine_error);
  b.bytes(end_marker);
  CHECK(b.on(engine_end{}) == "engine_failed(server_error), end_answer, give_up_work, keep_engine, finish");
  CHECK(b.client == fmt::format("{}{}{}{}", role, token, engine_error, end_marker));
  CHECK(b.why() == reason::engine_error_event);
  CHECK(at_rest(b));

  testing::bench silent;  // and then nothing, for ever
  silent.to_holding();
  silent.bytes(engine_error);
  silent.wait(700s);
  CHECK(silent.client == engine_error);
  CHECK(silent.why() == reason::engine_error_event);
  CHECK(at_rest(silent));
}

TEST_CASE("flow: a stream without its marker ends with exactly one error event") {
  testing::bench b;
  b.to_holding();
  b.bytes(role);
  b.bytes(token);
  b.bytes(bytes_view(token).substr(0, 50));  // and half an event
  const std::string line = b.on(engine_end{});
  CHECK(line.rfind("engine_failed(reset), give_up_work, drop_engine, write(", 0) == 0);
  CHECK(b.client.rfind(fmt::format("{}{}data: {{\"error\":", role, token), 0) == 0);
  CHECK(count(b.client, "\"error\"") == 1);
  CHECK(count(b.client, "[DONE]") == 0);
  CHECK(count(b.client, "\"code\":\"engine_no_end_marker\"") == 1);
  CHECK(b.ends == 1);
  CHECK(b.why() == reason::engine_no_end_marker);
  CHECK(at_rest(b));
}

TEST_CASE("flow: a stream cut at any byte gives whole events and one error event") {
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    testing::bench b;
    b.facts.client_wants_usage = true;
    b.to_holding(1);
    b.bytes(bytes_view(whole).substr(0, cut));
    b.on(engine_lost{false});
    CAPTURE(cut);
    REQUIRE(at_rest(b));
    const std::size_t passed = b.client.find("data: {\"error\":");
    if (!b.flow.committed()) {
      REQUIRE(b.errors == 1);
      REQUIRE(b.why() == reason::engine_reset);
      REQUIRE(b.client.empty());
      continue;
    }
    REQUIRE(passed != std::string::npos);
    REQUIRE(whole.compare(0, passed, b.client, 0, passed) == 0);
    REQUIRE(b.client.compare(passed - 2, 2, "\n\n") == 0);
    REQUIRE(b.client.find("data: ", passed + 1) == std::string::npos);
    REQUIRE(b.ends == 1);
    REQUIRE(b.why() == reason::engine_cut);
  }
}

TEST_CASE("flow: an end marker that lacks its blank line passes as it is, where the answer is not cut") {
  const std::string text = fmt::format("{}{}data: [DONE]\n", role, token);
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    CAPTURE(cut);
    testing::bench b;
    b.to_holding();
    b.bytes(bytes_view(text).substr(0, cut));
    b.bytes(bytes_view(text).substr(cut));
    b.on(engine_end{});
    REQUIRE(b.client == text);
    REQUIRE(b.why() == reason::ok);
    REQUIRE(at_rest(b));
  }
  testing::bench lost;
  lost.to_holding();
  lost.bytes(text);
  lost.on(engine_lost{false});
  CHECK(lost.why() == reason::engine_cut);
}

TEST_CASE("flow: garbage is told from a cut, before and after the commit") {
  for (const std::string_view type : {"text/event-stream", "application/json"}) {
    testing::bench early;
    early.to_waiting(1);
    early.on(engine_lost{true, leg::answer, "its head is too large"});
    CHECK(early.why() == reason::engine_garbage);
    CHECK(early.flow.error().message.find("is not valid HTTP: its head is too large. ") != std::string::npos);
    testing::bench late;
    late.to_waiting(1);
    late.head(200, type);
    late.bytes(token);
    late.on(engine_lost{true});
    CHECK(late.why() == reason::engine_garbage);
    CHECK(late.faults.size() == 1);
    CHECK(at_rest(late));
  }
}

TEST_CASE(
    "flow: a cut inside an event above the limit cuts the answer, since no event fits behind half of one") {
  config c = settings();
  c.limits.event_bytes = 64;
  testing::bench b(c);
  b.to_holding();
  b.bytes(token.substr(0, 100));
  CHECK(b.client == token.substr(0, 100));
  b.on(engine_lost{false});
  CHECK(b.client == token.substr(0, 100));
  CHECK(b.aborts == 1);
  CHECK(at_rest(b));

  testing::bench between(c);
  between.to_holding();
  between.bytes(token);
  between.on(engine_lost{false});
  CHECK(count(between.client, "\"error\"") == 1);
  CHECK(between.ends == 1);
}

TEST_CASE("flow: a first token inside an event above the limit is a first token") {
  config c = settings();
  c.limits.event_bytes = 64;
  testing::bench b(c);
  b.to_holding();
  CHECK(b.bytes(token) == fmt::format("first_token, answer_head(sse), write({})", token.size()));
  CHECK(b.wait(9s).empty());
  b.bytes(token);
  CHECK(b.wait(9s).empty());
  b.bytes(token);
  b.wait(9s);
  b.bytes(token);
  b.wait(9s);  // past the deadline of the first token
  CHECK_FALSE(b.done());
}

TEST_CASE("flow: any number of dropped events in one piece keep the batch bounded") {
  std::string piece, expected;
  for (int i = 0; i < 400; ++i) {
    piece += fmt::format("{}data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":1}}}}\n\n", token);
    expected += token;
  }
  testing::bench b;
  b.to_holding();
  b.bytes(piece);
  b.bytes(end_marker);
  b.on(engine_end{});
  CHECK(b.client == expected + std::string(end_marker));
  CHECK(b.flow.record().content_events == 400);
}

TEST_CASE("flow: other dialects end and fail in their own shape") {
  testing::bench m(settings(), api_kind::messages);
  m.to_holding();
  // Recorded from vLLM 0.32.0.
  m.bytes(
      "event: message_start\ndata: "
      "{\"type\":\"message_start\",\"message\":{\"id\":\"chatcmpl-a09f34681f6af153\"}}\n\n");
  CHECK(m.client.empty());
  m.bytes(
      "event: content_block_delta\ndata: "
      "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\","
      "\"text\":\" conversion\"},\"index\":0}\n\n");
  m.on(engine_lost{false});
  CHECK(count(m.client, "event: error\ndata: {\"type\":\"error\"") == 1);
  CHECK(count(m.client, "message_stop") == 0);

  testing::bench r(settings(), api_kind::responses);
  r.to_holding();
  r.bytes(
      "event: response.created\ndata: "
      "{\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":"
      "\"resp_b0278e7468bb1812\"}}\n\n");
  CHECK(r.client.empty());
  r.bytes(
      "event: response.output_text.delta\ndata: "
      "{\"type\":\"response.output_text.delta\",\"sequence_number\":4,"
      "\"delta\":\"x\"}\n\n");
  r.on(engine_end{});
  CHECK(count(r.client,
              "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":5") == 1);
  CHECK(count(r.client, "resp_b0278e7468bb1812") == 2);
  CHECK(r.flow.response_id() == "resp_b0278e7468bb1812");
}
