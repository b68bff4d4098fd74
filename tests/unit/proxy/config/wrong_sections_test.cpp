// Listeners, paths and deadlines that cannot be, and values that are odd: exactly what is said about each.
#include <doctest/doctest.h>

#include "helpers.hpp"

using namespace penstock::conf;
using namespace penstock::conf::testing;

namespace {

// clang-format off
const std::vector<sample> errors{
    {"listen addresses",
     with_pool(R"([server]
listen = ["8080", ":8080", "localhost", "[::1]", "::1:80", "1.2.3.4.5:80", "http://h:1", "/run/x", "unix:x", "h:65536"]
)"),
     R"(c.toml:2:11: server.listen: "8080": the host is missing (write "127.0.0.1:8080")
c.toml:2:19: server.listen: ":8080": the host is missing (write 0.0.0.0 for all IPv4 addresses, [::] for all IPv6 ones)
c.toml:2:28: server.listen: "localhost": the port is missing (as in "127.0.0.1:8080", "[::1]:8080" or "unix:/run/penstock.sock")
c.toml:2:41: server.listen: "[::1]": the port is missing (as in "127.0.0.1:8080", "[::1]:8080" or "unix:/run/penstock.sock")
c.toml:2:50: server.listen: "::1:80": too many colons (put IPv6 addresses in brackets: "[::1]:8000")
c.toml:2:60: server.listen: "1.2.3.4.5:80": "1.2.3.4.5" is no host name or address (as in "127.0.0.1:8080", "[::1]:8080" or "unix:/run/penstock.sock")
c.toml:2:76: server.listen: "http://h:1": a listener is no URL (as in "127.0.0.1:8080", "[::1]:8080" or "unix:/run/penstock.sock")
c.toml:2:90: server.listen: "/run/x": no address (write "unix:/run/x")
c.toml:2:100: server.listen: "unix:x": the socket's path must begin with "/" (as in "unix:/run/penstock.sock")
c.toml:2:110: server.listen: "h:65536": "65536" is no port (0 to 65535)
)"},
    {"no listener",
     with_pool(R"([server]
listen = []
)"),
     R"(c.toml:2:10: server.listen: no listener (as in ["127.0.0.1:8080"])
)"},
    {"duplicate listeners",
     with_pool(R"([server]
listen = ["127.0.0.1:1", "localhost:1", "0.0.0.0:1", "[::1]:1"]
[admin]
listen = "127.0.0.1:1"
)"),
     R"(c.toml:2:26: server.listen: "localhost:1" is the same address as "127.0.0.1:1" of server.listen (see line 2)
c.toml:2:41: server.listen: "0.0.0.0:1" is the same address as "127.0.0.1:1" of server.listen (see line 2)
c.toml:4:10: admin.listen: "127.0.0.1:1" is the same address as "127.0.0.1:1" of server.listen (see line 2)
)"},
    {"the admin listener on a default data listener",
     with_pool(R"([admin]
listen = "127.0.0.1:8080"
)"),
     R"(c.toml:2:10: admin.listen: "127.0.0.1:8080" is the same address as "127.0.0.1:8080" of server.listen (that is the default)
)"},
    {"a data listener on the default admin listener",
     with_pool(R"([server]
listen = ["0.0.0.0:9090"]
)"),
     R"(c.toml:2:11: server.listen: "0.0.0.0:9090" is the same address as "127.0.0.1:9090" of admin.listen (that is the default)
)"},
    {"a loop",
     R"([[pool]]
[[pool.endpoint]]
url = "http://localhost:8080/v1"
[[pool.endpoint]]
url = "http://127.0.0.1:9090"
)",
     R"(c.toml:3:7: pool.endpoint.url: "http://localhost:8080/v1" is a listener of this configuration itself (server.listen is "127.0.0.1:8080")
c.toml:5:7: pool.endpoint.url: "http://127.0.0.1:9090" is a listener of this configuration itself (admin.listen is "127.0.0.1:9090")
)"},
    {"passthrough",
     with_pool(R"([server]
passthrough = ["v2/x", "/", "/a/", "/a/*", "/a?b", "/a%20b", "/a b", "/a//b", "/a/../b", ""]
)"),
     R"(c.toml:2:16: server.passthrough: "v2/x": it must begin with "/" (as in "/v2/rerank")
c.toml:2:24: server.passthrough: "/": it must name one path in full (as in "/v2/rerank")
c.toml:2:29: server.passthrough: "/a/": it must name one path in full (as in "/v2/rerank")
c.toml:2:36: server.passthrough: "/a/*": patterns are not read, name each path in full (as in "/v2/rerank")
c.toml:2:44: server.passthrough: "/a?b": a query or fragment has no place here (as in "/v2/rerank")
c.toml:2:52: server.passthrough: "/a%20b": write it without percent signs (as in "/v2/rerank")
c.toml:2:62: server.passthrough: "/a b": it has characters that a plain path has not (as in "/v2/rerank")
c.toml:2:70: server.passthrough: "/a//b": it has empty or dot segments (as in "/v2/rerank")
c.toml:2:79: server.passthrough: "/a/../b": it has empty or dot segments (as in "/v2/rerank")
c.toml:2:90: server.passthrough: "": it must begin with "/" (as in "/v2/rerank")
)"},
    {"paths of health",
     with_pool(R"([health]
path = "health"
metrics_path = "/me trics"
)"),
     R"(c.toml:2:8: health.path: "health" is no path (as in "/health")
c.toml:3:16: health.metrics_path: "/me trics" is no path (as in "/health")
)"},
    {"access log",
     with_pool(R"([log]
access = "stdot"
)"),
     R"(c.toml:2:10: log.access: "stdot" is neither stdout, stderr, off nor a file's path (did you mean "stdout"?)
)"},
    {"timeouts that contradict",
     with_pool(R"([timeouts]
first_token = "2m"
between_events = "61s"
connect = "50s"
total = "1m"
drain = "1s"
[health]
interval = "1s"
timeout = "1500ms"
)"),
     R"(c.toml:2:15: timeouts.first_token (2m) is greater than timeouts.total (1m): it could never pass
c.toml:3:18: timeouts.between_events (1m1s) is greater than timeouts.total (1m): it could never pass
c.toml:9:11: health.timeout (1s500ms) is greater than health.interval (1s): it would stretch the interval
)"},
    {"connecting for longer than the first token may take",
     with_pool(R"([timeouts]
first_token = "10s"
connect = "11s"
)"),
     R"(c.toml:3:11: timeouts.connect (11s) is greater than timeouts.first_token (10s): it could never pass
)"},
    {"a wait for one's turn that outlasts the first token",
     with_pool(R"([timeouts]
first_token = "10s"
[routing]
hold = "11s"
)"),
     R"(c.toml:4:8: routing.hold (11s) is greater than timeouts.first_token (10s): requests would be late before they are sent
)"},
    {"a deadline above the default of the one around it",
     with_pool(R"([timeouts]
first_token = "2h"
[health]
timeout = "3s"
)"),
     R"(c.toml:2:15: timeouts.first_token (2h) is greater than timeouts.total (1h): it could never pass (timeouts.total is at its default)
c.toml:4:11: health.timeout (3s) is greater than health.interval (2s): it would stretch the interval (health.interval is at its default)
)"},
    {"limits that contradict",
     with_pool(R"([limits]
body_bytes = "1GiB"
stream_buffer = "4KiB"
buffer_memory = "1MiB"
)"),
     R"(c.toml:2:14: limits.body_bytes (1GiB) is greater than limits.body_memory (512MiB): one body must fit (limits.body_memory is at its default)
c.toml:3:17: limits.held_bytes (16KiB) is greater than limits.stream_buffer (4KiB): what is held must fit into it (limits.held_bytes is at its default)
)"},
    {"one stream above all buffers",
     with_pool(R"([limits]
stream_buffer = "2MiB"
buffer_memory = "1MiB"
)"),
     R"(c.toml:2:17: limits.stream_buffer (2MiB) is greater than limits.buffer_memory (1MiB): one stream must fit
)"},
};

const std::vector<sample> warnings{
    {"a client's base URL for an engine",
     R"([[pool]]
[[pool.endpoint]]
url = "http://engine:8000/v1"
)",
     R"(c.toml:3:7: pool.endpoint.url: requests will go to /v1/v1/chat/completions, probes to /v1/health (leave "/v1" out, unlike in a client's base URL)
)"},
    {"short engine keep-alive race",
     with_pool(R"([timeouts]
engine_idle = "5s"
)"),
     R"(c.toml:2:15: timeouts.engine_idle: uvicorn, below vLLM and SGLang, closes idle connections after 5s, and requests will race that (4s, or raise the engine's timeout too)
)"},
    {"small bodies",
     with_pool(R"([limits]
body_bytes = "1023KiB"
)"),
     R"(c.toml:2:14: limits.body_bytes: prompts of a long context will be refused: 128k tokens are some 0.5MiB of JSON, with many escapes twice that (32MiB is the default)
)"},
    {"hasty deadlines",
     with_pool(R"([timeouts]
first_token = "9s"
between_events = "4s"
)"),
     R"(c.toml:2:15: timeouts.first_token: the prefill of a long prompt takes longer than that (10m is the default)
c.toml:3:18: timeouts.between_events: an engine that preempts a sequence is silent for longer than that (1m is the default)
)"},
    {"keep-alive comments that never come",
     with_pool(R"([timeouts]
first_token = "10s"
sse_keepalive = "20s"
)"),
     R"(c.toml:3:17: timeouts.sse_keepalive: timeouts.first_token passes before it, so none is ever sent ("0s" turns it off)
)"},
    {"paths that are served anyway",
     with_pool(R"([server]
passthrough = ["/v2/x", "/v1/models", "/v2/x"]
)"),
     R"(c.toml:2:25: server.passthrough: "/v1/models" has rules of its own, which stay (leave it out)
c.toml:2:39: server.passthrough: "/v2/x" is named twice
)"},
    {"one engine in two pools",
     R"([[pool]]
models = ["a"]
[[pool.endpoint]]
url = "http://engine"
[[pool]]
name = "b"
[[pool.endpoint]]
url = "http://engine:80/"
)",
     R"(c.toml:8:7: pool.endpoint.url: "http://engine:80/" is in two pools, and neither sees the other's load (see line 4)
)"},
    {"roles without hand-off",
     R"([[pool]]
[[pool.endpoint]]
url = "http://engine:1"
role = "prefill"
[[pool.endpoint]]
url = "http://engine:2"
role = "decode"
)",
     R"(c.toml:4:8: pool.endpoint.role: the pool has no [pool.disaggregation]: the endpoint gets no requests (add [pool.disaggregation] with connector = "nixl", or leave role out)
c.toml:7:8: pool.endpoint.role: the pool has no [pool.disaggregation]: the endpoint serves whole requests (add [pool.disaggregation] with connector = "nixl", or leave role out)
)"},
    {"constants that no policy reads",
     R"([routing]
lambda = 5
block_bytes = "2KiB"
load_factor = 2
[[pool]]
policy = "consistent_hash"
[[pool.endpoint]]
url = "http://engine:1"
)",
     R"(c.toml:2:10: routing.lambda is not used by the policy of any pool
)"},
    {"constants that no policy reads at all",
     R"([routing]
lambda = 5
block_bytes = "2KiB"
[[pool]]
policy = "random"
[[pool.endpoint]]
url = "http://engine:1"
)",
     R"(c.toml:2:10: routing.lambda is not used by the policy of any pool
c.toml:3:15: routing.block_bytes is not used by the policy of any pool
)"},
};
// clang-format on

}  // namespace

TEST_CASE("every contradiction of sections is reported at its place") {
  for (const auto& s : errors) {
    const auto r = load_text(s.text);
    INFO(s.title);
    CHECK(joined(r.errors) == s.said);
    CHECK_FALSE(r.value);
  }
}

TEST_CASE("what is legal and odd is warned about") {
  for (const auto& s : warnings) {
    const auto r = load_text(s.text);
    INFO(s.title << "\n" << joined(r.errors));
    CHECK(joined(r.warnings) == s.said);
    CHECK(r.value);
  }
}
