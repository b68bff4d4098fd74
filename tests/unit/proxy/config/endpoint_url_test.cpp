#include "proxy/config/endpoint_url.hpp"

#include <doctest/doctest.h>

#include <string>

#include "proxy/config/ip_text.hpp"

using namespace penstock::conf;

namespace {

endpoint_url url(std::string_view text) {
  auto r = parse_endpoint_url(text);
  INFO(text);
  REQUIRE(std::holds_alternative<endpoint_url>(r));
  return std::get<endpoint_url>(r);
}

std::string bad_url(std::string_view text) {
  auto r = parse_endpoint_url(text);
  INFO(text);
  REQUIRE(std::holds_alternative<address_error>(r));
  return std::get<address_error>(r).what;
}

listen_address listener(std::string_view text) {
  auto r = parse_listen_address(text);
  INFO(text);
  REQUIRE(std::holds_alternative<listen_address>(r));
  return std::get<listen_address>(r);
}

std::string bad_listener(std::string_view text) {
  auto r = parse_listen_address(text);
  INFO(text);
  REQUIRE(std::holds_alternative<address_error>(r));
  return std::get<address_error>(r).what;
}

}  // namespace

TEST_CASE("endpoint URLs") {
  CHECK(url("http://127.0.0.1:8000") == endpoint_url{"127.0.0.1", 8000, "", "", "127.0.0.1:8000"});
  CHECK(url("HTTP://Engine-0.Svc.:8000/") ==
        endpoint_url{"engine-0.svc.", 8000, "", "", "engine-0.svc.:8000"});
  CHECK(url("http://h") == endpoint_url{"h", 80, "", "", "h"});
  CHECK(url("http://h:80/a/b/") == endpoint_url{"h", 80, "", "/a/b", "h"});
  CHECK(url("http://[::1]:8000/x") == endpoint_url{"::1", 8000, "", "/x", "[::1]:8000"});
  CHECK(url("http://[FD00::A]") == endpoint_url{"fd00::a", 80, "", "", "[fd00::a]"});
  CHECK(url("unix:/run/engine.sock") == endpoint_url{"", 0, "/run/engine.sock", "", "localhost"});
}

TEST_CASE("wrong endpoint URLs") {
  CHECK(bad_url("") == "no URL");
  CHECK(bad_url("https://h:8000") == "TLS to engines is not there yet");
  CHECK(bad_url("HTTPS://h:8000") == "TLS to engines is not there yet");
  CHECK(bad_url("ftp://h") == "the scheme is not http");
  CHECK(bad_url("localhost:8000") == "the scheme is missing");
  CHECK(bad_url("http://") == "the host is missing");
  CHECK(bad_url("http://:8000") == "the host is missing");
  CHECK(bad_url("http://h:") == "\"\" is no port");
  CHECK(bad_url("http://h:0") == "\"0\" is no port");
  CHECK(bad_url("http://h:65536") == "\"65536\" is no port");
  CHECK(bad_url("http://h:+80") == "\"+80\" is no port");
  CHECK(bad_url("http://h:80a") == "\"80a\" is no port");
  CHECK(bad_url("http://::1:8000") == "too many colons");
  CHECK(bad_url("http://[::1:8000") == "\"[\" without \"]\"");
  CHECK(bad_url("http://[::1]8000") == "after \"]\" only \":port\" may come");
  CHECK(bad_url("http://[h]:8000") == "\"h\" is no IPv6 address");
  CHECK(bad_url("http://[fe80::1%eth0]:8000") == "zones of IPv6 addresses are not supported");
  CHECK(bad_url("http://a b:8000") == "\"a b\" is no host name or address");
  CHECK(bad_url("http://1.2.3.400:8000") == "\"1.2.3.400\" is no host name or address");
  CHECK(bad_url("http://h:8000?x") == "a query or fragment has no place here");
  CHECK(bad_url("http://h:8000/#x") == "a query or fragment has no place here");
  CHECK(bad_url("http://user:secret@h:8000") == "user and password have no place here");
  CHECK(bad_url("http://h/a//b") == "the path has empty or dot segments");
  CHECK(bad_url("http://h/a/../b") == "the path has empty or dot segments");
  CHECK(bad_url("http://h/.") == "the path has empty or dot segments");
  CHECK(bad_url("http://h/a b") == "the path has characters that a plain path has not");
  CHECK(bad_url("http://h/a%2fb") == "the path has characters that a plain path has not");
  CHECK(bad_url("http://h/a\r\nb") == "the path has characters that a plain path has not");
  CHECK(bad_url("unix:run/x") == "the socket's path must begin with \"/\"");
  CHECK(bad_url("unix:@x") == "the socket's path must begin with \"/\"");
  CHECK(bad_url("unix:/run/") == "the socket's path ends in \"/\"");
  CHECK(bad_url("unix:/" + std::string(107, 'a')) == "the socket's path is longer than 107 bytes");
  CHECK(url("unix:/" + std::string(106, 'a')).unix_path.size() == 107);
  CHECK(bad_url(std::string_view("unix:/a\0b", 9)) == "the socket's path has control characters");
}

TEST_CASE("listen addresses") {
  CHECK(listener("127.0.0.1:8080") == listen_address{"127.0.0.1", 8080, ""});
  CHECK(listener("Localhost:0") == listen_address{"localhost", 0, ""});
  CHECK(listener("[::]:8080") == listen_address{"::", 8080, ""});
  CHECK(listener("unix:/run/p.sock") == listen_address{"", 0, "/run/p.sock"});
  CHECK(bad_listener("") == "the host is missing");
  CHECK(bad_listener("8080") == "the host is missing");
  CHECK(bad_listener("localhost") == "the port is missing");
  CHECK(bad_listener(":8080") == "the host is missing");
  CHECK(bad_listener("*:8080") == "the host is missing");
  CHECK(bad_listener("::1:8080") == "too many colons");
  CHECK(bad_listener("http://127.0.0.1:8080") == "a listener is no URL");
  CHECK(bad_listener("/run/p.sock") == "no address");
  CHECK(bad_listener("h:70000") == "\"70000\" is no port");
}

TEST_CASE("which listeners cannot live together") {
  const auto same = [](std::string_view a, std::string_view b) {
    const bool one = same_listener(listener(a), listener(b));
    CHECK(one == same_listener(listener(b), listener(a)));
    return one;
  };
  CHECK(same("127.0.0.1:80", "127.0.0.1:80"));
  CHECK(same("127.0.0.1:80", "localhost:80"));
  CHECK(same("127.0.0.1:80", "0.0.0.0:80"));
  CHECK(same("[::1]:80", "[0:0:0:0:0:0:0:1]:80"));
  CHECK(same("[::1]:80", "[::]:80"));
  CHECK(same("unix:/a", "unix:/a"));
  CHECK(same("h.local:80", "H.local:80"));
  CHECK_FALSE(same("127.0.0.1:80", "127.0.0.2:80"));
  CHECK_FALSE(same("127.0.0.1:80", "127.0.0.1:81"));
  CHECK_FALSE(same("127.0.0.1:0", "127.0.0.1:0"));
  CHECK_FALSE(same("0.0.0.0:80", "[::]:80"));
  CHECK_FALSE(same("unix:/a", "unix:/b"));
  CHECK_FALSE(same("unix:/a", "127.0.0.1:80"));
  CHECK_FALSE(same("h.local:80", "127.0.0.1:80"));
}

TEST_CASE("URLs that lead back to a listener") {
  CHECK(reaches(url("http://127.0.0.1:80"), listener("127.0.0.1:80")));
  CHECK(reaches(url("http://localhost:80"), listener("0.0.0.0:80")));
  CHECK(reaches(url("http://[::1]:80"), listener("[::]:80")));
  CHECK(reaches(url("unix:/a"), listener("unix:/a")));
  CHECK_FALSE(reaches(url("http://10.0.0.1:80"), listener("0.0.0.0:80")));
  CHECK_FALSE(reaches(url("http://127.0.0.1:81"), listener("127.0.0.1:80")));
  CHECK_FALSE(reaches(url("http://127.0.0.1:80"), listener("unix:/a")));
}

TEST_CASE("IPv6 text") {
  const auto tail = [](std::string_view text) -> int {
    const auto r = parse_v6(text);
    return r ? (*r)[15] : -1;
  };
  CHECK(tail("::") == 0);
  CHECK(tail("::1") == 1);
  CHECK(tail("1::") == 0);
  CHECK(tail("1:2:3:4:5:6:7:8") == 8);
  CHECK(tail("1:2:3:4:5:6:7::") == 0);
  CHECK(tail("::2:3:4:5:6:7:8") == 8);
  CHECK(tail("::ffff:1.2.3.4") == 4);
  CHECK(tail("1:2:3:4:5:6:1.2.3.4") == 4);
  for (const std::string_view bad : {"",
                                     ":",
                                     ":::",
                                     "1",
                                     "1:2:3:4:5:6:7",
                                     "1:2:3:4:5:6:7:8:9",
                                     "1:2:3:4:5:6:7:8::",
                                     "1::2::3",
                                     "12345::",
                                     "g::",
                                     "1:",
                                     ":1",
                                     "::1:",
                                     "1.2.3.4",
                                     "1.2.3.4::",
                                     "::1.2.3.4:5",
                                     "::1.2.3",
                                     "1:2:3:4:5:6:7:1.2.3.4",
                                     "::+1",
                                     "::0x1"}) {
    INFO(bad);
    CHECK(tail(bad) == -1);
  }
}

TEST_CASE("host names and IPv4 text") {
  for (const std::string_view good : {"a", "a.b", "a-b_c.d.", "0a", "1.2.3.4", "10.in-addr.arpa"}) {
    INFO(good);
    CHECK(valid_host_name(good));
  }
  for (const std::string_view bad : {"", ".", "a..b", ".a", "-a", "a-", "a b", "a/b", "1.2.3", "1.2.3.4.5",
                                     "256.1.1.1", "01.2.3.4", "8000", "é"}) {
    INFO(bad);
    CHECK_FALSE(valid_host_name(bad));
  }
  CHECK(valid_host_name(std::string(63, 'a')));
  CHECK_FALSE(valid_host_name(std::string(64, 'a')));
  std::string deep;
  for (int i = 0; i < 126; ++i) deep += "a.";
  CHECK(valid_host_name(deep + "a"));
  CHECK_FALSE(valid_host_name(deep + "aa"));
  CHECK(parse_v4("255.0.0.1") == v4_bytes{255, 0, 0, 1});
  CHECK_FALSE(parse_v4("1.2.3.4."));
  CHECK_FALSE(parse_v4("1.2.3.-4"));
}
