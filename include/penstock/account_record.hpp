// Everything the access log and the metrics need to know of one request: filled once, consumed once.
#pragma once

#include <cstdint>
#include <string>

#include "penstock/api.hpp"
#include "penstock/ids.hpp"
#include "penstock/plan.hpp"
#include "penstock/reason.hpp"
#include "penstock/time.hpp"

namespace penstock {

// Token counts of one answer. Known only as far as the engine told; `estimated` marks our own count.
struct token_usage {
  std::uint64_t prompt = 0, completion = 0, cached = 0;
  bool known = false;         // the engine sent usage
  bool cached_known = false;  // and told how much of the prompt came from its cache
};

struct account_record {
  std::string request_id, trace_parent, client, method, path, model, pool, endpoint_url;
  api_kind api = api_kind::unknown;
  bool stream = false;
  std::uint16_t status = 0;  // sent to the client; 0: none was
  reason why = reason::ok;
  std::uint32_t attempts = 0;
  std::uint64_t bytes_in = 0, bytes_out = 0, events = 0, oversized_events = 0;
  // Decision.
  policy by = policy::prefix;
  choice chosen = choice::only_candidate;
  std::uint32_t prompt_blocks = 0, hit_blocks = 0;
  std::uint64_t predicted_cached = 0, predicted_prompt = 0;
  double score = 0, queue_tokens = 0;
  std::uint32_t in_flight = 0;   // sequences at the endpoint before this one
  duration predicted_prefill{};  // from the last dispatch to the first token
  // Of a split request.
  split_choice split = split_choice::not_asked;
  std::string prefill_url;       // of the last prefill engine that was asked
  std::string_view handoff;      // how its blocks were given back: a name of handoff::closing
  instant prefill_done{};        // its answer was whole
  double transfer_expected = 0;  // seconds from there to the first token, as the decision saw it
  // Time. Instants are epoch (zero) when the step was not reached.
  instant engine_asked{};  // the last dispatch; `dispatched` is the first decision
  duration held{};  // of the time before `dispatched`: waited here for its turn
  instant accepted{}, body_done{}, dispatched{}, sent{}, first_byte{}, first_token{}, last_token{}, ended{};
  duration longest_gap{};
  token_usage usage;
  std::uint64_t content_events = 0;  // events with generated content
};

}  // namespace penstock
