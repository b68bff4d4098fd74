// The closed list of ways a request can end. Error bodies (`code`), the access log (`reason`) and the
// metrics (`reason` label) all use these names and no others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock {

enum class reason : std::uint8_t {
  ok,
  // The client left or did not play its part.
  client_gone,
  slow_client,
  head_timeout,
  body_timeout,
  // What the client sent was refused.
  bad_http,
  bad_target,
  bad_framing,
  bad_version,
  method_not_allowed,
  not_implemented,
  expectation_failed,
  head_too_large,
  body_too_large,
  unsupported_media_type,
  unsupported_encoding,
  invalid_json,
  invalid_field,
  missing_field,
  field_not_allowed,
  not_found,
  model_not_found,
  response_not_found,
  // We had no room or nobody to send it to.
  memory,
  no_endpoint,
  draining,
  drain_deadline,
  // The engine failed us before the first token (garbage and the total deadline: at any time).
  connect_failed,
  connect_timeout,
  engine_reset,
  engine_garbage,
  engine_error,
  engine_overloaded,
  engine_refused,
  handoff_failed,
  handoff_late,
  first_token_timeout,
  total_timeout,
  // The engine failed after answer bytes were passed on.
  engine_cut,
  engine_no_end_marker,
  engine_error_event,
  event_timeout,
  // We failed.
  internal,
  count_  // not a reason: how many there are
};

inline constexpr std::size_t reason_count = static_cast<std::size_t>(reason::count_);

// How a reason shows: stable name, HTTP status of an answer that we make for it (0: no answer is
// possible or the engine's own is passed), the OpenAI error `type`, whether the same request may
// succeed when sent again, and what an operator or caller does next.
struct reason_traits {
  std::string_view name;
  std::uint16_t status;
  std::string_view type;
  bool retryable;
  std::string_view advice;
};

namespace detail {
inline constexpr std::string_view no_type{};
inline constexpr std::string_view bad_request = "invalid_request_error";
inline constexpr std::string_view server = "server_error";
inline constexpr std::string_view late = "timeout_error";

inline constexpr reason_traits reason_table[reason_count] = {
    {"ok", 200, no_type, false, "nothing to do"},
    {"client_gone", 0, no_type, false, "the client closed its connection before the answer ended"},
    {"slow_client", 0, no_type, false, "the client read too slowly; see timeouts.client_stall"},
    {"head_timeout", 408, late, true, "send the request head faster; see timeouts.request_head"},
    {"body_timeout", 408, late, true, "send the body faster; see timeouts.request_body and body_rate"},
    {"bad_http", 400, bad_request, false, "send well-formed HTTP/1.1"},
    {"bad_target", 400, bad_request, false, "send a plain path such as /v1/chat/completions"},
    {"bad_framing", 400, bad_request, false, "send one Content-Length or Transfer-Encoding: chunked"},
    {"bad_version", 505, bad_request, false, "use HTTP/1.1"},
    {"method_not_allowed", 405, bad_request, false, "use a method from the Allow header"},
    {"not_implemented", 501, bad_request, false, "use GET, POST, HEAD or OPTIONS"},
    {"expectation_failed", 417, bad_request, false, "the only expectation known is 100-continue"},
    {"head_too_large", 431, bad_request, false, "send fewer or shorter headers; see limits.head_bytes"},
    {"body_too_large", 413, bad_request, false, "send a shorter body or raise limits.body_bytes"},
    {"unsupported_media_type", 415, bad_request, false, "send Content-Type: application/json"},
    {"unsupported_encoding", 415, bad_request, false, "send the body without Content-Encoding"},
    {"invalid_json", 400, bad_request, false, "send valid JSON"},
    {"invalid_field", 400, bad_request, false, "correct the member named in param"},
    {"missing_field", 400, bad_request, false, "add the member named in param"},
    {"field_not_allowed", 400, bad_request, false, "leave out the member or header named in param"},
    {"not_found", 404, bad_request, false, "see the list of paths in the README"},
    {"model_not_found", 404, bad_request, false, "ask GET /v1/models for the models served here"},
    {"response_not_found", 400, bad_request, false, "send the whole conversation again"},
    {"memory", 503, server, true, "try again; raise limits.body_memory or add replicas"},
    {"no_endpoint", 503, server, true, "check that engines run and are reachable: /debug/fleet"},
    {"draining", 503, server, true, "try again; this replica is shutting down"},
    {"drain_deadline", 503, server, true, "send the request again, another replica will take it"},
    {"connect_failed", 502, server, true,
     "send the request again; the operator checks that the engines listen"},
    {"connect_timeout", 504, late, true, "send the request again; the limit is timeouts.connect"},
    {"engine_reset", 502, server, true,
     "send the request again; the operator finds the cause in the engine's log"},
    {"engine_garbage", 502, server, true,
     "send the request again; the operator finds the cause in the engine's log"},
    {"engine_error", 0, no_type, false, "the engine answered with an error, passed on unchanged"},
    {"engine_overloaded", 0, no_type, true, "every engine asked answered 429 or 503"},
    {"engine_refused", 0, no_type, false, "the engine refused the request (4xx), passed on unchanged"},
    {"handoff_failed", 502, server, true,
     "send the request again; the operator checks the prefill engine's connector"},
    {"handoff_late", 504, late, true,
     "send the request again; the operator compares the pool's lease with the way between the engines"},
    {"first_token_timeout", 504, late, true, "send the request again; the limit is timeouts.first_token"},
    {"total_timeout", 504, late, true, "ask for less or raise timeouts.total"},
    {"engine_cut", 502, server, true,
     "send the request again; the operator finds the cause in the engine's log"},
    {"engine_no_end_marker", 502, server, true, "send the request again; the answer is not complete"},
    {"engine_error_event", 0, no_type, true, "the engine sent an error inside its stream"},
    {"event_timeout", 504, late, true, "send the request again; the limit is timeouts.between_events"},
    {"internal", 500, server, true,
     "send the request again; the operator raises LimitNOFILE=, see `ulimit -n`, or adds replicas"},
};
}  // namespace detail

constexpr const reason_traits& traits(reason r) { return detail::reason_table[static_cast<std::size_t>(r)]; }
constexpr std::string_view name(reason r) { return traits(r).name; }

}  // namespace penstock
