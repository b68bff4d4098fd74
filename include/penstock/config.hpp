// The configuration as the program uses it: plain, validated, immutable after it was published.
// Keys, defaults, units and bounds are described once, in src/proxy/config/schema.cpp, which also
// fills this struct and generates conf/REFERENCE.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/disaggregation.hpp"
#include "penstock/plan.hpp"
#include "penstock/time.hpp"

namespace penstock {

enum class half_close_mode : std::uint8_t { abort, tolerate };
enum class usage_mode : std::uint8_t { inject, observe };
enum class endpoint_role : std::uint8_t { both, prefill, decode };
constexpr std::string_view name(endpoint_role v) {
  constexpr std::string_view names[] = {"both", "prefill", "decode"};
  return names[static_cast<std::size_t>(v)];
}

struct server_config {
  std::vector<std::string> listen;  // "host:port", "[v6]:port", "unix:/path"
  std::uint32_t workers = 0;        // 0: one per core of the cgroup quota
  bool expose_routing = false;
  half_close_mode half_close = half_close_mode::abort;
  usage_mode usage = usage_mode::inject;
  std::vector<std::string> passthrough;  // more POST paths that may pass
};

struct admin_config {
  std::string listen;  // empty: no admin listener
};

struct limits_config {
  std::uint64_t head_bytes = 0;  // request head
  std::uint32_t head_fields = 0;
  std::uint64_t body_bytes = 0;         // one request body
  std::uint64_t body_memory = 0;        // all request bodies of the process
  std::uint64_t stream_buffer = 0;      // unsent answer bytes of one stream before its engine is paused
  std::uint64_t buffer_memory = 0;      // all unsent answer bytes of the process
  std::uint64_t held_bytes = 0;         // answer bytes held before the first token
  std::uint64_t event_bytes = 0;        // an SSE event above this passes in pieces
  std::uint32_t connections = 0;        // client connections of the process; 0: from RLIMIT_NOFILE
  std::uint32_t idle_per_endpoint = 0;  // pooled idle connections per endpoint and worker
  double retry_budget = 0;              // share of requests that may be tried again
};

struct timeouts_config {
  duration connect{}, request_head{}, request_body{}, memory_wait{};
  std::uint64_t body_rate = 0;  // least bytes per second of a body, after `request_head` of grace
  duration first_token{}, between_events{}, total{}, client_idle{}, engine_idle{}, client_stall{};
  duration sse_keepalive{};  // 0: never
  duration drain_settle{}, drain{};
};

struct health_config {
  duration interval{}, timeout{};
  std::uint32_t rise = 0, fall = 0;    // probes in a row that change a state
  std::string path;                    // probed with GET
  std::uint32_t passive_failures = 0;  // failures in a row from traffic that make an endpoint suspect
  duration suspect_for{};
  duration token_grace{};      // a token this fresh outranks a failed probe
  duration scrape_interval{};  // 0: no scrape
  std::string metrics_path;
  duration models_interval{};
};

struct log_config {
  std::string access;  // "stdout", "stderr", "off", or a file path
  std::string level;   // error | warn | info | debug
};

struct routing_config {
  std::uint64_t table_bytes = 0;  // prefix table
  std::uint32_t block_bytes = 0;
  double lambda = 0;                 // recompute penalty
  double sequence_cost = 0;          // w: tokens one more sequence in flight is taken to cost
  bool learn_sequence_cost = false;  // w from measured inter-token times; sequence_cost until they are known
  duration hold{};                   // longest that a request waits here for its turn; 0: none does
  double load_factor = 0;            // bound of consistent hashing: this many times the mean load
  std::vector<std::string> session_headers;  // request headers that name a session; the first found counts
  std::string tenant_salt;                   // "header:NAME": tenants' caches are kept apart; empty: not
};

// An endpoint's url taken apart, by the one room that reads urls (src/proxy/config).
struct endpoint_address {
  std::string host;        // lower case, v6 without brackets; empty for unix
  std::uint16_t port = 0;  // 80 if none was given; 0 for unix
  std::string unix_path;   // empty for TCP
  std::string prefix;      // put before every target: "" or "/path" without a trailing slash
  std::string authority;   // the Host header: "host", "host:port" (80 left out), "localhost" for unix

  friend bool operator==(const endpoint_address&, const endpoint_address&) = default;
};

// disaggregation_config::split: one of these, or from 0 on the number of uncached tokens from which
// requests are split.
inline constexpr std::int64_t split_by_cost = -1, split_always = -2, split_never = -3;

struct disaggregation_config {
  bool enabled = false;  // the section is there
  connector_kind connector = connector_kind::nixl;
  std::int64_t split = split_by_cost;
  duration lease{};  // how long prefill engines hold blocks for a hand-off; 0: the connector's
};

struct endpoint_config {
  endpoint_role role = endpoint_role::both;
  std::string url;                 // http://host:port[/prefix] or unix:/path
  endpoint_address address;        // what it says; filled with every published configuration
  std::string group, zone, build;  // labels
  std::string api_key;
  std::vector<std::pair<std::string, std::string>> headers;
  std::uint64_t kv_tokens = 0;        // 0: from the engine's metrics
  int data_parallel_rank = -1;        // -1: none
  std::string engine_label;           // value of the `engine` label of this endpoint's series; "": any
  std::string bootstrap;              // host:port of a prefill engine's bootstrap server; "": none
  std::string bootstrap_host;         // taken apart, or the connector's default; v6 without brackets
  std::uint16_t bootstrap_port = 0;   // filled with every published configuration; 0: none
  std::uint32_t tensor_parallel = 0;  // 0: not stated
};

struct pool_config {
  std::string name;
  std::vector<std::string> models;  // served names; "*" passes any
  policy route = policy::prefix;
  disaggregation_config disaggregation;
  std::vector<endpoint_config> endpoints;
};

struct config {
  server_config server;
  admin_config admin;
  limits_config limits;
  timeouts_config timeouts;
  health_config health;
  log_config log;
  routing_config routing;
  std::vector<pool_config> pools;
  std::string source;  // file name, for messages
};

}  // namespace penstock
