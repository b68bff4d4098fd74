// Pools and endpoints that cannot be, and exactly what is said about each.
#include <doctest/doctest.h>

#include "helpers.hpp"

using namespace penstock::conf;
using namespace penstock::conf::testing;

namespace {

// clang-format off
const std::vector<sample> errors{
    {"pool names",
     R"([[pool]]
name = ""
[[pool.endpoint]]
url = "http://engine:8000"
[[pool]]
name = "a b"
models = ["m"]
[[pool.endpoint]]
url = "http://engine:8001"
)",
     R"(c.toml:2:8: pool.name: "" is no pool name (1 to 64 letters, digits, "_", "-" or ".")
c.toml:6:8: pool.name: "a b" is no pool name (1 to 64 letters, digits, "_", "-" or ".")
)"},
    {"equal pool names",
     R"([[pool]]
[[pool.endpoint]]
url = "http://engine:8000"
[[pool]]
models = ["m"]
[[pool.endpoint]]
url = "http://engine:8001"
[[pool]]
name = "main"
models = ["n"]
[[pool.endpoint]]
url = "http://engine:8002"
)",
     R"(c.toml:4:1: pool.name: two pools are called "main" (give each pool a name of its own)
c.toml:9:8: pool.name: two pools are called "main" (that is the default)
)"},
    {"models",
     R"([[pool]]
models = []
[[pool.endpoint]]
url = "http://engine:8000"
[[pool]]
name = "b"
models = ["", "x-*", "m", "m", "a\tb"]
[[pool.endpoint]]
url = "http://engine:8001"
)",
     R"(c.toml:2:10: pool.models: the pool serves no model (as in ["*"], for every model)
c.toml:7:11: pool.models: "" is no model name (1 to 256 bytes without control characters)
c.toml:7:15: pool.models: "x-*": patterns are not read (name each model in full, or "*" for all others)
c.toml:7:27: pool.models: "m" is served by this pool already (see line 7)
c.toml:7:32: pool.models: "a\x09b" is no model name (1 to 256 bytes without control characters)
)"},
    {"a model in two pools",
     R"([[pool]]
models = ["x", "m"]
[[pool.endpoint]]
url = "http://engine:8000"
[[pool]]
name = "b"
models = ["m"]
[[pool.endpoint]]
url = "http://engine:8001"
)",
     R"(c.toml:7:11: pool.models: "m" is served by two pools (see line 2)
)"},
    {"every model in two pools",
     R"([[pool]]
[[pool.endpoint]]
url = "http://engine:8000"
[[pool]]
name = "b"
[[pool.endpoint]]
url = "http://engine:8001"
)",
     R"(c.toml:4:1: pool.models: "*" is served by two pools (that is the default)
)"},
    {"URLs",
     R"([[pool]]
[[pool.endpoint]]
url = ""
[[pool.endpoint]]
url = "engine:8000"
[[pool.endpoint]]
url = "https://engine"
[[pool.endpoint]]
url = "http://engine:99999"
[[pool.endpoint]]
url = "http://en gine"
[[pool.endpoint]]
url = "http://engine/?x"
[[pool.endpoint]]
url = "unix:engine"
[[pool.endpoint]]
url = "http://engine/\n"
)",
     R"(c.toml:3:7: pool.endpoint.url: "": no URL (as in "http://127.0.0.1:8000")
c.toml:5:7: pool.endpoint.url: "engine:8000": the scheme is missing (write "http://engine:8000")
c.toml:7:7: pool.endpoint.url: "https://engine": TLS to engines is not there yet (use http:// on a network you trust)
c.toml:9:7: pool.endpoint.url: "http://engine:99999": "99999" is no port (1 to 65535)
c.toml:11:7: pool.endpoint.url: "http://en gine": "en gine" is no host name or address (as in "http://127.0.0.1:8000")
c.toml:13:7: pool.endpoint.url: "http://engine/?x": a query or fragment has no place here
c.toml:15:7: pool.endpoint.url: "unix:engine": the socket's path must begin with "/" (as in "unix:/run/penstock.sock")
c.toml:17:7: pool.endpoint.url: "http://engine/\n": the path has characters that a plain path has not (letters, digits and -._~/ are)
)"},
    {"an endpoint without a URL",
     R"([[pool]]
[[pool.endpoint]]
zone = "a"
)",
     R"(c.toml:2:1: pool.endpoint: "url" is missing (as in url = "http://127.0.0.1:8000")
)"},
    {"equal endpoints",
     R"([[pool]]
[[pool.endpoint]]
url = "http://engine:80/"
[[pool.endpoint]]
url = "http://ENGINE"
[[pool.endpoint]]
url = "http://engine"
data_parallel_rank = 0
[[pool.endpoint]]
url = "http://engine"
data_parallel_rank = 0
)",
     R"(c.toml:5:7: pool.endpoint: "http://ENGINE" is in this pool twice (see line 3; ranks of one address differ in data_parallel_rank)
c.toml:10:7: pool.endpoint: "http://engine" is in this pool twice (see line 7; ranks of one address differ in data_parallel_rank)
)"},
    {"headers and keys",
     R"([[pool]]
[[pool.endpoint]]
url = "http://engine:8000"
api_key = ""
headers = { "X A" = "1", X-B = "a\r\nX-C: 1", host = "h", Content-Length = "1", X-D = " x", X-E = "1", x-e = "2", "" = "1", X-F = 1, X-G = "${NOPE}", X-H = "\u0001" }
)",
     R"(c.toml:4:11: pool.endpoint.api_key is empty (leave api_key out to send none)
c.toml:5:21: pool.endpoint.headers: "X A" is no header name (letters, digits and "-")
c.toml:5:32: pool.endpoint.headers: "X-B" has a line break (what the variable was read from may end in one)
c.toml:5:54: pool.endpoint.headers: "host" is written by Penstock itself
c.toml:5:76: pool.endpoint.headers: "Content-Length" is written by Penstock itself
c.toml:5:87: pool.endpoint.headers: "X-D" begins or ends with white space
c.toml:5:110: pool.endpoint.headers: "x-e" is there twice (header names do not differ by case)
c.toml:5:120: pool.endpoint.headers: "" is no header name (letters, digits and "-")
c.toml:5:131: pool.endpoint.headers: found an integer for "X-F", but a string is wanted (as in { X-Name = "value" })
c.toml:5:141: pool.endpoint.headers.X-G: environment variable NOPE is not set
c.toml:5:157: pool.endpoint.headers: "X-H" has control characters
)"},
    {"key and header at once",
     R"([[pool]]
[[pool.endpoint]]
url = "http://engine:8000"
api_key = "${KEY}"
headers = { authorization = "Basic ${KEY}" }
)",
     R"(c.toml:5:29: pool.endpoint.headers: "authorization" and api_key are the same field (keep one of them)
)"},
    {"a key with a line break",
     R"([[pool]]
[[pool.endpoint]]
url = "http://engine:8000"
api_key = "${WITH_BREAK}"
)",
     R"(c.toml:4:11: pool.endpoint.api_key has a line break (what the variable was read from may end in one)
)"},
    {"headers that end at the next hop",
     R"([[pool]]
[[pool.endpoint]]
url = "http://engine:8000"
headers = { Proxy-Authorization = "Basic x" }
)",
     R"(c.toml:4:35: pool.endpoint.headers: "Proxy-Authorization" is written by Penstock itself
)"},
    {"labels",
     R"([[pool]]
[[pool.endpoint]]
url = "http://engine:8000"
group = "a\nb"
zone = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"
engine_label = "\u0000"
)",
     R"(c.toml:4:9: pool.endpoint.group: "a\nb" is no label (at most 128 bytes without control characters)
c.toml:5:8: pool.endpoint.zone: "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz..." is no label (at most 128 bytes without control characters)
c.toml:6:16: pool.endpoint.engine_label: "\x00" is no label (at most 128 bytes without control characters)
)"},
    {"only prefill",
     R"([[pool]]
name = "p"
[[pool.endpoint]]
url = "http://engine:8000"
role = "prefill"
)",
     R"(c.toml:1:1: pool "p" has only endpoints of role "prefill" (somebody must decode: role "both" or "decode")
)"},
};
// clang-format on

}  // namespace

TEST_CASE("every mistake in pools is reported at its place") {
  for (const auto& s : errors) {
    const auto r = load_text(s.text);
    INFO(s.title);
    CHECK(joined(r.errors) == s.said);
    CHECK_FALSE(r.value);
  }
}
