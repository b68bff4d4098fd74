// Where a request shall go, and why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "penstock/disaggregation.hpp"
#include "penstock/ids.hpp"
#include "penstock/time.hpp"

namespace penstock {

enum class policy : std::uint8_t {
  prefix,
  consistent_hash,
  least_tokens,
  least_requests,
  round_robin,
  random,
};
inline constexpr std::size_t policy_count = 6;
constexpr std::string_view name(policy v) {
  constexpr std::string_view names[] = {"prefix",         "consistent_hash", "least_tokens",
                                        "least_requests", "round_robin",     "random"};
  return names[static_cast<std::size_t>(v)];
}

// Why the first candidate is first.
enum class choice : std::uint8_t {
  only_candidate,  // nobody else could be asked
  holds_prefix,    // best score, and it holds part of the prompt
  least_work,      // best score without a held prefix
  hash_tie,        // scores were near; consistent hashing over the telling block decided
  hash,            // policy consistent_hash
  hash_bounded,    // policy consistent_hash, the first choice was above its bound
  least_tokens,
  least_requests,
  round_robin,
  random,
  pinned,  // previous_response_id names the engine
};
constexpr std::string_view name(choice v) {
  constexpr std::string_view names[] = {"only_candidate", "holds_prefix", "least_work",   "hash_tie",
                                        "hash",           "hash_bounded", "least_tokens", "least_requests",
                                        "round_robin",    "random",       "pinned"};
  return names[static_cast<std::size_t>(v)];
}

// One endpoint that may serve the request, with the numbers that ranked it. Lower score is better;
// scores are in tokens of prefill work.
struct candidate {
  endpoint_id endpoint;
  endpoint_id prefill;           // another engine that prefills for this one; unset: it does all itself
  std::uint32_t hit_blocks = 0;  // leading blocks believed to be held
  std::uint64_t hit_tokens = 0;
  std::uint64_t uncached_tokens = 0;  // what it would have to compute
  double queue_tokens = 0;            // work in front of this request, speed-weighted
  std::uint32_t requests = 0;         // in flight there
  double speed = 0;                   // prefill tokens per second, learned; 0: not known
  double confidence = 1;              // 0..1 from health and the age of engine state
  double score = 0;
  double transfer_seconds = 0;  // of a split: expected from the decode request to the first token
};

// An ordered list of candidates. The first is the choice, the rest are for retries.
struct plan {
  policy by = policy::prefix;
  choice why = choice::only_candidate;
  std::uint64_t telling_key = 0;  // block key the hash ring was asked with
  bool by_session = false;        // it was asked with the session instead
  std::uint32_t telling_index = 0;
  std::uint32_t prompt_blocks = 0;
  std::vector<candidate> candidates;

  // Where the pool splits requests.
  split_choice split = split_choice::not_asked;
  connector_kind connector = connector_kind::nixl;
  duration lease{};  // of what the prefill engine holds
  double split_seconds = 0,
         one_seconds = 0;           // what both ways cost, in seconds until a first token; 0: not looked at
  std::vector<candidate> prefills;  // figures of the prefill engines that candidates name
};

}  // namespace penstock
