#include "proxy/http/request_parser.hpp"

#include <doctest/doctest.h>

#include <string>

#include "unit/proxy/http/pieces.hpp"

using namespace penstock;
using namespace penstock::http;

namespace {

parse_result feed(request_parser& p, bytes_view in) {
  body_spans spans;
  return p.feed(in, spans);
}

// As openai-python 2.x sends it.
const std::string sdk_head =
    "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept-Encoding: gzip, deflate\r\n"
    "Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
    "User-Agent: OpenAI/Python 2.8.1\r\nX-Stainless-Lang: python\r\nX-Stainless-OS: Linux\r\n"
    "Authorization: Bearer sk-test\r\nContent-Length: 12\r\n\r\n";

}  // namespace

TEST_CASE("a head gives views of its fields that stay until next") {
  request_parser p({});
  std::string raw = sdk_head;
  REQUIRE(p.idle());
  REQUIRE(feed(p, raw).status == parse_status::head);
  raw.assign(raw.size(), '#');
  const request_head& h = p.head();
  CHECK(h.method == "POST");
  CHECK(h.target == "/v1/chat/completions");
  CHECK(h.minor_version == 1);
  CHECK(h.fields.size() == 10);
  CHECK(h.framing == body_framing::length);
  CHECK(h.content_length == 12);
  CHECK(h.keep_alive);
  CHECK_FALSE(h.expect_continue);
  REQUIRE(find(h.fields, "user-AGENT") != nullptr);
  CHECK(find(h.fields, "user-agent")->value == "OpenAI/Python 2.8.1");
  CHECK(find(h.fields, "nothing") == nullptr);
  CHECK_FALSE(p.idle());
}

TEST_CASE("head and body come in separate calls and the rest is left alone") {
  request_parser p({});
  const std::string raw = sdk_head + "{\"a\": 12345}GET / HTTP/1.1\r\n";
  parse_result r = feed(p, raw);
  CHECK(r.status == parse_status::head);
  CHECK(r.consumed == sdk_head.size());
  body_spans spans;
  r = p.feed(bytes_view(raw).substr(r.consumed), spans);
  CHECK(r.status == parse_status::complete);
  CHECK(r.consumed == 12);
  REQUIRE(spans.size() == 1);
  CHECK(spans[0] == "{\"a\": 12345}");
  CHECK(spans[0].data() == raw.data() + sdk_head.size());
  CHECK(feed(p, "GET").status == parse_status::complete);
  CHECK(feed(p, "GET").consumed == 0);
}

TEST_CASE("a message without a body completes on the call after its head") {
  request_parser p({});
  CHECK(feed(p, "GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n").status == parse_status::head);
  CHECK(feed(p, "").status == parse_status::complete);
  p.next();
  CHECK(p.idle());
  CHECK(p.head().fields.empty());
  CHECK(feed(p, "").status == parse_status::more);
}

TEST_CASE("body bytes may be read straight into their place") {
  request_parser p({});
  CHECK(p.wanted_directly() == 0);
  feed(p, sdk_head);
  CHECK(p.wanted_directly() == 12);
  body_spans spans;
  CHECK(p.feed("{\"a\"", spans).status == parse_status::more);
  CHECK(p.wanted_directly() == 8);
  CHECK_FALSE(p.took_directly(3));
  CHECK(p.took_directly(5));
  CHECK(p.wanted_directly() == 0);
  CHECK(feed(p, "").status == parse_status::complete);
}

TEST_CASE("chunks fill at most the spans there are") {
  request_parser p({});
  std::string raw = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 200; ++i) raw += "1\r\nx\r\n";
  raw += "0\r\n\r\n";
  bytes_view rest = raw;
  parse_result r = feed(p, rest);
  CHECK(p.wanted_directly() == 0);
  std::size_t bytes = 0, calls = 0;
  while (r.status != parse_status::complete) {
    rest.remove_prefix(r.consumed);
    body_spans spans;
    r = p.feed(rest, spans);
    REQUIRE(r.status != parse_status::failed);
    REQUIRE(r.status != parse_status::more);
    bytes += spans.size();
    ++calls;
  }
  CHECK(bytes == 200);
  CHECK(calls == 4);
  CHECK(r.consumed == rest.size());
}

TEST_CASE("keep-alive follows version and Connection") {
  const auto keeps = [](const std::string& head) {
    request_parser p({});
    REQUIRE(feed(p, head).status == parse_status::head);
    return p.head().keep_alive;
  };
  CHECK(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  CHECK_FALSE(keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
  CHECK_FALSE(keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"));
  CHECK_FALSE(keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n"));
  CHECK(keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n"));
  CHECK_FALSE(keeps("GET / HTTP/1.0\r\n\r\n"));
  CHECK(keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
}

TEST_CASE("Expect counts in HTTP/1.1 only") {
  request_parser p({});
  feed(p, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n");
  CHECK(p.head().expect_continue);
  request_parser old({});
  feed(old, "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
  CHECK_FALSE(old.head().expect_continue);
}

TEST_CASE("a failure is final, keeps nothing of the head and says what to do") {
  request_parser p({});
  CHECK(feed(p, "BREW /pot HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n").status ==
        parse_status::failed);
  CHECK(p.error().why == reason::not_implemented);
  CHECK(p.error().message == "This method is not known here; use GET, POST, HEAD or OPTIONS.");
  CHECK(p.head().method.empty());
  CHECK_FALSE(p.head().keep_alive);
  p.next();
  CHECK(feed(p, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == parse_status::failed);
}

TEST_CASE("a head of exactly the limit passes, one byte more does not") {
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  request_parser fits({head.size(), 10});
  CHECK(feed(fits, head).status == parse_status::head);
  request_parser small({head.size() - 1, 10});
  CHECK(feed(small, head).status == parse_status::failed);
  CHECK(small.error().why == reason::head_too_large);
}

TEST_CASE("a moved parser goes on") {
  request_parser a({});
  feed(a, "GET / HTTP/1.1\r\nHo");
  request_parser b(std::move(a));
  CHECK(feed(b, "st: a\r\n\r\n").status == parse_status::head);
  CHECK(b.head().target == "/");
}
