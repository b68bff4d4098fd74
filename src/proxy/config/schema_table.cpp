// The keys themselves. Sources of the defaults are named in the texts.
#include <array>

#include "proxy/config/schema.hpp"
#include "proxy/config/schema_pools.hpp"

namespace penstock::conf {
namespace {

using enum value_type;

constexpr std::array<std::string_view, 2> half_close_names{"abort", "tolerate"};
constexpr std::array<std::string_view, 2> usage_names{"inject", "observe"};
constexpr std::array<std::string_view, 4> log_levels{"error", "warn", "info", "debug"};

constexpr key_spec server_keys[] = {
    {.name = "listen",
     .type = text_list,
     .fallback = "127.0.0.1:8080",
     .reload = false,
     .text = "Addresses of the data listeners: `host:port` (of a name all its addresses), `[v6]:port` or "
             "`unix:/path`. `[::]` is all of IPv6 and no IPv4. Port 0 lets the kernel choose. Loopback by "
             "default: nothing is exposed that was not asked for.",
     .member = slot_of<&server_config::listen>()},
    {.name = "workers",
     .type = integer,
     .fallback = "0",
     .least = "0",
     .most = "1024",
     .special = "one worker per core of the cgroup quota",
     .reload = false,
     .text = "Worker threads, each with its own event loop, connections and buffers.",
     .member = slot_of<&server_config::workers>()},
    {.name = "expose_routing",
     .type = boolean,
     .fallback = "false",
     .text =
         "Name the endpoint in `x-penstock-endpoint`, and tell the reason of a decision to clients that ask. "
         "Off, since it shows the inside of the fleet to clients.",
     .member = slot_of<&server_config::expose_routing>()},
    {.name = "half_close",
     .type = choice,
     .fallback = "abort",
     .choices = half_close_names,
     .text =
         "What a client's FIN before the end of its answer means. `abort`: it left, the engine is told at "
         "once. `tolerate`: it still reads, and the whole requests that it sent are answered.",
     .member = slot_of<&server_config::half_close>()},
    {.name = "usage",
     .type = choice,
     .fallback = "inject",
     .choices = usage_names,
     .text =
         "`inject` asks engines for usage in every stream and drops the one event that the client did not "
         "ask for, and in the answer of a decode engine tells the prefill engine's count of cached tokens; "
         "`observe` edits nothing and counts what it sees.",
     .member = slot_of<&server_config::usage>()},
    {.name = "passthrough",
     .type = text_list,
     .fallback = "",
     .text =
         "More paths whose POST requests may pass to an engine, each in full, besides those under `/v1/`. "
         "Paths that are neither are 404.",
     .member = slot_of<&server_config::passthrough>()},
};

constexpr key_spec admin_keys[] = {
    {.name = "listen",
     .type = value_type::text,
     .fallback = "127.0.0.1:9090",
     .reload = false,
     .text = "Address of the status page at `/`, `/metrics`, `/livez`, `/readyz` and `/debug/fleet`; \"\" "
             "for none. It has "
             "no access control: bind it where only operators and Prometheus reach it.",
     .member = slot_of<&admin_config::listen>()},
};

constexpr key_spec limits_keys[] = {
    {.name = "head_bytes",
     .type = size,
     .fallback = "32KiB",
     .least = "1KiB",
     .most = "1MiB",
     .text = "Request head, request line included (431). HAProxy's default is 16 KiB, nginx's 32 KiB.",
     .member = slot_of<&limits_config::head_bytes>()},
    {.name = "head_fields",
     .type = integer,
     .fallback = "100",
     .least = "8",
     .most = "1000",
     .text = "Fields in a request head (431). HAProxy: 101, nghttpx: 100.",
     .member = slot_of<&limits_config::head_fields>()},
    {.name = "body_bytes",
     .type = size,
     .fallback = "32MiB",
     .least = "1KiB",
     .most = "1GiB",
     .text =
         "One request body (413). A prompt of a million tokens is some 4 MiB of JSON; images in base64 are "
         "what needs the rest.",
     .member = slot_of<&limits_config::body_bytes>()},
    {.name = "body_memory",
     .type = size,
     .fallback = "512MiB",
     .least = "1MiB",
     .most = "1TiB",
     .reload = false,
     .text =
         "All request bodies of the process. When it is full, bodies that have begun may end and new ones "
         "wait for `timeouts.memory_wait`, then 503.",
     .member = slot_of<&limits_config::body_memory>()},
    {.name = "stream_buffer",
     .type = size,
     .fallback = "256KiB",
     .least = "4KiB",
     .most = "64MiB",
     .text =
         "Answer bytes that one slow reader may leave unsent before its engine is paused: some 1,000 events, "
         "most answers as a whole.",
     .member = slot_of<&limits_config::stream_buffer>()},
    {.name = "buffer_memory",
     .type = size,
     .fallback = "256MiB",
     .least = "1MiB",
     .most = "1TiB",
     .reload = false,
     .text =
         "All unsent answer bytes of the process, and what is kept of events before the first token, of "
         "unfinished events and of pipelined requests. When it is full, engines whose clients lag are not "
         "read.",
     .member = slot_of<&limits_config::buffer_memory>()},
    {.name = "held_bytes",
     .type = size,
     .fallback = "16KiB",
     .least = "1KiB",
     .most = "1MiB",
     .text = "Answer bytes held back before the first token, while another engine can still be tried.",
     .member = slot_of<&limits_config::held_bytes>()},
    {.name = "event_bytes",
     .type = size,
     .fallback = "1MiB",
     .least = "4KiB",
     .most = "64MiB",
     .text = "A longer SSE event passes in pieces, unscanned, and is counted.",
     .member = slot_of<&limits_config::event_bytes>()},
    {.name = "connections",
     .type = integer,
     .fallback = "0",
     .least = "16",
     .most = "4000000",
     .special = "derived from the limit of open files",
     .zero_allowed = true,
     .reload = false,
     .text = "Client connections of the process.",
     .member = slot_of<&limits_config::connections>()},
    {.name = "idle_per_endpoint",
     .type = integer,
     .fallback = "128",
     .least = "0",
     .most = "65535",
     .text = "Idle connections that a worker keeps to one endpoint.",
     .member = slot_of<&limits_config::idle_per_endpoint>()},
    {.name = "retry_budget",
     .type = number,
     .fallback = "0.1",
     .least = "0",
     .most = "1",
     .text = "Share of the requests that may be tried on another engine. Envoy: 0.2 of what is active.",
     .member = slot_of<&limits_config::retry_budget>()},
};

constexpr key_spec timeouts_keys[] = {
    {.name = "connect",
     .type = value_type::duration,
     .fallback = "1s",
     .least = "1ms",
     .most = "1m",
     .text =
         "To connect to an engine. Of several addresses of a name one is drawn. linkerd: 1 s, Envoy: 5 s.",
     .member = slot_of<&timeouts_config::connect>()},
    {.name = "request_head",
     .type = value_type::duration,
     .fallback = "10s",
     .least = "10ms",
     .most = "5m",
     .text = "From the first byte of a request head to its last, however the bytes drip (408).",
     .member = slot_of<&timeouts_config::request_head>()},
    {.name = "request_body",
     .type = value_type::duration,
     .fallback = "5m",
     .least = "10ms",
     .most = "1h",
     .text = "From the end of the head to the last byte of the body (408).",
     .member = slot_of<&timeouts_config::request_body>()},
    {.name = "body_rate",
     .type = size,
     .fallback = "1KiB",
     .least = "1B",
     .most = "1GiB",
     .special = "no least rate",
     .zero_allowed = true,
     .text = "Least bytes a second of a request body, on average, once `request_head` has passed since its "
             "begin (408).",
     .member = slot_of<&timeouts_config::body_rate>()},
    {.name = "memory_wait",
     .type = value_type::duration,
     .fallback = "1s",
     .least = "0s",
     .most = "1m",
     .text = "How long a new body waits for `limits.body_memory` before 503.",
     .member = slot_of<&timeouts_config::memory_wait>()},
    {.name = "first_token",
     .type = value_type::duration,
     .fallback = "10m",
     .least = "10ms",
     .most = "24h",
     .text = "Streamed requests: from the last byte of the body to the first event with content, retries "
             "included (504). An answer that is not streamed has no first token; `total` bounds it.",
     .member = slot_of<&timeouts_config::first_token>()},
    {.name = "between_events",
     .type = value_type::duration,
     .fallback = "1m",
     .least = "10ms",
     .most = "1h",
     .text = "Longest silence of an engine inside an answer. Twice the 30 s a healthy engine never reaches, "
             "since "
             "a preempted sequence is computed again from its start.",
     .member = slot_of<&timeouts_config::between_events>()},
    {.name = "total",
     .type = value_type::duration,
     .fallback = "1h",
     .least = "10ms",
     .most = "168h",
     .special = "no limit",
     .zero_allowed = true,
     .text = "From the end of the request's head to the end of the answer. SMG: 30 minutes.",
     .member = slot_of<&timeouts_config::total>()},
    {.name = "client_idle",
     .type = value_type::duration,
     .fallback = "1m",
     .least = "10ms",
     .most = "24h",
     .text = "Keep-alive of a client connection without a request. nginx: 75 s.",
     .member = slot_of<&timeouts_config::client_idle>()},
    {.name = "engine_idle",
     .type = value_type::duration,
     .fallback = "4s",
     .least = "10ms",
     .most = "1h",
     .text =
         "Keep-alive of a pooled engine connection. uvicorn, below vLLM and SGLang, closes after 5 s: less "
         "than that, or requests race the close.",
     .member = slot_of<&timeouts_config::engine_idle>()},
    {.name = "client_stall",
     .type = value_type::duration,
     .fallback = "1m",
     .least = "10ms",
     .most = "1h",
     .text = "A client that takes none of the bytes that wait for it is cut, and its engine freed. nginx's "
             "`send_timeout`: 60 s.",
     .member = slot_of<&timeouts_config::client_stall>()},
    {.name = "sse_keepalive",
     .type = value_type::duration,
     .fallback = "15s",
     .least = "100ms",
     .most = "10m",
     .special = "never",
     .zero_allowed = true,
     .text = "When no token came for so long, the head and comment lines go out, so that middle boxes and "
             "clients do not give up. 15 s is what the SSE specification advises.",
     .member = slot_of<&timeouts_config::sse_keepalive>()},
    {.name = "drain_settle",
     .type = value_type::duration,
     .fallback = "5s",
     .least = "0s",
     .most = "5m",
     .text = "After SIGTERM connections are still accepted for so long: Kubernetes takes a pod out of its "
             "services at the same time as it stops it.",
     .member = slot_of<&timeouts_config::drain_settle>()},
    {.name = "drain",
     .type = value_type::duration,
     .fallback = "10m",
     .least = "0s",
     .most = "24h",
     .text = "From SIGTERM until what still streams is ended with an error event (exit code 3).",
     .member = slot_of<&timeouts_config::drain>()},
};

constexpr key_spec health_keys[] = {
    {.name = "interval",
     .type = value_type::duration,
     .fallback = "2s",
     .least = "50ms",
     .most = "10m",
     .text = "Between two probes of an endpoint, plus jitter. Dynamo: 2 s.",
     .member = slot_of<&health_config::interval>()},
    {.name = "timeout",
     .type = value_type::duration,
     .fallback = "2s",
     .least = "10ms",
     .most = "1m",
     .text = "For one probe or scrape, connecting included.",
     .member = slot_of<&health_config::timeout>()},
    {.name = "rise",
     .type = integer,
     .fallback = "2",
     .least = "1",
     .most = "100",
     .text = "Probes in a row that must succeed before a down endpoint is up.",
     .member = slot_of<&health_config::rise>()},
    {.name = "fall",
     .type = integer,
     .fallback = "3",
     .least = "1",
     .most = "100",
     .text = "Probes in a row that must fail before an endpoint is down. HAProxy: 3.",
     .member = slot_of<&health_config::fall>()},
    {.name = "path",
     .type = value_type::text,
     .fallback = "/health",
     .text = "Probed with GET, below the prefix of the endpoint's URL; 2xx is healthy.",
     .member = slot_of<&health_config::path>()},
    {.name = "passive_failures",
     .type = integer,
     .fallback = "3",
     .least = "1",
     .most = "1000",
     .text =
         "Failures in a row from traffic that make an endpoint suspect. Envoy: 5; fleets here are smaller.",
     .member = slot_of<&health_config::passive_failures>()},
    {.name = "suspect_for",
     .type = value_type::duration,
     .fallback = "10s",
     .least = "100ms",
     .most = "10m",
     .text = "How long a suspect endpoint is asked last.",
     .member = slot_of<&health_config::suspect_for>()},
    {.name = "token_grace",
     .type = value_type::duration,
     .fallback = "5s",
     .least = "0s",
     .most = "5m",
     .text = "A token this fresh outranks a failed probe: an engine that generates is alive.",
     .member = slot_of<&health_config::token_grace>()},
    {.name = "scrape_interval",
     .type = value_type::duration,
     .fallback = "1s",
     .least = "50ms",
     .most = "10m",
     .special = "no scrapes",
     .zero_allowed = true,
     .text =
         "Between two reads of an engine's metrics. The traffic itself is the first source of load, so this "
         "can be slow; old or failed scrapes never take an endpoint out.",
     .member = slot_of<&health_config::scrape_interval>()},
    {.name = "metrics_path",
     .type = value_type::text,
     .fallback = "/metrics",
     .text = "Where engines show their metrics, below the prefix of the endpoint's URL.",
     .member = slot_of<&health_config::metrics_path>()},
    {.name = "models_interval",
     .type = value_type::duration,
     .fallback = "30s",
     .least = "1s",
     .most = "1h",
     .text = "Between two reads of the models that an engine serves (`/v1/models`), adapters included.",
     .member = slot_of<&health_config::models_interval>()},
};

constexpr key_spec log_keys[] = {
    {.name = "access",
     .type = value_type::text,
     .fallback = "stdout",
     .reload = false,
     .text =
         "Where the access log goes, one JSON line a request: `stdout`, `stderr`, `off`, or a file's path. "
         "Prompts and answers never occur in it.",
     .member = slot_of<&log_config::access>()},
    {.name = "level",
     .type = choice,
     .fallback = "info",
     .choices = log_levels,
     .text = "Least severity of the program's own log, which goes to stderr.",
     .member = slot_of<&log_config::level>()},
};

constexpr key_spec routing_keys[] = {
    {.name = "table_bytes",
     .type = size,
     .fallback = "64MiB",
     .least = "1MiB",
     .most = "64GiB",
     .reload = false,
     .text = "Memory of the prefix table, which all workers share.",
     .member = slot_of<&routing_config::table_bytes>()},
    {.name = "block_bytes",
     .type = size,
     .fallback = "1KiB",
     .least = "64B",
     .most = "64KiB",
     .reload = false,
     .text =
         "Prompt bytes a prefix block, some 256 tokens by default. Smaller finds shorter common prefixes and "
         "fills the table sooner.",
     .member = slot_of<&routing_config::block_bytes>()},
    {.name = "lambda",
     .type = number,
     .fallback = "1",
     .least = "0",
     .most = "1000",
     .text =
         "Penalty for prompt tokens that an endpoint would compute anew: `score = queue + (1 + lambda) x "
         "uncached tokens`. It grows by itself with the requests that wait, everywhere and at the endpoint.",
     .member = slot_of<&routing_config::lambda>()},
    {.name = "sequence_cost",
     .type = number,
     .fallback = "200",
     .least = "0",
     .most = "1000000",
     .text = "Tokens of prefill that one more sequence in flight is taken to cost.",
     .member = slot_of<&routing_config::sequence_cost>()},
    {.name = "learn_sequence_cost",
     .type = boolean,
     .fallback = "false",
     .text = "Take what one more sequence costs from measured inter-token times and output lengths, and "
             "`sequence_cost` only until they are known.",
     .member = slot_of<&routing_config::learn_sequence_cost>()},
    {.name = "hold",
     .type = value_type::duration,
     .fallback = "10s",
     .least = "0s",
     .most = "10m",
     .text = "Policy `prefix`: while an engine has enough to do, requests for it wait in the proxy, at most so "
             "long, and go in the order of their coming and their length: a short prompt does not stand behind "
             "long ones. `0s` sends every request at once.",
     .member = slot_of<&routing_config::hold>()},
    {.name = "load_factor",
     .type = number,
     .fallback = "1.25",
     .least = "1.01",
     .most = "100",
     .text = "Consistent hashing passes over an endpoint above this many times the mean load.",
     .member = slot_of<&routing_config::load_factor>()},
    {.name = "session_headers",
     .type = text_list,
     .fallback = "x-session-id,x-claude-code-session-id,x-session-affinity,x-opencode-session,session-id,"
                 "session_id",
     .text =
         "Request headers that name a session; the first that a request has is its key for "
         "`consistent_hash` and for near-ties of `prefix`, before the body's `prompt_cache_key` and `user`.",
     .member = slot_of<&routing_config::session_headers>()},
    {.name = "tenant_salt",
     .type = value_type::text,
     .fallback = "",
     .text =
         "`header:NAME` keeps the caches of tenants apart: the header's value, which something before "
         "Penstock must set, joins the prompt's hashes, and its digest goes to the engine as `cache_salt` "
         "(chat, completions, responses, messages), together with the client's own one. Requests without it "
         "are one "
         "tenant.",
     .member = slot_of<&routing_config::tenant_salt>()},
};

template <auto Member>
void* part(config& c) {
  return &(c.*Member);
}
template <auto Member>
const void* part_view(const config& c) {
  return &(c.*Member);
}

constexpr section_spec all_sections[] = {
    {"server", false, "The listeners that clients connect to.", server_keys, part<&config::server>,
     part_view<&config::server>},
    {"admin", false, "The listener for operators.", admin_keys, part<&config::admin>,
     part_view<&config::admin>},
    {"limits", false, "Bounds in bytes and counts. What exceeds one is refused with a reason.", limits_keys,
     part<&config::limits>, part_view<&config::limits>},
    {"timeouts", false, "Bounds in time, each counted on its own.", timeouts_keys, part<&config::timeouts>,
     part_view<&config::timeouts>},
    {"health", false, "Probes, marks from traffic, and scrapes of engine metrics.", health_keys,
     part<&config::health>, part_view<&config::health>},
    {"log", false, "", log_keys, part<&config::log>, part_view<&config::log>},
    {"routing", false,
     "Constants of the policies `prefix` and `consistent_hash`. Speeds and costs are learned "
     "from the traffic.",
     routing_keys, part<&config::routing>, part_view<&config::routing>},
    {"pool", true, "Engines that serve the same models. At least one pool is needed.", pool_keys, nullptr,
     nullptr},
    {"pool.disaggregation", false,
     "Prefill on one engine of the pool above it, decode on another. Without this section no request is "
     "split.",
     disaggregation_keys, nullptr, nullptr},
    {"pool.endpoint", true, "One engine of the pool above it: an address and, with data parallelism, a rank.",
     endpoint_keys, nullptr, nullptr},
};

}  // namespace

std::span<const section_spec> sections() { return all_sections; }

}  // namespace penstock::conf
