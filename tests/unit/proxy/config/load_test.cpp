#include "proxy/config/load.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <limits>

#include "helpers.hpp"

using namespace penstock;
using namespace penstock::conf;
using namespace penstock::conf::testing;
using namespace std::chrono_literals;

TEST_CASE("the defaults") {
  const auto r = load_text(good_pool);
  REQUIRE(r.value);
  CHECK(r.warnings.empty());
  const auto& c = *r.value;
  CHECK(c.source == "c.toml");
  CHECK(c.server.listen == std::vector<std::string>{"127.0.0.1:8080"});
  CHECK(c.server.workers == 0);
  CHECK_FALSE(c.server.expose_routing);
  CHECK(c.server.half_close == half_close_mode::abort);
  CHECK(c.server.usage == usage_mode::inject);
  CHECK(c.server.passthrough.empty());
  CHECK(c.admin.listen == "127.0.0.1:9090");
  CHECK(c.limits.head_bytes == 32U << 10U);
  CHECK(c.limits.body_bytes == 32U << 20U);
  CHECK(c.limits.held_bytes == 16U << 10U);
  CHECK(c.limits.retry_budget == doctest::Approx(0.1));
  CHECK(c.timeouts.connect == 1s);
  CHECK(c.timeouts.engine_idle == 4s);
  CHECK(c.timeouts.sse_keepalive == 15s);
  CHECK(c.timeouts.drain_settle == 5s);
  CHECK(c.timeouts.drain == 10min);
  CHECK(c.health.path == "/health");
  CHECK(c.health.token_grace == 5s);
  CHECK(c.log.access == "stdout");
  CHECK(c.log.level == "info");
  CHECK(c.routing.lambda == 1);
  CHECK(c.routing.block_bytes == 1024);
  REQUIRE(c.pools.size() == 1);
  CHECK(c.pools[0].name == "main");
  CHECK(c.pools[0].models == std::vector<std::string>{"*"});
  CHECK(c.pools[0].route == policy::prefix);
  REQUIRE(c.pools[0].endpoints.size() == 1);
  CHECK(c.pools[0].endpoints[0].role == endpoint_role::both);
  CHECK(c.pools[0].endpoints[0].data_parallel_rank == -1);
  CHECK(defaults().pools.empty());
  CHECK(defaults().timeouts.total == 1h);
}

TEST_CASE("values of every type reach the struct") {
  const auto r = load_text(R"(
[server]
listen = ["127.0.0.1:${PORT}", "unix:/run/p.sock"]
workers = 3
expose_routing = true
half_close = "tolerate"
usage = "observe"
passthrough = ["/v2/rerank"]
[admin]
listen = ""
[limits]
body_bytes = 5000000
stream_buffer = "1MiB"
retry_budget = 1
[timeouts]
total = "0s"
connect = "1s500ms"
[log]
level = "debug"
[[pool]]
name = "a"
models = ["m1", "m2"]
policy = "round_robin"
[[pool.endpoint]]
url = "http://engine:${PORT}"
role = "decode"
api_key = "${KEY}"
headers = { X-B = "2", X-A = "${KEY}" }
kv_tokens = 1000
data_parallel_rank = 0
[[pool.endpoint]]
url = "http://engine:8000"
data_parallel_rank = 1
[[pool]]
name = "b"
[pool.ignored]
)");
  // The last table is a mistake; the rest must have been read all the same.
  CHECK(
      joined(r.errors) ==
      "c.toml:34:1: pool \"b\" has no endpoint (add [[pool.endpoint]] with url = \"http://127.0.0.1:8000\")\n"
      "c.toml:36:7: unknown key \"ignored\" in [[pool]] (known keys: name, models, policy, disaggregation, "
      "endpoint)\n");
  CHECK_FALSE(r.value);
}

TEST_CASE("values of every type reach the struct of a right file") {
  const auto r = load_text(R"(
server = { listen = ["127.0.0.1:${PORT}", "unix:/run/p.sock"], workers = 3, half_close = "tolerate" }
admin.listen = ""
limits.body_bytes = 5000000
limits.stream_buffer = "1MiB"
limits.retry_budget = 1
timeouts.total = "0s"
timeouts.connect = "1s500ms"
log.level = "debug"
[[pool]]
name = "a"
models = ["m1", "m2"]
policy = "round_robin"
[[pool.endpoint]]
url = "http://engine:${PORT}"
role = "decode"
api_key = "${KEY}"
headers = { X-B = "2", X-A = "${KEY}" }
kv_tokens = 1000
data_parallel_rank = 7
)");
  INFO(joined(r.errors));
  REQUIRE(r.value);
  const auto& c = *r.value;
  CHECK(c.server.listen == std::vector<std::string>{"127.0.0.1:8000", "unix:/run/p.sock"});
  CHECK(c.server.workers == 3);
  CHECK(c.server.half_close == half_close_mode::tolerate);
  CHECK(c.admin.listen == "");
  CHECK(c.limits.body_bytes == 5000000);
  CHECK(c.limits.stream_buffer == 1U << 20U);
  CHECK(c.limits.retry_budget == 1);
  CHECK(c.timeouts.total == 0s);
  CHECK(c.timeouts.connect == 1500ms);
  CHECK(c.log.level == "debug");
  CHECK(c.pools[0].route == policy::round_robin);
  const auto& e = c.pools[0].endpoints[0];
  CHECK(e.url == "http://engine:8000");
  CHECK(e.role == endpoint_role::decode);
  CHECK(e.api_key == "sk-very-secret");
  CHECK(e.headers ==
        std::vector<std::pair<std::string, std::string>>{{"X-B", "2"}, {"X-A", "sk-very-secret"}});
  CHECK(e.kv_tokens == 1000);
  CHECK(e.data_parallel_rank == 7);
}

TEST_CASE("deadlines at their defaults give way to shorter ones around them") {
  const auto r = load_text("[timeouts]\ntotal = \"100ms\"\ndrain = \"0s\"\n[health]\ninterval = \"50ms\"\n" +
                           std::string(good_pool));
  INFO(joined(r.errors));
  REQUIRE(r.value);
  CHECK(r.warnings.empty());
  CHECK(r.value->timeouts.first_token == 100ms);
  CHECK(r.value->timeouts.between_events == 100ms);
  CHECK(r.value->timeouts.connect == 100ms);
  CHECK(r.value->routing.hold == 100ms);
  CHECK(r.value->timeouts.drain_settle == 0s);
  CHECK(r.value->health.timeout == 50ms);
  // No total limit contains nothing.
  const auto unlimited =
      load_text("[timeouts]\ntotal = \"0s\"\nfirst_token = \"24h\"\n" + std::string(good_pool));
  REQUIRE(unlimited.value);
  CHECK(unlimited.value->timeouts.first_token == 24h);
  CHECK(unlimited.value->timeouts.between_events == 1min);
}

TEST_CASE("a file that is too long is refused unread") {
  const auto r = load_text(std::string(most_text + 1, '#'));
  REQUIRE(r.errors.size() == 1);
  CHECK(to_string(r.errors[0]) ==
        "c.toml: 4194305 bytes are too long for a configuration (4MiB is the most)");
  CHECK(load_text(std::string(good_pool) + std::string(most_text - good_pool.size(), '#')).value);
}

TEST_CASE("errors beyond the cut are not listed") {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "k" + std::to_string(i) + " = \"${NOPE}\"\n";
  const auto r = load_text(text);
  REQUIRE(r.errors.size() == most_problems + 1);
  CHECK(to_string(r.errors.back()) == "c.toml:200:1: too many errors, the rest is not shown");
  CHECK_FALSE(r.value);
}

TEST_CASE("more endpoints than the board holds are refused") {
  std::string text = "[[pool]]\n";
  for (int i = 0; i < 1024; ++i) text += "[[pool.endpoint]]\nurl = \"http://e" + std::to_string(i) + "\"\n";
  CHECK(load_text(text).value);
  const auto r = load_text(text + "[[pool.endpoint]]\nurl = \"http://one.more\"\n");
  CHECK(joined(r.errors) == "c.toml:1:3: 1025 endpoints are more than the 1024 that one process can hold\n");
}

TEST_CASE("the work of checking grows with a configuration's size, not with its square") {
  // Time on the processor, and the best of a few: the bound is on the work, not on what else the machine
  // does.
  const auto best_of = [](int endpoints) {
    std::string text = "[[pool]]\n";
    for (int i = 0; i < endpoints; ++i)
      text += "[[pool.endpoint]]\nurl = \"http://e" + std::to_string(i) + ":8000\"\napi_key = \"${KEY}\"\n";
    auto best = std::numeric_limits<std::clock_t>::max();
    for (int i = 0; i < 5; ++i) {
      const auto begin = std::clock();
      CHECK(load_text(text).value);
      best = std::min(best, std::clock() - begin);
    }
    CHECK(best > 0);
    return best;
  };
  // 16 times as many: 16 times the work if linear, 256 times if every endpoint is compared with every other.
  CHECK(best_of(1024) < 64 * best_of(64));
}

TEST_CASE("no secret is ever shown, whatever is wrong with it") {
  const std::string pool = "[[pool]]\n[[pool.endpoint]]\nurl = \"http://engine:8000\"\n";
  for (const std::string_view wrong :
       {"api_key = \"sk-very-secret\\n\"", "api_key = \"${WITH_BREAK}\"", "api_key = \"sk-very-secret x\"",
        "api_key = [\"sk-very-secret\"]", "headers = { X-A = \"${WITH_BREAK}\" }",
        "headers = { Host = \"${KEY}\" }", "headers = { Authorization = \"${KEY}\" }\napi_key = \"${KEY}\"",
        "headers = \"sk-very-secret\"", "headers = { A = [\"sk-very-secret\"] }"}) {
    const auto r = load_text(pool + std::string(wrong) + "\n");
    INFO(wrong << "\n" << joined(r.errors));
    CHECK(r.errors.size() == 1);
    CHECK(joined(r.errors).find("very-secret") == std::string::npos);
  }
  const auto r = load_text("[[pool]]\n[[pool.endpoint]]\nurl = \"http://user:very-secret@engine\"\n");
  CHECK(joined(r.errors) ==
        "c.toml:3:7: pool.endpoint.url: user and password have no place here (use api_key or headers)\n");
}

TEST_CASE("pools and endpoints that are no tables keep the places of the others") {
  const auto r = load_text("pool = [ 1, { name = \"b\", endpoint = [ true, { url = \"x\" } ] } ]\n");
  CHECK(joined(r.errors) ==
        "c.toml:1:10: pool: found the integer 1, but a table is wanted (write [[pool]], once for each)\n"
        "c.toml:1:40: pool.endpoint: found the boolean true, but a table is wanted (write [[pool.endpoint]], "
        "once "
        "for each)\n"
        "c.toml:1:54: pool.endpoint.url: \"x\": no URL (as in \"http://127.0.0.1:8000\")\n");
  CHECK(r.errors[2].key == "pool[1].endpoint[1].url");
}

TEST_CASE("a loaded configuration has its urls taken apart") {
  const auto r = load_text(
      "[[pool]]\n[[pool.endpoint]]\nurl = \"http://Engine:8000/v/\"\n[[pool.endpoint]]\nurl = "
      "\"unix:/run/e\"\n");
  REQUIRE(r.value);
  const auto& endpoints = r.value->pools.at(0).endpoints;
  CHECK(endpoints.at(0).address ==
        endpoint_address{
            .host = "engine", .port = 8000, .unix_path = "", .prefix = "/v", .authority = "engine:8000"});
  CHECK(endpoints.at(1).address.unix_path == "/run/e");
}
