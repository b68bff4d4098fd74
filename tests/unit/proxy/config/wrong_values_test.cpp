// Wrong names, types, units, bounds and variables, and exactly what is said about each.
#include <doctest/doctest.h>

#include "helpers.hpp"

using namespace penstock::conf;
using namespace penstock::conf::testing;

namespace {

// clang-format off
const std::vector<sample> errors{
    {"an empty file",
     R"()",
     R"(c.toml:1:1: no [[pool]]: there is nothing to send requests to (add [[pool]] and, below it, [[pool.endpoint]] with a url)
)"},
    {"a pool without endpoints",
     R"([[pool]]
name = "x"
)",
     R"(c.toml:1:1: pool "x" has no endpoint (add [[pool.endpoint]] with url = "http://127.0.0.1:8000")
)"},
    {"sections that do not exist",
     with_pool(R"([servr]
[tls]
[endpoint]
[timeout]
)"),
     R"(c.toml:1:2: unknown section "servr" (did you mean [server]?)
c.toml:2:2: unknown section "tls" (known sections: [server], [admin], [limits], [timeouts], [health], [log], [routing], [[pool]], [pool.disaggregation], [[pool.endpoint]])
c.toml:3:2: unknown section "endpoint" (did you mean [[pool.endpoint]]?)
c.toml:4:2: unknown section "timeout" (did you mean [timeouts]?)
)"},
    {"keys outside of their section",
     with_pool(R"(listen = ["127.0.0.1:1"]
url = "x"
xyz = 1
)"),
     R"(c.toml:1:1: unknown key "listen" ("listen" belongs to [server] or [admin])
c.toml:2:1: unknown key "url" ("url" belongs to [[pool.endpoint]])
c.toml:3:1: unknown key "xyz" (known sections: [server], [admin], [limits], [timeouts], [health], [log], [routing], [[pool]], [pool.disaggregation], [[pool.endpoint]])
)"},
    {"keys of another section",
     with_pool(R"([timeouts]
interval = "1s"
[server]
connections = 5
)"),
     R"(c.toml:2:1: unknown key "interval" in [timeouts] ("interval" belongs to [health])
c.toml:4:1: unknown key "connections" in [server] ("connections" belongs to [limits])
)"},
    {"misspelt keys",
     R"([server]
listen_ = []
[timeouts]
frist_token = "1s"
First-Token = "1s"
whatever_this_is = 1
[[pool]]
[[pool.endpoint]]
url = "http://engine:8000"
api-key = "x"
)",
     R"(c.toml:2:1: unknown key "listen_" in [server] (did you mean "listen"?)
c.toml:4:1: unknown key "frist_token" in [timeouts] (did you mean "first_token"?)
c.toml:5:1: unknown key "First-Token" in [timeouts] (did you mean "first_token"?)
c.toml:6:1: unknown key "whatever_this_is" in [timeouts] (known keys: connect, request_head, request_body, body_rate, memory_wait, first_token, between_events, total, client_idle, engine_idle, client_stall, sse_keepalive, drain_settle, drain)
c.toml:10:1: unknown key "api-key" in [[pool.endpoint]] (did you mean "api_key"?)
)"},
    {"a section written as something else",
     with_pool(R"(server = 3
[[admin]]
)"),
     R"(c.toml:1:10: server: found the integer 3, but a table is wanted (write [server])
c.toml:2:1: admin: found a list, but a table is wanted (write [admin])
)"},
    {"pool as one table",
     R"([pool]
name = "x"
)",
     R"(c.toml:1:1: pool: found a table, but a list of tables is wanted (write [[pool]], once for each)
)"},
    {"endpoint as one table",
     R"([[pool]]
[pool.endpoint]
url = "http://engine:8000"
)",
     R"(c.toml:2:1: pool.endpoint: found a table, but a list of tables is wanted (write [[pool.endpoint]], once for each)
)"},
    {"endpoint without a pool",
     R"([[pool.endpoint]]
url = "http://engine:8000"
)",
     R"(c.toml:1:1: pool: found a table, but a list of tables is wanted (write [[pool]], once for each)
)"},
    {"wrong types",
     with_pool(R"([server]
listen = "127.0.0.1:1"
workers = "4"
expose_routing = "true"
half_close = true
[timeouts]
connect = 5
total = 1.5
[limits]
retry_budget = "0.1"
body_bytes = true
head_fields = 1.5
)"),
     R"(c.toml:2:10: server.listen: found the string "127.0.0.1:1", but a list of strings is wanted (write ["127.0.0.1:1"])
c.toml:3:11: server.workers: found the string "4", but an integer is wanted (write 4 without quotes)
c.toml:4:18: server.expose_routing: found the string "true", but a boolean is wanted (write true without quotes)
c.toml:5:14: server.half_close: found the boolean true, but a string is wanted (one of: abort, tolerate)
c.toml:7:11: timeouts.connect: found the integer 5, but a duration is wanted (write "5s" for seconds)
c.toml:8:9: timeouts.total: found the number 1.5, but a duration is wanted (as in "30s")
c.toml:10:16: limits.retry_budget: found the string "0.1", but a number is wanted (write 0.1 without quotes)
c.toml:11:14: limits.body_bytes: found the boolean true, but a size is wanted (as in "64MiB")
c.toml:12:15: limits.head_fields: found the number 1.5, but an integer is wanted (as in 4)
)"},
    {"wrong items of lists",
     with_pool(R"([server]
listen = [ "127.0.0.1:1", 8080, [], "127.0.0.1:1" ]
)"),
     R"(c.toml:2:27: server.listen: found the integer 8080, but only strings are wanted (as in ["one", "two"])
c.toml:2:33: server.listen: found a list, but only strings are wanted (as in ["one", "two"])
c.toml:2:37: server.listen: "127.0.0.1:1" is the same address as "127.0.0.1:1" of server.listen (see line 2)
)"},
    {"units",
     with_pool(R"([timeouts]
connect = "5"
request_head = "5 s"
request_body = "1.5s"
first_token = ""
[limits]
head_bytes = "32K"
body_bytes = "32mb"
stream_buffer = -1
)"),
     R"(c.toml:2:11: timeouts.connect: "5" is no duration: it has no unit (write "5s" for seconds)
c.toml:3:16: timeouts.request_head: "5 s" is no duration: unknown unit " s" (units: us, ms, s, m, h, as in "30s" or "1m30s")
c.toml:4:16: timeouts.request_body: "1.5s" is no duration: fractions are not read (use a smaller unit, as in "1s500ms")
c.toml:5:15: timeouts.first_token: "" is no duration: it is empty (units: us, ms, s, m, h, as in "30s" or "1m30s")
c.toml:7:14: limits.head_bytes: "32K" is no size: the unit could be 1000 or 1024 based (write "32KiB" or "32kB")
c.toml:8:14: limits.body_bytes: "32mb" is no size: unknown unit "mb" (units: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)
c.toml:9:17: limits.stream_buffer: -1 is below the least value, 4KiB (allowed: 4KiB to 64MiB)
)"},
    {"bounds",
     with_pool(R"([server]
workers = 1025
[timeouts]
connect = "0s"
total = "1ms"
[limits]
head_fields = 7
connections = 15
retry_budget = 1.01
body_bytes = "1TiB"
held_bytes = 9223372036854775807
[routing]
load_factor = 1
lambda = nan
)"),
     R"(c.toml:2:11: server.workers: 1025 is above the greatest value, 1024 (allowed: 0 to 1024 (0: one worker per core of the cgroup quota))
c.toml:4:11: timeouts.connect: 0s is below the least value, 1ms (allowed: 1ms to 1m)
c.toml:5:9: timeouts.total: 1ms is below the least value, 10ms (allowed: 10ms to 168h, or 0s (no limit))
c.toml:7:15: limits.head_fields: 7 is below the least value, 8 (allowed: 8 to 1000)
c.toml:8:15: limits.connections: 15 is below the least value, 16 (allowed: 16 to 4000000, or 0 (derived from the limit of open files))
c.toml:9:16: limits.retry_budget: 1.01 is above the greatest value, 1 (allowed: 0 to 1)
c.toml:10:14: limits.body_bytes: 1TiB is above the greatest value, 1GiB (allowed: 1KiB to 1GiB)
c.toml:11:14: limits.held_bytes: 9223372036854775807 is above the greatest value, 1MiB (allowed: 1KiB to 1MiB)
c.toml:13:15: routing.load_factor: 1 is below the least value, 1.01 (allowed: 1.01 to 100)
c.toml:14:10: routing.lambda: nan is below the least value, 0 (allowed: 0 to 1000)
)"},
    {"choices",
     R"([server]
usage = "injekt"
half_close = ""
[log]
level = "warning"
[[pool]]
policy = "round-robin"
[[pool.endpoint]]
url = "http://engine:8000"
role = "Prefill"
)",
     R"(c.toml:2:9: server.usage: "injekt" is none of: inject, observe (did you mean "inject"?)
c.toml:3:14: server.half_close: "" is none of: abort, tolerate
c.toml:5:9: log.level: "warning" is none of: error, warn, info, debug (did you mean "warn"?)
c.toml:7:10: pool.policy: "round-robin" is none of: prefix, consistent_hash, least_tokens, least_requests, round_robin, random (did you mean "round_robin"?)
c.toml:10:8: pool.endpoint.role: "Prefill" is none of: both, prefill, decode (did you mean "prefill"?)
)"},
    {"variables",
     with_pool(R"(# ${IGNORED}
[server]
listen = ["é:${NOPE}", 'a${PORT}${NOPE}$${NOPE}', "${", "\u0024{NOPE}", """
 ${NOPE}"""]
[log]
access = "${A B}"
)"),
     R"(c.toml:3:14: server.listen: environment variable NOPE is not set
c.toml:3:33: server.listen: environment variable NOPE is not set
c.toml:3:52: server.listen: "${" without "}" (write "$${" for a plain "${")
c.toml:3:57: server.listen: environment variable NOPE is not set
c.toml:4:2: server.listen: environment variable NOPE is not set
c.toml:6:11: log.access: "A B" is no name of an environment variable (write ${NAME}, or "$${" for a plain "${")
)"},
    {"variables with wrong values",
     with_pool(R"([timeouts]
connect = "${PORT}"
[log]
access = "${EMPTY}"
)"),
     R"(c.toml:2:11: timeouts.connect: "8000" is no duration: it has no unit (write "8000s" for seconds)
c.toml:4:10: log.access: "" is neither stdout, stderr, off nor a file's path (as in "/var/log/penstock/access.log")
)"},
    {"control bytes are shown escaped",
     with_pool(R"([server]
usage = "\u001b[31m\n"
"\u001b" = 1
)"),
     R"(c.toml:2:9: server.usage: "\x1b[31m\n" is none of: inject, observe
c.toml:3:1: unknown key "\x1b" in [server] (known keys: listen, workers, expose_routing, half_close, usage, passthrough)
)"},
};
// clang-format on

}  // namespace

TEST_CASE("every wrong name and value is reported at its place with a hint") {
  for (const auto& s : errors) {
    const auto r = load_text(s.text);
    INFO(s.title);
    CHECK(joined(r.errors) == s.said);
    CHECK_FALSE(r.value);
  }
}
