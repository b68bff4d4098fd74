#include "proxy/http/shapes.hpp"

#include <doctest/doctest.h>

#include <simdjson.h>

#include <fstream>
#include <iterator>
#include <string>

#include "proxy/http/sse_scanner.hpp"
#include "unit/source_dir.hpp"

using namespace penstock;
using namespace penstock::http;

namespace {

// The value at a JSON pointer as text; strings without quotes.
std::string at(const std::string& text, const char* pointer) {
  simdjson::dom::parser parser;
  const simdjson::padded_string padded(text);
  simdjson::dom::element value;
  if (parser.parse(padded).at_pointer(pointer).get(value) != simdjson::SUCCESS) return "?";
  std::string_view s;
  if (value.get(s) == simdjson::SUCCESS) return std::string(s);
  return simdjson::minify(value);
}

std::string data_of(const std::string& event) {
  const std::size_t begin = event.find("data: ") + 6;
  return event.substr(begin, event.size() - begin - 2);
}

}  // namespace

TEST_CASE("OpenAI's error object has all four members") {
  const std::string body =
      error_body(dialect::openai, {reason::invalid_field, "wrong \"type\"", "messages[0]", 0, 0}, "req-1");
  CHECK(
      body ==
      R"({"error":{"message":"wrong \"type\"","type":"invalid_request_error","param":"messages[0]","code":"invalid_field"}})");
  CHECK(at(error_body(dialect::openai, {reason::no_endpoint, "", "", 0, 1}, ""), "/error/param") == "null");
  CHECK(at(error_body(dialect::responses, {reason::no_endpoint, "x", "", 0, 1}, ""), "/error/type") ==
        "server_error");
  CHECK(at(error_body(dialect::openai, {reason::engine_overloaded, "x", "", 429, 1}, ""), "/error/type") ==
        "rate_limit_error");
}

TEST_CASE("every reason makes a whole error in every dialect") {
  for (std::size_t i = 0; i < reason_count; ++i) {
    const api_error e{static_cast<reason>(i), "", "", 0, 0};
    CHECK(status_of(e) >= 200);
    CHECK(at(error_body(dialect::openai, e, "r"), "/error/code") == name(e.why));
    CHECK(!at(error_body(dialect::openai, e, "r"), "/error/type").empty());
    CHECK(!at(error_body(dialect::openai, e, "r"), "/error/message").empty());
    CHECK(at(error_body(dialect::anthropic, e, "r"), "/type") == "error");
    CHECK(at(error_body(dialect::anthropic, e, "r"), "/request_id") == "r");
  }
}

TEST_CASE("Anthropic's error types") {
  const auto type = [](reason why, std::uint16_t status = 0) {
    return at(error_body(dialect::anthropic, {why, "x", "", status, 0}, ""), "/error/type");
  };
  CHECK(type(reason::invalid_json) == "invalid_request_error");
  CHECK(type(reason::model_not_found) == "not_found_error");
  CHECK(type(reason::body_too_large) == "request_too_large");
  CHECK(type(reason::no_endpoint) == "overloaded_error");
  CHECK(type(reason::first_token_timeout) == "timeout_error");
  CHECK(type(reason::engine_cut) == "api_error");
  CHECK(type(reason::engine_overloaded, 429) == "rate_limit_error");
  CHECK(type(reason::engine_refused, 401) == "authentication_error");
}

TEST_CASE("error events are one event that the scanner takes for an error, and no end marker") {
  const api_error e{reason::engine_cut, "line one\nline two", "", 0, 0};
  const struct {
    dialect d;
    api_kind api;
    event_kind kind;
  } shapes[] = {{dialect::openai, api_kind::chat, event_kind::error},
                {dialect::anthropic, api_kind::messages, event_kind::error},
                {dialect::responses, api_kind::responses, event_kind::end_marker}};
  for (const auto& s : shapes) {
    const std::string event = error_event(s.d, e, "req-1", {"resp_1", 7});
    sse_scanner scanner(s.api, 1 << 20);
    scanned_events found;
    CHECK(scanner.scan(event, found) == event.size());
    REQUIRE(found.size() == 1);
    CHECK(found[0].kind == s.kind);
    CHECK(found[0].bytes == event);
    CHECK(scanner.error_seen());
    CHECK(scanner.held() == 0);
  }
}

TEST_CASE("a failed response has the members that SDKs require") {
  const std::string event =
      error_event(dialect::responses, {reason::engine_cut, "it broke", "", 0, 0}, "req-1", {"resp_9", 7});
  CHECK(event.substr(0, 30) == "event: response.failed\ndata: {");
  const std::string json = data_of(event);
  CHECK(at(json, "/type") == "response.failed");
  CHECK(at(json, "/sequence_number") == "7");
  CHECK(at(json, "/response/id") == "resp_9");
  CHECK(at(json, "/response/status") == "failed");
  CHECK(at(json, "/response/error/code") == "server_error");
  CHECK(at(json, "/response/error/message") == "it broke (engine_cut)");
  for (const char* member :
       {"object", "created_at", "incomplete_details", "instructions", "model", "tools", "output",
        "parallel_tool_calls", "metadata", "tool_choice", "temperature", "top_p"}) {
    CHECK(at(json, (std::string("/response/") + member).c_str()) != "?");
  }
  CHECK(at(data_of(error_event(dialect::responses, {reason::engine_cut, "x", "", 0, 0}, "req-1", {})),
           "/response/id") == "resp_req-1");
}

TEST_CASE("JSON strings come out valid whatever goes in") {
  const auto escaped = [](std::string_view s) {
    std::string out;
    append_json_escaped(out, s);
    return out;
  };
  CHECK(escaped("a\"b\\c\n\t\r\x01\x7f") == "a\\\"b\\\\c\\n\\t\\r\\u0001\\u007f");
  CHECK(escaped("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80") == "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  const std::string replacement = "\xEF\xBF\xBD";
  CHECK(escaped("\xC3") == replacement);
  CHECK(escaped("\xC0\xAF") == replacement + replacement);
  CHECK(escaped("\xED\xA0\x80") == replacement + replacement + replacement);
  CHECK(escaped("a\xFF"
                "b") == "a" + replacement + "b");
  for (int c = 0; c < 256; ++c) {
    const std::string text = "{\"x\":\"" + escaped(std::string(1, static_cast<char>(c))) + "\"}";
    CHECK((c == '?' || at(text, "/x") != "?"));
  }
}

TEST_CASE("README.md has the whole list of reasons, in order, with their statuses") {
  std::ifstream in(test::source_dir() + "/README.md");
  const std::string readme{std::istreambuf_iterator<char>(in), {}};
  std::size_t at = readme.find("| reason | status |");
  REQUIRE(at != std::string::npos);
  for (std::size_t i = 0; i < reason_count; ++i) {
    const reason_traits& t = traits(static_cast<reason>(i));
    const std::string status = t.status == 0 ? "-" : std::to_string(t.status);
    const std::size_t row = readme.find("| `" + std::string(t.name) + "` | " + status + " | ", at);
    CAPTURE(t.name);
    REQUIRE(row != std::string::npos);
    at = row;
  }
}
