// Answers that are not scanned: JSON, errors, encoded streams.
#include <doctest/doctest.h>

#include "unit/proxy/flow/bench.hpp"

using namespace penstock;
using namespace penstock::flow;
using namespace penstock::flow::testing;

namespace {

constexpr std::string_view answer =
    R"({"id":"chatcmpl-1","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":23,"total_tokens":27,"completion_tokens":4}})";

testing::bench json_request(std::size_t candidates = 3) {
  testing::bench b;
  b.facts.stream = false;
  b.to_waiting(candidates);
  return b;
}

}  // namespace

TEST_CASE("flow: a JSON answer passes byte for byte and is counted, however it is cut") {
  for (std::size_t cut = 0; cut <= answer.size(); ++cut) {
    testing::bench b;
    b.facts.stream = false;
    b.to_waiting();
    b.head(200, "application/json");
    if (cut != 0) b.bytes(answer.substr(0, cut));
    if (cut != answer.size()) b.bytes(answer.substr(cut));
    REQUIRE(b.on(engine_end{}) == "end_answer, complete_work, keep_engine, finish");
    REQUIRE(b.client == answer);
    REQUIRE(b.heads == 1);
    REQUIRE(b.flow.record().usage.prompt == 23);
    REQUIRE(b.flow.record().usage.completion == 4);
    REQUIRE(b.why() == reason::ok);
    REQUIRE(at_rest(b));
  }
}

TEST_CASE("flow: the head goes out with the first byte, so a death before it can be tried again") {
  testing::bench b;
  b.facts.stream = false;
  b.to_waiting();
  CHECK(b.head(200, "application/json").empty());
  CHECK(b.on(engine_lost{false}) == "engine_failed(reset), give_up_work, drop_engine, connect");
  CHECK(b.target() == 1);
  b.asked_again();
  b.head(200, "application/json");
  CHECK(b.bytes("{") == "answer_head, write(1)");
  CHECK(b.on(engine_lost{false}) == "engine_failed(reset), give_up_work, drop_engine, abort_answer, finish");
  CHECK(b.why() == reason::engine_cut);
  CHECK(at_rest(b));
}

TEST_CASE("flow: an answer without a body is an answer") {
  testing::bench b;
  b.facts.stream = false;
  b.to_waiting();
  b.head(204, "application/json");
  CHECK(b.on(engine_end{}) == "answer_head, end_answer, complete_work, keep_engine, finish");
  CHECK(b.flow.record().status == 204);
}

TEST_CASE("flow: an encoded stream passes unscanned") {
  testing::bench b;
  b.to_waiting();
  b.head(200, "text/event-stream", "gzip");
  CHECK(b.flow.where() == state::relaying);
  CHECK(b.bytes("\x1f\x8b") == "answer_head, write(2)");
  CHECK(b.wait(9s).empty());
  b.bytes("..");
  b.wait(11s);
  CHECK(b.why() == reason::event_timeout);
  CHECK(b.aborts == 1);  // bytes of ours have no place in it
  testing::bench plain;
  plain.to_waiting();
  plain.head(200, "text/event-stream", "identity");
  CHECK(plain.flow.where() == state::holding);
}

TEST_CASE("flow: engine errors pass as they are, 500 without a retry") {
  struct row {
    int status;
    reason why;
    std::size_t faults;
  };
  for (const row& r : {row{500, reason::engine_error, 1}, row{502, reason::engine_error, 1},
                       row{400, reason::engine_refused, 0}, row{404, reason::engine_refused, 0}}) {
    for (const bool stream : {false, true}) {
      testing::bench b;
      b.facts.stream = stream;
      b.to_waiting();
      b.head(r.status, "application/json");
      b.bytes("{\"error\":1}");
      const std::string line = b.on(engine_end{});
      CAPTURE(r.status);
      CHECK(line == "end_answer, give_up_work, keep_engine, finish");
      CHECK(b.client == "{\"error\":1}");
      CHECK(b.why() == r.why);
      CHECK(b.flow.record().status == r.status);
      CHECK(b.flow.record().attempts == 1);
      CHECK(b.faults.size() == r.faults);
      CHECK(at_rest(b));
    }
  }
}

TEST_CASE("flow: without a first token its predicted moment frees the prefill, once an attempt") {
  testing::bench b = json_request();
  b.flow.predict_prefill(b.now, 400ms);
  CHECK(b.wait(399ms).empty());
  CHECK(b.wait(1ms) == "first_token(predicted)");
  CHECK(b.wait(60s).empty());
  CHECK(b.on(engine_lost{false}) == "engine_failed(reset), give_up_work, drop_engine, connect");
  b.asked_again();
  b.flow.predict_prefill(b.now, 100ms);
  CHECK(b.wait(100ms) == "first_token(predicted)");
  b.head(200, "application/json");
  b.bytes(answer);
  b.on(engine_end{});
  CHECK(at_rest(b));
  CHECK(b.flow.record().first_token == instant{});
}

TEST_CASE("flow: a JSON answer may take its time before its first byte, not inside it") {
  testing::bench b = json_request();
  b.head(200, "application/json");
  CHECK(b.wait(500s).empty());
  b.bytes("{");
  CHECK_FALSE(b.wait(11s).empty());
  CHECK(b.why() == reason::event_timeout);
  CHECK(b.aborts == 1);
  CHECK(b.faults == std::vector{fault::timeout});
  CHECK(at_rest(b));
}

TEST_CASE("flow: an answer to embeddings is never scanned, whatever its type says") {
  testing::bench b(settings(), api_kind::embeddings);
  b.facts.stream = false;
  b.to_waiting();
  b.head(200, "text/event-stream");
  CHECK(b.flow.where() == state::relaying);
  b.bytes("anything");
  b.on(engine_end{});
  CHECK(b.client == "anything");
  CHECK(b.why() == reason::ok);
}
