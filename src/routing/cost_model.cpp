#include "routing/cost_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace penstock::routing {
namespace {

// Bounds that only nonsense reaches; they keep counts inside the board's 48 bits.
constexpr std::uint64_t most_tokens = std::uint64_t{1} << 32;
constexpr std::uint64_t most_sequences = 65536;
// An endpoint nobody believes in is still asked when all others cost 20 times as much.
constexpr double least_confidence = 0.05;
// Confidence in an endpoint that refused or failed lately, on top of what health says.
constexpr double doubt = 0.25;
constexpr double stall_seconds = 2, stall_factor = 4;
constexpr double most_sequence_cost = 1e6;
constexpr double same_speed = 1.25;
// What a request that waits at the median endpoint adds to lambda, what one adds that waits at the endpoint
// itself, and what a token of the shared head costs. All were flat around these values over the laboratory's
// cells (perf/lab/NOTES.md).
constexpr double lambda_a_waiting = 2;
constexpr double lambda_a_follower = 0.5;
constexpr double shared_share = 0.25;

constexpr double sane(double v, double least, double most, double otherwise) {
  return v >= least && v <= most ? v : otherwise;
}

}  // namespace

request_size size_of(const request_facts& facts) {
  std::uint64_t tokens = 0;
  for (const prefix_chain& c : facts.prompts) tokens += c.tokens();
  const std::uint64_t prompts = std::max<std::uint64_t>(facts.prompts.size(), 1);
  const std::uint64_t sequences = prompts * std::max<std::uint64_t>(facts.n, 1);
  return {std::min(std::max(tokens, facts.prompt_tokens), most_tokens),
          static_cast<std::uint32_t>(std::min(sequences, most_sequences))};
}

cost_weights weights_of(const routing_config& settings) {
  const cost_weights d;
  return {sane(settings.lambda, 0, 1e6, d.lambda), sane(settings.sequence_cost, 0, 1e9, d.sequence),
          sane(settings.load_factor, 1, 1e6, d.load_factor), settings.learn_sequence_cost};
}

double queue_tokens(const endpoint_load& load, double speed, instant now) {
  const double due = seconds(load.finish - now), outstanding = static_cast<double>(load.prefill_tokens);
  if (load.prefill_tokens == 0) return 0;
  const double patience = stall_seconds + stall_factor * outstanding / speed;
  return std::min(std::abs(due) * speed, outstanding) + std::max(-due - patience, 0.0) * speed;
}

double learned_sequence_cost(const decode_fit& fit, double expected_output, double speed, double otherwise) {
  const double cost = static_cast<double>(fit.slope) * expected_output * speed;
  return cost > 0 ? std::min(cost, most_sequence_cost) : otherwise;
}

double pace_of(double pool, double own) {
  if (!(pool > 0) || !(own > 0)) return 1;
  const double pace = std::clamp(pool / own, 0.01, 100.0);
  if (pace > same_speed) return pace / same_speed;
  return pace < 1 / same_speed ? pace * same_speed : 1;
}

double pool_speed(std::span<const draft> drafts) {
  std::array<double, max_endpoints> known;
  std::size_t n = 0;
  for (const draft& d : drafts) {
    if (d.load.speed > 0 && n < known.size()) known[n++] = d.load.speed;
  }
  if (n == 0) return default_speed;
  const auto middle = known.begin() + static_cast<std::ptrdiff_t>(n / 2);
  std::nth_element(known.begin(), middle, known.begin() + static_cast<std::ptrdiff_t>(n));
  return *middle;
}

double crowded_lambda(double lambda, double waiting) {
  return lambda + lambda_a_waiting * std::clamp(waiting, 0.0, 1e4);
}

void appraise(draft& d, const request_size& size, const cost_weights& weights, double pool, instant now) {
  candidate& c = d.figures;
  const double speed = d.load.speed > 0 ? d.load.speed : pool;
  c.speed = d.load.speed;
  c.requests = static_cast<std::uint32_t>(std::min<std::uint64_t>(d.load.sequences, ~0U));
  const double pace = pace_of(pool, speed);
  c.queue_tokens = queue_tokens(d.load, speed, now) * pace;
  // The last token of a prompt is always computed, however much of it is held.
  const std::uint64_t least = std::min<std::uint64_t>(size.prompt_tokens, size.sequences);
  c.uncached_tokens = std::max(size.prompt_tokens - std::min(c.hit_tokens, size.prompt_tokens), least);
  if (d.load.suspect_until > now) d.doubted = true;
  const double trust = std::max(d.doubted ? c.confidence * doubt : c.confidence, least_confidence);
  const double sequence = d.sequence_cost > 0 ? d.sequence_cost : weights.sequence;
  const auto uncached = static_cast<double>(c.uncached_tokens);
  const double shared = std::clamp(weights.shared_tokens - static_cast<double>(c.hit_tokens), 0.0, uncached);
  const double followers = lambda_a_follower * weights.free_share * static_cast<double>(d.load.waiting);
  const double cost = c.queue_tokens + sequence * static_cast<double>(c.requests) +
                      (pace + weights.lambda + followers) * (uncached - shared) +
                      shared_share * pace * shared;
  c.confidence = trust;
  // One sequence more, so that doubt weighs where everything else is free.
  c.score = cost + (cost + sequence) * (1 / trust - 1);
}

}  // namespace penstock::routing
