#include "proxy/io/access_log.hpp"

#include <doctest/doctest.h>
#include <simdjson.h>

#include <limits>
#include <string>

using namespace penstock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {

simdjson::dom::element parsed(simdjson::dom::parser& parser, const account_record& r) {
  std::string room;
  const std::string line(io::access_line(room, r, 1'795'369'854'000'123));
  REQUIRE(line.size() > 2);
  CHECK(line.back() == '\n');
  CHECK(line.find('\n') == line.size() - 1);
  simdjson::dom::element json;
  REQUIRE(parser.parse(line).get(json) == simdjson::SUCCESS);
  return json;
}

std::string_view text(simdjson::dom::element e, const char* key) { return std::string_view(e[key]); }
bool has(simdjson::dom::element e, const char* key) { return e[key].error() == simdjson::SUCCESS; }

account_record whole() {
  account_record r;
  r.api = api_kind::chat;
  r.request_id = "req-1";
  r.trace_parent = "00-aa-bb-01";
  r.client = "127.0.0.1:1";
  r.method = "POST";
  r.path = "/v1/chat/completions";
  r.model = "tiny";
  r.pool = "main";
  r.endpoint_url = "http://e:1";
  r.stream = true;
  r.status = 200;
  r.attempts = 2;
  r.bytes_in = 10;
  r.bytes_out = 20;
  r.events = 7;
  r.content_events = 5;
  r.prompt_blocks = 4;
  r.hit_blocks = 3;
  r.queue_tokens = 12.7;
  r.accepted = instant(milliseconds(1000));
  r.body_done = instant(milliseconds(1002));
  r.dispatched = instant(milliseconds(1003));
  r.sent = instant(milliseconds(1004));
  r.first_byte = instant(milliseconds(1005));
  r.first_token = instant(milliseconds(1100)) + microseconds(7);
  r.ended = instant(milliseconds(2000));
  r.longest_gap = milliseconds(33);
  r.usage = {.prompt = 23, .completion = 12, .cached = 16, .known = true, .cached_known = true};
  return r;
}

}  // namespace

TEST_CASE("access_log: one JSON line with everything that applies") {
  simdjson::dom::parser parser;
  const auto e = parsed(parser, whole());
  CHECK(text(e, "time") == "2026-11-22T17:50:54.000123Z");
  CHECK(text(e, "request_id") == "req-1");
  CHECK(text(e, "traceparent") == "00-aa-bb-01");
  CHECK(text(e, "client") == "127.0.0.1:1");
  CHECK(text(e, "method") == "POST");
  CHECK(text(e, "path") == "/v1/chat/completions");
  CHECK(text(e, "api") == "chat");
  CHECK(text(e, "model") == "tiny");
  CHECK(bool(e["stream"]));
  CHECK(std::uint64_t(e["status"]) == 200);
  CHECK(text(e, "reason") == "ok");
  CHECK(text(e, "pool") == "main");
  CHECK(text(e, "endpoint") == "http://e:1");
  CHECK(std::uint64_t(e["attempts"]) == 2);
  CHECK(text(e, "policy") == "prefix");
  CHECK(text(e, "choice") == "only_candidate");
  CHECK(std::uint64_t(e["hit_blocks"]) == 3);
  CHECK(std::uint64_t(e["queue_tokens"]) == 12);
  CHECK(double(e["body_ms"]) == doctest::Approx(2));
  CHECK(double(e["ours_ms"]) == doctest::Approx(1));
  CHECK(double(e["queue_ms"]) == doctest::Approx(1));
  CHECK(double(e["ttft_ms"]) == doctest::Approx(100.007).epsilon(1e-9));
  CHECK(double(e["total_ms"]) == doctest::Approx(1000));
  CHECK(double(e["longest_gap_ms"]) == doctest::Approx(33));
  CHECK(std::uint64_t(e["bytes_in"]) == 10);
  CHECK(std::uint64_t(e["bytes_out"]) == 20);
  CHECK(std::uint64_t(e["events"]) == 7);
  CHECK(std::uint64_t(e["prompt_tokens"]) == 23);
  CHECK(std::uint64_t(e["completion_tokens"]) == 12);
  CHECK(std::uint64_t(e["cached_tokens"]) == 16);
}

TEST_CASE("access_log: time held back is told apart from what deciding took") {
  simdjson::dom::parser parser;
  account_record r = whole();
  r.held = std::chrono::milliseconds(700);
  r.dispatched += r.held;
  r.sent += r.held;
  const auto e = parsed(parser, r);
  CHECK(double(e["held_ms"]) == doctest::Approx(700));
  CHECK(double(e["ours_ms"]) == doctest::Approx(1));
}

TEST_CASE("access_log: what does not apply is left out") {
  simdjson::dom::parser parser;
  account_record r;
  r.why = reason::bad_http;
  r.status = 400;
  const auto e = parsed(parser, r);
  CHECK(text(e, "reason") == "bad_http");
  for (const char* key : {"request_id", "traceparent", "model", "pool", "endpoint", "policy", "ttft_ms",
                          "total_ms", "prompt_tokens", "cached_tokens", "events", "longest_gap_ms"})
    CHECK_FALSE(has(e, key));
  account_record uncached = whole();
  uncached.usage.cached_known = false;
  const auto u = parsed(parser, uncached);
  CHECK(has(u, "prompt_tokens"));
  CHECK_FALSE(has(u, "cached_tokens"));
}

TEST_CASE("access_log: every reason and hostile text is valid JSON") {
  simdjson::dom::parser parser;
  for (std::size_t i = 0; i < reason_count; ++i) {
    account_record r = whole();
    r.why = static_cast<reason>(i);
    r.model = "a\"b\\c\nd\x01\xff\xc3\xa9";
    r.queue_tokens = -5;
    const auto e = parsed(parser, r);
    CHECK(text(e, "reason") == name(r.why));
    CHECK(text(e, "model") == "a\"b\\c\nd\x01\xef\xbf\xbd\xc3\xa9");
    CHECK(std::uint64_t(e["queue_tokens"]) == 0);
  }
}

TEST_CASE("access_log: instants out of order are no time, not a wrapped one") {
  simdjson::dom::parser parser;
  account_record r = whole();
  r.sent = r.dispatched - milliseconds(5);
  CHECK(double(parsed(parser, r)["queue_ms"]) == 0);
}

TEST_CASE("access_log: the longest of everything has room, and the room serves again") {
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  account_record r = whole();
  for (std::string* s : {&r.request_id, &r.trace_parent, &r.client, &r.method, &r.path, &r.model, &r.pool,
                         &r.endpoint_url, &r.prefill_url})
    s->assign(300, '\x01');
  r.split = split_choice::told_not_to;
  r.handoff = "withdrawn";
  r.attempts = r.prompt_blocks = r.hit_blocks = r.in_flight = std::numeric_limits<std::uint32_t>::max();
  r.bytes_in = r.bytes_out = r.events = r.content_events = r.predicted_prompt = r.predicted_cached = most;
  r.usage = {.prompt = most, .completion = most, .cached = most, .known = true, .cached_known = true};
  r.queue_tokens = r.score = 1e18;
  r.engine_asked = r.accepted = r.body_done = r.dispatched = r.sent = r.prefill_done = instant(duration(1));
  r.first_byte = r.first_token = r.ended = instant(duration(std::numeric_limits<std::int64_t>::max()));
  r.longest_gap = r.predicted_prefill = std::chrono::hours(24 * 365 * 100);
  std::string room;
  const std::string first(io::access_line(room, r, 1'795'369'854'000'123));
  CHECK(first.size() < room.size());
  CHECK(io::access_line(room, whole(), 1'795'369'854'000'123).size() < 1000);
  CHECK(io::access_line(room, r, 1'795'369'854'000'123) == first);
  simdjson::dom::parser parser;
  CHECK(text(parsed(parser, r), "model") == r.model);
}
