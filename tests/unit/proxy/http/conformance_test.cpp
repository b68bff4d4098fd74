// One table of raw requests and what they must come to, run whole, byte by byte and at every two cuts.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>

#include "proxy/http/request_parser.hpp"
#include "unit/proxy/http/pieces.hpp"

using namespace penstock;
using namespace penstock::http;
using namespace std::string_literals;

namespace {

struct request_case {
  std::string what;
  std::string raw;
  std::string
      expected;  // "METHOD target body=...;" for each message, then the reason of a failure or "+" for a rest
};

constexpr request_limits small_limits{512, 8};

// What a parser makes of the pieces: every message, then how it ended. `before`: a request without a body
// that the same parser read first; empty: none.
std::string outcome(const test::pieces& pieces, bytes_view before = {}) {
  request_parser parser(small_limits);
  std::string out, body;
  if (!before.empty()) {
    body_spans none;
    REQUIRE(parser.feed(before, none).status == parse_status::head);
    REQUIRE(parser.feed({}, none).status == parse_status::complete);
    parser.next();
  }
  bool in_message = false;
  for (bytes_view rest : pieces) {
    for (;;) {
      body_spans spans;
      const parse_result r = parser.feed(rest, spans);
      for (const bytes_view s : spans) body.append(s);
      rest.remove_prefix(r.consumed);
      if (r.status == parse_status::failed) return out + std::string(name(parser.error().why));
      if (r.status == parse_status::head) in_message = true;
      if (r.status == parse_status::complete) {
        out += fmt::format("{} {} body={};", parser.head().method, parser.head().target, body);
        body.clear();
        in_message = false;
        parser.next();
      }
      if (r.status == parse_status::more) break;
      if (rest.empty() && !in_message) break;
    }
  }
  return parser.idle() ? out : out + "+";
}

const std::string host = "Host: a\r\n";

std::string post(const std::string& fields, const std::string& body = "") {
  return "POST /x HTTP/1.1\r\n" + host + fields + "\r\n" + body;
}
std::string get(const std::string& fields) { return "GET /x HTTP/1.1\r\n" + host + fields + "\r\n"; }
std::string chunked(const std::string& body) { return post("Transfer-Encoding: chunked\r\n", body); }

// A request with as many lines of `raw` as a parser takes: those are known to it when it reads `raw` next.
std::string with_good_lines_of(bytes_view raw) {
  std::string fields;
  for (std::size_t at = 0, end = 0; (end = raw.find('\n', at)) != bytes_view::npos; at = end + 1) {
    const std::string line(raw.substr(at, end + 1 - at));
    const std::string more = fields + line;
    if (line != "\r\n" && outcome({get(more)}) == "GET /x body=;") fields = more;
  }
  return get(fields);
}

const std::string ok = "POST /x body=;";
const std::string five = "POST /x body=hello;";
const std::string got = "GET /x body=;";

const request_case cases[] = {
    // What must work.
    {"plain GET", get(""), got},
    {"sized body", post("Content-Length: 5\r\n", "hello"), five},
    {"sized body, blanks around the number", post("Content-Length: \t 5 \r\n", "hello"), five},
    {"length zero", post("Content-Length: 0\r\n"), ok},
    {"no length, no body", post(""), ok},
    {"chunked body", chunked("5\r\nhello\r\n0\r\n\r\n"), five},
    {"two chunks", chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), five},
    {"chunk size with zeros in front", chunked("005\r\nhello\r\n00\r\n\r\n"), five},
    {"upper and lower case hex", chunked("a\r\n0123456789\r\nB\r\n0123456789A\r\n0\r\n\r\n"),
     "POST /x body=01234567890123456789A;"},
    {"coding in capitals", post("TRANSFER-ENCODING: CHUNKED\r\n", "0\r\n\r\n"), ok},
    {"chunk extension", chunked("5;a=b\r\nhello\r\n0;z=\"q r\"\r\n\r\n"), five},
    {"trailer", chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), five},
    {"pipelined", get("") + post("Content-Length: 5\r\n", "hello") + get(""), got + five + got},
    {"pipelined behind chunks", chunked("0\r\n\r\n") + get(""), ok + got},
    {"one blank line in front", "\r\n" + get(""), got},
    {"one blank line between", get("") + "\r\n" + get(""), got + got},
    {"HTTP/1.0 without Host", "GET /x HTTP/1.0\r\n\r\n", got},
    {"GET with a body", get("Content-Length: 2\r\n") + "hi", "GET /x body=hi;"},
    {"empty Host", "GET /x HTTP/1.1\r\nHost:\r\n\r\n", got},
    {"Host with port", "GET /x HTTP/1.1\r\nHost: a.b:8080\r\n\r\n", got},
    {"Host with IPv6", "GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", got},
    {"empty value", get("X-A:\r\nX-B: \r\n"), got},
    {"tab and high bytes in a value", get("X-A: a\tb \xC3\xA9\xFF\r\n"), got},
    {"absolute form", "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://a/x body=;"},
    {"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * body=;"},
    {"Upgrade is an ordinary message", get("Connection: Upgrade\r\nUpgrade: websocket\r\n") + get(""),
     got + got},
    {"Upgrade with a sized body",
     post("Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n", "hello") + get(""), five + got},
    {"Upgrade with chunks",
     post("Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n",
          "5\r\nhello\r\n0\r\n\r\n") +
         get(""),
     five + got},
    {"Connection: close, then more", get("Connection: close\r\n") + get(""), got + got},
    {"all methods",
     "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nPUT / HTTP/1.1\r\nHost: a\r\n\r\nDELETE / HTTP/1.1\r\nHost: a\r\n\r\n"
     "PATCH / HTTP/1.1\r\nHost: a\r\n\r\nTRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
     "HEAD / body=;PUT / body=;DELETE / body=;PATCH / body=;TRACE / body=;"},
    {"body that looks like a request", post("Content-Length: 18\r\n", "GET / HTTP/1.1\r\n\r\n"),
     "POST /x body=GET / HTTP/1.1\r\n\r\n;"},
    // Cut short.
    {"head not ended", "GET /x HTTP/1.1\r\nHost: a\r\n", "+"},
    {"body not ended", post("Content-Length: 5\r\n", "hell"), "+"},
    {"chunks not ended", chunked("5\r\nhello\r\n"), "+"},
    {"trailers not ended", chunked("0\r\nX: y\r\n"), "+"},
    // Length and coding.
    {"CL.TE", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "bad_framing"},
    {"TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), "bad_framing"},
    {"length 0 and coding", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
     "bad_framing"},
    {"two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), "bad_framing"},
    {"two equal lengths", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), "bad_framing"},
    {"list of lengths", post("Content-Length: 5, 5\r\n", "hello"), "bad_framing"},
    {"length with plus", post("Content-Length: +5\r\n", "hello"), "bad_framing"},
    {"length with minus", post("Content-Length: -5\r\n", "hello"), "bad_framing"},
    {"length with a tab behind", post("Content-Length: 5\t\r\n", "hello"), "bad_http"},
    {"coding with a tab behind", post("Transfer-Encoding: chunked\t\r\n", "0\r\n\r\n"), "bad_http"},
    {"length in hex", post("Content-Length: 0x5\r\n", "hello"), "bad_framing"},
    {"length with underscore", post("Content-Length: 1_0\r\n", "hello"), "bad_framing"},
    {"length with a space inside", post("Content-Length: 1 0\r\n", "hello"), "bad_framing"},
    {"length with leading zeros", post("Content-Length: 010\r\n", "hello"), "bad_framing"},
    {"empty length", post("Content-Length:\r\n"), "bad_framing"},
    {"length of 2^64", post("Content-Length: 18446744073709551616\r\n"), "bad_framing"},
    {"length of 2^64 + 5", post("Content-Length: 18446744073709551621\r\n", "hello"), "bad_framing"},
    {"length with a fraction", post("Content-Length: 5.0\r\n", "hello"), "bad_framing"},
    {"length with an exponent", post("Content-Length: 5e0\r\n", "hello"), "bad_framing"},
    {"length spelt with an underscore", post("Content_Length: 5\r\n", "hello"), "bad_framing"},
    {"coding spelt with an underscore", post("Transfer_Encoding: chunked\r\n"), "bad_framing"},
    {"unknown coding", post("Transfer-Encoding: gzip\r\n"), "bad_framing"},
    {"gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "bad_framing"},
    {"chunked twice in a list", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), "bad_framing"},
    {"chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
     "bad_framing"},
    {"chunked, then identity", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
     "bad_framing"},
    {"identity", post("Transfer-Encoding: identity\r\n"), "bad_framing"},
    {"xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), "bad_framing"},
    {"quoted chunked", post("Transfer-Encoding: \"chunked\"\r\n"), "bad_framing"},
    {"chunked with a parameter", post("Transfer-Encoding: chunked;a=b\r\n"), "bad_framing"},
    {"empty coding", post("Transfer-Encoding:\r\n"), "bad_framing"},
    {"coding with a vertical tab",
     post("Transfer-Encoding: \x0B"
          "chunked\r\n"),
     "bad_http"},
    {"coding in HTTP/1.0", "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "bad_framing"},
    // Chunk framing.
    {"chunk size 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"chunk size with underscore", chunked("0_5\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"chunk size with plus", chunked("+5\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"chunk size with minus", chunked("-5\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"chunk size with a space in front", chunked(" 5\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"chunk size with a space behind", chunked("5 \r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"chunk size with a tab behind", chunked("5\t\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"empty chunk size", chunked("\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"chunk size not hex", chunked("g\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"chunk size overflows", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"chunk size of 2^63", chunked("8000000000000000\r\nhello"), "bad_framing"},
    {"seventeen zeros", chunked("00000000000000005\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"bare LF after the size", chunked("5\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"bare CR after the size", chunked("5\rhello\r\n0\r\n\r\n"), "bad_framing"},
    {"bare LF after the data", chunked("5\r\nhello\n0\r\n\r\n"), "bad_framing"},
    {"no CRLF after the data", chunked("5\r\nhello0\r\n\r\n"), "bad_framing"},
    {"data longer than its size", chunked("4\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"two CR after the data", chunked("5\r\nhello\r\r\n0\r\n\r\n"), "bad_framing"},
    {"bare LF in an extension", chunked("5;a\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"bare CR in an extension", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"extension without a name", chunked("5;\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"extension with blanks", chunked("5; a=b\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"two extensions", chunked("5;a=b;c=d\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"extension with NUL", chunked("5;a\0\r\nhello\r\n0\r\n\r\n"s), "bad_framing"},
    {"open quote in an extension", chunked("5;a=\"b\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"endless extensions", chunked("5;" + std::string(600, 'a') + "\r\nhello\r\n0\r\n\r\n"), "bad_framing"},
    {"bare LF at the end of the body", chunked("0\r\n\n"), "bad_framing"},
    {"length in a trailer", chunked("0\r\nContent-Length: 5\r\n\r\n"), "bad_framing"},
    {"coding in a trailer", chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n"), "bad_framing"},
    {"Host in a trailer", chunked("0\r\nHost: b\r\n\r\n"), "bad_framing"},
    {"Authorization in a trailer", chunked("0\r\nAuthorization: Bearer x\r\n\r\n"), "bad_framing"},
    {"folded trailer", chunked("0\r\nX: a\r\n b\r\n\r\n"), "bad_framing"},
    {"trailer without a colon", chunked("0\r\nhello\r\n\r\n"), "bad_framing"},
    {"endless trailers", chunked("0\r\nX: " + std::string(600, 'a') + "\r\n\r\n"), "head_too_large"},
    // Lines.
    {"obs-fold", get("X-A: a\r\n b\r\n"), "bad_http"},
    {"obs-fold with a tab", get("X-A: a\r\n\tb\r\n"), "bad_http"},
    {"folded first header", "GET /x HTTP/1.1\r\n Host: a\r\n\r\n", "bad_http"},
    {"bare LF after the request line", "GET /x HTTP/1.1\nHost: a\r\n\r\n", "bad_http"},
    {"bare LF after a header", "GET /x HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "bad_http"},
    {"bare LF everywhere", "GET /x HTTP/1.1\nHost: a\n\n", "bad_http"},
    {"bare LF ends the head", "GET /x HTTP/1.1\r\nHost: a\r\n\n", "bad_http"},
    {"bare CR in a value", get("X-A: a\rb\r\n"), "bad_http"},
    {"two CR at a line end", get("X-A: a\r\r\n"), "bad_http"},
    {"bare CR in the request line", "GET /x\rHTTP/1.1\r\nHost: a\r\n\r\n", "bad_http"},
    {"NUL in a value", get("X-A: a\0b\r\n"s), "bad_http"},
    {"NUL in a name", get("X\0A: b\r\n"s), "bad_http"},
    {"control character in a value", get("X-A: a\x01\r\n"), "bad_http"},
    {"DEL in a value", get("X-A: a\x7F\r\n"), "bad_http"},
    {"space before the colon", get("Content-Length : 5\r\n"), "bad_http"},
    {"tab before the colon", get("Transfer-Encoding\t: chunked\r\n"), "bad_http"},
    {"empty name", get(": x\r\n"), "bad_http"},
    {"no colon", get("hello\r\n"), "bad_http"},
    {"high byte in a name", get("X-\xC3\xA9: b\r\n"), "bad_http"},
    {"0x85 as white space", post("Transfer-Encoding\x85: chunked\r\n"), "bad_http"},
    {"0xA0 around a coding",
     post("Transfer-Encoding: \xA0"
          "chunked\r\n"),
     "bad_framing"},
    {"brackets in a name", get("X[a]: b\r\n"), "bad_http"},
    {"two blank lines in front", "\r\n\r\n" + get(""), "bad_http"},
    {"blank in front of the request line", " GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "bad_http"},
    {"NUL behind a blank line", "\r\n\0\0"s, "bad_http"},
    {"TLS hello", "\x16\x03\x01\x02\x01\x01", "bad_http"},
    // The request line.
    {"HTTP/0.9", "GET /x\r\n\r\n", "bad_http"},
    {"two spaces", "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n", "bad_http"},
    {"tab for a space", "GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n", "bad_http"},
    {"space at the end", "GET /x HTTP/1.1 \r\nHost: a\r\n\r\n", "bad_http"},
    {"space in the target", "GET /x y HTTP/1.1\r\nHost: a\r\n\r\n", "bad_http"},
    {"lower case version", "GET /x http/1.1\r\nHost: a\r\n\r\n", "bad_http"},
    {"version with zeros", "GET /x HTTP/01.1\r\nHost: a\r\n\r\n", "bad_http"},
    {"HTTP/1.2", "GET /x HTTP/1.2\r\nHost: a\r\n\r\n", "bad_version"},
    {"HTTP/2.0", "GET /x HTTP/2.0\r\nHost: a\r\n\r\n", "bad_version"},
    {"HTTP/0.9 written out", "GET /x HTTP/0.9\r\n\r\n", "bad_version"},
    {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad_version"},
    {"RTSP", "OPTIONS rtsp://a/x RTSP/1.0\r\nHost: a\r\n\r\n", "bad_version"},
    {"ICE", "SOURCE /x ICE/1.0\r\nHost: a\r\n\r\n", "bad_version"},
    {"lower case method", "get /x HTTP/1.1\r\nHost: a\r\n\r\n", "not_implemented"},
    {"unknown method", "BREW /x HTTP/1.1\r\nHost: a\r\n\r\n", "not_implemented"},
    {"method with a colon", "GE:T /x HTTP/1.1\r\nHost: a\r\n\r\n", "bad_http"},
    {"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "not_implemented"},
    {"fragment", "GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n", "bad_target"},
    {"high byte in the target", "GET /\xC3\xA9 HTTP/1.1\r\nHost: a\r\n\r\n", "bad_target"},
    {"target is no path", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", "bad_target"},
    {"asterisk with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "bad_target"},
    {"other scheme", "GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n", "bad_target"},
    {"user in the target", "GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n", "bad_target"},
    // Host.
    {"no Host", "GET /x HTTP/1.1\r\n\r\n", "bad_http"},
    {"two Hosts", "GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "bad_http"},
    {"path in Host", "GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n", "bad_http"},
    {"query in Host", "GET /x HTTP/1.1\r\nHost: a?b\r\n\r\n", "bad_http"},
    {"user in Host", "GET /x HTTP/1.1\r\nHost: u@a\r\n\r\n", "bad_http"},
    {"two names in Host", "GET /x HTTP/1.1\r\nHost: a b\r\n\r\n", "bad_http"},
    {"long port in Host", "GET /x HTTP/1.1\r\nHost: a:123456\r\n\r\n", "bad_http"},
    // Limits.
    {"head too long", get("X-A: " + std::string(600, 'a') + "\r\n"), "head_too_large"},
    {"request line too long", "GET /" + std::string(600, 'a') + " HTTP/1.1\r\n\r\n", "head_too_large"},
    {"too many headers", get("A:1\r\nB:1\r\nC:1\r\nD:1\r\nE:1\r\nF:1\r\nG:1\r\nH:1\r\n"), "head_too_large"},
    {"as many headers as allowed", get("A:1\r\nB:1\r\nC:1\r\nD:1\r\nE:1\r\nF:1\r\nG:1\r\n"), got},
    // A good message before a bad one.
    {"pipelined garbage", get("") + "garbage\r\n\r\n", got + "bad_http"},
    {"0.CL", get("Content-Length: 5\r\n") + "GET /y HTTP/1.1\r\n\r\n", "GET /x body=GET /;bad_http"},
};

}  // namespace

TEST_CASE("every request of the corpus comes to the same end however it is cut") {
  for (const request_case& c : cases) {
    CAPTURE(c.what);
    std::size_t wrong = 0;
    std::string first;
    const auto check = [&](const test::pieces& pieces) {
      const std::string result = outcome(pieces);
      if (result == c.expected) return;
      if (wrong++ == 0) first = result;
    };
    test::each_cut(c.raw, check);
    test::each_pair_of_cuts(c.raw, c.raw.size() > 200 ? 17 : 1, check);
    CAPTURE(first);
    CHECK(wrong == 0);
  }
}

TEST_CASE("a connection that knows the lines from the request before comes to the same end") {
  for (const request_case& c : cases) {
    CAPTURE(c.what);
    CHECK(outcome({c.raw}, with_good_lines_of(c.raw)) == c.expected);
    CHECK(outcome({c.raw}, get("X-A: b\r\nUser-Agent: c\r\n")) == c.expected);
  }
}

TEST_CASE("lines come and go between the requests of a connection") {
  const std::string lines[] = {"A: 1\r\n", "B:2\r\n", "C: 3 \r\n", "A: 4\r\n", "D: 5\r\n"};
  for (unsigned first = 0; first < 32; ++first) {
    for (unsigned second = 0; second < 32; ++second) {
      request_parser known({}), fresh({});
      const auto fields = [&](unsigned set) {
        std::string out;
        for (unsigned i = 0; i < 5; ++i) out += (set >> i & 1U) != 0 ? lines[i] : "";
        return get(out);
      };
      body_spans none;
      const std::string before = fields(first), raw = fields(second);
      REQUIRE(known.feed(before, none).status == parse_status::head);
      known.next();
      REQUIRE(known.feed(raw, none).status == parse_status::head);
      REQUIRE(fresh.feed(raw, none).status == parse_status::head);
      const auto& a = known.head().fields;
      const auto& b = fresh.head().fields;
      REQUIRE(a.size() == b.size());
      for (std::size_t i = 0; i < a.size(); ++i) {
        CHECK(a[i].name == b[i].name);
        CHECK(a[i].value == b[i].value);
        CHECK(a[i].plain == b[i].plain);
      }
    }
  }
}
