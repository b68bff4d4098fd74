// The published routing rules that Penstock is compared with, each from its description.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "penstock/plan.hpp"
#include "penstock/random.hpp"

namespace penstock::lab {

// One engine as a rule sees it. With the published signals: `queued` are the uncached tokens of requests
// that were sent there and have not answered a byte yet, by the rule's own index. With ours: the queue that
// Penstock's router believes in, in tokens at the pool's speed.
struct sight {
  std::uint32_t engine = 0;
  double queued = 0;
  double requests = 0;    // in flight
  double load = 0;        // what rules that count requests go by: those, or ours in requests of 2,048 tokens
  std::uint64_t hit = 0;  // leading tokens of the prompt that it is believed to hold
  std::uint64_t uncached = 0;  // the rest of the prompt
  std::uint64_t served = 0;    // requests it ever got
};

struct question {
  std::span<const sight> engines;  // those that live; never empty
  std::uint64_t prompt_tokens = 0;
  std::uint64_t user_key = 0;  // hash of the prompt's first block behind the system prompt
  double peak_rate = 0;        // prefill tokens per second that the operator measured for this hardware
  double parameter = 0;
};

// Answers with an index into `engines`.
using rule_function = std::size_t (*)(const question& q, prng& rng);

struct rule {
  std::string_view name;
  rule_function choose;
  // The constant as published, and the one used unless the name says another (`sticky:18`): set by hand, why
  // is in NOTES.md.
  double published = 0, tuned = 0;
  std::string_view text;
};

std::span<const rule> rules();

enum class brain : std::uint8_t { router, rule, oracle };

// What decides in a run. `prefix`, `round_robin`, ... are policies of the router itself.
struct policy_spec {
  std::string name;
  brain by = brain::router;
  policy route = policy::prefix;
  bool hash_session = false;  // requests carry their session as affinity
  const rule* chosen = nullptr;
  double parameter = 0;
  bool ours = false;  // the rule reads our queue and our belief instead of its own
  // Where engines have roles: what pool.disaggregation.split says.
  std::optional<std::int64_t> split;
  // Overrides of routing settings, for experiments: `prefix:lambda=4`.
  std::optional<double> lambda, sequence_cost, hold;  // hold in seconds
};

// "prefix", "sticky", "sticky:18", "sticky+ours", ...; a sentence for the user when there is no such policy.
std::optional<policy_spec> parse_policy(std::string_view text, std::string& error);
std::string policy_help();

}  // namespace penstock::lab
