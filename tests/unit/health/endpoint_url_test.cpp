#include "health/endpoint_url.hpp"

#include <doctest/doctest.h>

using namespace penstock;
using namespace penstock::health;

TEST_CASE("endpoint urls") {
  const auto plain = parse_endpoint_url("http://10.0.0.1:8000");
  REQUIRE(plain);
  CHECK(plain->host == "10.0.0.1");
  CHECK(plain->port == 8000);
  CHECK(plain->authority == "10.0.0.1:8000");
  CHECK(plain->path_prefix == "");
  CHECK(plain->unix_path == "");

  const auto prefix = parse_endpoint_url("http://engine.svc/a/b/");
  REQUIRE(prefix);
  CHECK(prefix->host == "engine.svc");
  CHECK(prefix->port == 80);
  CHECK(prefix->authority == "engine.svc");
  CHECK(prefix->path_prefix == "/a/b");

  const auto v6 = parse_endpoint_url("http://[::1]:9/");
  REQUIRE(v6);
  CHECK(v6->host == "::1");
  CHECK(v6->port == 9);
  CHECK(v6->authority == "[::1]:9");
  CHECK(v6->path_prefix == "");
  CHECK(parse_endpoint_url("http://[fe80::2]")->authority == "[fe80::2]");
  CHECK(parse_endpoint_url("http://h:80/x")->authority == "h");

  const auto local = parse_endpoint_url("unix:/run/engine.sock");
  REQUIRE(local);
  CHECK(local->unix_path == "/run/engine.sock");
  CHECK(local->authority == "localhost");
  CHECK(local->host == "");
}

TEST_CASE("endpoint urls that are none") {
  for (const char* url : {"",
                          "http://",
                          "http:///x",
                          "https://h:1",
                          "h:8000",
                          "http://h:",
                          "http://h:0",
                          "http://h:65536",
                          "http://h:8x",
                          "http://h:-1",
                          "http://a:b:1",
                          "http://[::1",
                          "http://[]:1",
                          "http://[h]:1",
                          "http://]",
                          "http://h x",
                          "http://h/a?b",
                          "http://h/a#b",
                          "http://u@h",
                          "http://h\r\nX: y",
                          "unix:",
                          "unix:rel/path",
                          "ftp://h"}) {
    CHECK_MESSAGE(!parse_endpoint_url(url), url);
  }
}
