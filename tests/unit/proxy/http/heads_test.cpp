#include "proxy/http/heads.hpp"

#include <doctest/doctest.h>

#include <string>

#include "proxy/http/request_parser.hpp"
#include "proxy/http/response_parser.hpp"

using namespace penstock;
using namespace penstock::http;

namespace {

std::string engine_head(const std::string& fields, const engine_request& to) {
  request_parser parser({});
  body_spans spans;
  REQUIRE(parser.feed("POST /v1/completions HTTP/1.1\r\nHost: proxy\r\n" + fields + "\r\n", spans).status ==
          parse_status::head);
  std::string out;
  append_engine_head(out, parser.head(), to);
  return out;
}

engine_request plain() {
  engine_request to;
  to.method = "POST";
  to.path = "/v1/completions";
  to.authority = "engine:8000";
  to.content_length = 7;
  return to;
}

std::string client_head(const std::string& engine, const client_response& how) {
  response_parser parser;
  body_spans spans;
  parser.expect(false);
  REQUIRE(parser.feed(engine, spans).status == parse_status::head);
  std::string out;
  append_client_head(out, &parser.head(), "", how);
  return out;
}

std::string usable(const std::string& fields) {
  request_parser parser({});
  body_spans spans;
  REQUIRE(parser.feed("GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n", spans).status == parse_status::head);
  return std::string(usable_request_id(parser.head()));
}

}  // namespace

TEST_CASE("the head to an engine is built, end-to-end fields pass as they are") {
  engine_request to = plain();
  to.path_prefix = "/base";
  to.query = "a=b";
  to.request_id = "req-1";
  CHECK(engine_head("Content-Type: application/json\r\nUser-Agent: x\r\nauthorization: Bearer k\r\n"
                    "traceparent: 00-1\r\ntracestate: a=b\r\nbaggage: c=d\r\nContent-Length: 9\r\n",
                    to) ==
        "POST /base/v1/completions?a=b HTTP/1.1\r\nHost: engine:8000\r\nContent-Type: application/json\r\n"
        "User-Agent: x\r\nauthorization: Bearer k\r\ntraceparent: 00-1\r\ntracestate: a=b\r\nbaggage: c=d\r\n"
        "X-Request-Id: req-1\r\nContent-Length: 7\r\n\r\n");
}

TEST_CASE("hop-by-hop, framing and steering fields do not pass to an engine") {
  const std::string built =
      "POST /v1/completions HTTP/1.1\r\nHost: engine:8000\r\nX-Keep: 1\r\nContent-Length: 7\r\n\r\n";
  CHECK(
      engine_head("Connection: keep-alive, X-Private, te\r\nX-Private: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
                  "Trailer: x\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\nProxy-Authorization: "
                  "b\r\nProxy-Connection: c\r\n"
                  "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\nx-request-id: mine\r\nX-Keep: 1\r\n",
                  plain()) == built);
  CHECK(engine_head("x-data-parallel-rank: 1\r\nX-Prefiller-Host-Port: h\r\nx-encoder-hosts-ports: "
                    "h\r\nx-envoy-a: b\r\n"
                    "x-gateway-b: c\r\nx-smg-c: d\r\nX-Keep: 1\r\n",
                    plain()) == built);
}

TEST_CASE("endpoint settings win over the client's fields") {
  engine_request to = plain();
  const std::vector<std::pair<std::string, std::string>> headers = {{"X-Team", "ours"}, {"Host", "no"}};
  to.headers = &headers;
  to.api_key = "secret";
  to.identity_only = true;
  to.data_parallel_rank = 3;
  CHECK(engine_head("Authorization: Bearer client\r\nx-team: theirs\r\nAccept-Encoding: gzip\r\n", to) ==
        "POST /v1/completions HTTP/1.1\r\nHost: engine:8000\r\nAuthorization: Bearer secret\r\n"
        "Accept-Encoding: identity\r\nX-Team: ours\r\nX-Data-Parallel-Rank: 3\r\nContent-Length: 7\r\n\r\n");
}

TEST_CASE("a GET to an engine announces no body") {
  engine_request to = plain();
  to.method = "GET";
  to.content_length = 0;
  CHECK(engine_head("", to) == "GET /v1/completions HTTP/1.1\r\nHost: engine:8000\r\n\r\n");
}

TEST_CASE("an engine's answer head passes without its framing and ids") {
  client_response how;
  how.request_id = "req-1";
  CHECK(client_head(
            "HTTP/1.1 200 Fine\r\ndate: today\r\nserver: uvicorn\r\ncontent-type: text/event-stream\r\n"
            "x-request-id: theirs\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive, x-hop\r\nx-hop: 1\r\n"
            "transfer-encoding: chunked\r\nset-cookie: a=b\r\n\r\n",
            how) ==
        "HTTP/1.1 200 Fine\r\ndate: today\r\nserver: uvicorn\r\ncontent-type: "
        "text/event-stream\r\nset-cookie: a=b\r\n"
        "X-Request-Id: req-1\r\nTransfer-Encoding: chunked\r\n\r\n");
}

TEST_CASE("Retry-After of an engine passes, fields of ours replace the same ones") {
  client_response how;
  how.status = 429;
  how.framing = client_framing::length;
  how.content_length = 2;
  how.keep_alive = false;
  const std::vector<std::pair<std::string, std::string>> extra = {{"x-penstock-endpoint", "a"}};
  how.extra = &extra;
  CHECK(client_head(
            "HTTP/1.1 429 Slow down\r\nRetry-After: 3\r\nX-Penstock-Endpoint: z\r\nContent-Length: 2\r\n\r\n",
            how) ==
        "HTTP/1.1 429 Slow down\r\nRetry-After: 3\r\nx-penstock-endpoint: a\r\nContent-Length: 2\r\n"
        "Connection: close\r\n\r\n");
}

TEST_CASE("answers of our own, in every framing") {
  const auto own = [](client_framing framing, int minor, bool keep, int status) {
    client_response how;
    how.status = status;
    how.framing = framing;
    how.minor_version = minor;
    how.keep_alive = keep;
    std::string out;
    append_client_head(out, nullptr, status == 204 ? "" : "application/json", how);
    return out;
  };
  CHECK(own(client_framing::length, 1, true, 503) ==
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n");
  CHECK(own(client_framing::none, 1, true, 204) == "HTTP/1.1 204 No Content\r\n\r\n");
  CHECK(own(client_framing::until_close, 0, true, 200) ==
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n");
  CHECK(own(client_framing::length, 0, true, 200) ==
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\nConnection: "
        "keep-alive\r\n\r\n");
}

TEST_CASE("request ids that may be used") {
  CHECK(usable("X-Request-Id: abc-1\r\n") == "abc-1");
  CHECK(usable("") == "");
  CHECK(usable("X-Request-Id:\r\n") == "");
  CHECK(usable("X-Request-Id: a b\r\n") == "");
  CHECK(usable("X-Request-Id: \xC3\xA9\r\n") == "");
  CHECK(usable("X-Request-Id: " + std::string(128, 'a') + "\r\n").size() == 128);
  CHECK(usable("X-Request-Id: " + std::string(129, 'a') + "\r\n") == "");
  CHECK(usable("X-Request-Id: a\r\nX-Request-Id: b\r\n") == "");
  // The id from which vLLM's P2P connector reads where to send KV blocks.
  CHECK(usable("X-Request-Id: cmpl-___prefill_addr_10.0.0.1:1___decode_addr_10.0.0.2:2_ab\r\n") == "");
}

TEST_CASE("chunk sizes") {
  std::string out;
  append_chunk_size(out, 0);
  append_chunk_size(out, 255);
  append_chunk_size(out, 4096);
  CHECK(out == "0\r\nff\r\n1000\r\n");
}
