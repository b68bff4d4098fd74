#include "proxy/http/response_parser.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>

#include "unit/proxy/http/pieces.hpp"

using namespace penstock;
using namespace penstock::http;

namespace {

struct response_case {
  std::string what;
  bool head_request;
  std::string raw;
  std::string
      expected;  // "status framing body|" then "complete", "closed" (proper end by closing), "cut", "garbage"
};

std::string_view name_of(body_framing f) {
  constexpr std::string_view names[] = {"none", "length", "chunked", "until_close"};
  return names[static_cast<std::size_t>(f)];
}

// `before`: an answer without a body that the same parser read first; empty: none.
std::string outcome(const test::pieces& pieces, bool head_request, bytes_view before = {}) {
  response_parser parser(512);
  if (!before.empty()) {
    body_spans none;
    parser.expect(false);
    REQUIRE(parser.feed(before, none).status == parse_status::head);
  }
  parser.expect(head_request);
  std::string body;
  bool complete = false;
  for (bytes_view rest : pieces) {
    parse_status last = parse_status::progress;
    while (last != parse_status::more && last != parse_status::complete) {
      body_spans spans;
      const parse_result r = parser.feed(rest, spans);
      for (const bytes_view s : spans) body.append(s);
      rest.remove_prefix(r.consumed);
      last = r.status;
      if (last == parse_status::failed) {
        CHECK_FALSE(parser.fault().empty());
        return "garbage";
      }
    }
    complete |= last == parse_status::complete;
  }
  const char* end = complete ? "complete" : parser.finish() ? "closed" : "cut";
  if (parser.head().status == 0) return end;
  return fmt::format("{} {} {}|{}", parser.head().status, name_of(parser.head().framing), body, end);
}

const response_case cases[] = {
    {"sized", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "200 length hi|complete"},
    {"sized, cut", false, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", "200 length hi|cut"},
    {"length zero", false, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 none |complete"},
    {"chunked", false, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
     "200 chunked hi|complete"},
    {"chunked, cut", false, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
     "200 chunked hi|cut"},
    {"until close", false, "HTTP/1.1 200 OK\r\n\r\nhello", "200 until_close hello|closed"},
    {"until close in HTTP/1.0", false, "HTTP/1.0 200 OK\r\n\r\nhello", "200 until_close hello|closed"},
    {"no phrase", false, "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", "200 length x|complete"},
    {"no space before the missing phrase", false, "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx",
     "200 length x|complete"},
    {"204", false, "HTTP/1.1 204 No Content\r\n\r\n", "204 none |complete"},
    {"304 with a length", false, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
     "304 none |complete"},
    {"HEAD with a length", true, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "200 none |complete"},
    {"HEAD with a coding", true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
     "200 none |complete"},
    {"100 first", false, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
     "200 length hi|complete"},
    {"103 with fields first", false,
     "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
     "200 length hi|complete"},
    {"Upgrade offered on a 200", false,
     "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
     "200 length hi|complete"},
    {"cut in the head", false, "HTTP/1.1 200 OK\r\nContent-Le", "cut"},
    {"nothing", false, "", "cut"},
    {"101", false, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
     "garbage"},
    {"100 with a body", false, "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nhi", "garbage"},
    {"CL and TE", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi",
     "garbage"},
    {"two lengths", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", "garbage"},
    {"signed length", false, "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", "garbage"},
    {"unknown coding", false, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi", "garbage"},
    {"coding in HTTP/1.0", false, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     "garbage"},
    {"bad chunk size", false, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n",
     "garbage"},
    {"bare LF", false, "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", "garbage"},
    {"obs-fold", false, "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nhi", "garbage"},
    {"space before the colon", false, "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi", "garbage"},
    {"not HTTP", false, "hello\r\n\r\n", "garbage"},
    {"HTTP/2.0", false, "HTTP/2.0 200 OK\r\n\r\n", "garbage"},
    {"status of two digits", false, "HTTP/1.1 20 OK\r\n\r\n", "garbage"},
    {"status of four digits", false, "HTTP/1.1 2000 OK\r\n\r\n", "garbage"},
    {"status 099", false, "HTTP/1.1 099 OK\r\n\r\n", "garbage"},
    {"status 600", false, "HTTP/1.1 600 OK\r\n\r\n", "garbage"},
    {"head too large", false, "HTTP/1.1 200 OK\r\nX: " + std::string(600, 'a') + "\r\n\r\n", "garbage"},
};

}  // namespace

TEST_CASE("every answer of the corpus comes to the same end however it is cut") {
  for (const response_case& c : cases) {
    CAPTURE(c.what);
    std::size_t wrong = 0;
    std::string first;
    const auto check = [&](const test::pieces& pieces) {
      const std::string result = outcome(pieces, c.head_request);
      if (result != c.expected && wrong++ == 0) first = result;
    };
    test::each_cut(c.raw, check);
    test::each_pair_of_cuts(c.raw, c.raw.size() > 200 ? 17 : 1, check);
    CAPTURE(first);
    CHECK(wrong == 0);
  }
}

TEST_CASE("a connection that knows the lines from the answer before comes to the same end") {
  for (const response_case& c : cases) {
    CAPTURE(c.what);
    std::string good = "HTTP/1.1 204 No Content\r\n";
    const bytes_view raw = c.raw;
    for (std::size_t at = 0, end = 0; (end = raw.find('\n', at)) != bytes_view::npos; at = end + 1) {
      const std::string more = good + std::string(raw.substr(at, end + 1 - at));
      if (raw[at] != '\r' && outcome({more + "\r\n"}, false) == "204 none |complete") good = more;
    }
    CHECK(outcome({c.raw}, c.head_request, good + "\r\n") == c.expected);
  }
}

TEST_CASE("one parser reads one answer after the other") {
  response_parser p;
  body_spans spans;
  for (int i = 0; i < 3; ++i) {
    p.expect(false);
    const std::string head = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n";
    CHECK(p.feed(head, spans).status == parse_status::head);
    CHECK(p.head().phrase == "Too Many Requests");
    CHECK(p.head().keep_alive);
    spans.clear();
    const parse_result r = p.feed("hiHTTP/1.1", spans);
    CHECK(r.status == parse_status::complete);
    CHECK(r.consumed == 2);
    CHECK(p.finish());
  }
}

TEST_CASE("endless interim answers are garbage") {
  response_parser p;
  p.expect(false);
  parse_status last = parse_status::more;
  body_spans spans;
  for (int i = 0; i < 100 && last == parse_status::more; ++i) {
    last = p.feed("HTTP/1.1 102 Processing\r\n\r\n", spans).status;
  }
  CHECK(last == parse_status::failed);
}

TEST_CASE("an answer whose end is unclear leaves no connection to reuse") {
  response_parser p;
  body_spans spans;
  p.expect(false);
  p.feed("HTTP/1.1 200 OK\r\n\r\n", spans);
  CHECK_FALSE(p.head().keep_alive);
  p.expect(false);
  p.feed("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", spans);
  CHECK(p.head().framing == body_framing::none);
  CHECK_FALSE(p.head().keep_alive);
}
