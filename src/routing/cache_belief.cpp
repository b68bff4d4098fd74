#include "routing/cache_belief.hpp"

#include <algorithm>

namespace penstock::routing {
namespace {

constexpr double lowered_by = 1.0 / 16;    // of the way, for one answer
constexpr double edge_share = 0.75;        // of the capacity: what lies between is its edge
constexpr double restored_by = 1.0 / 384;  // of the capacity, for a hit at the edge: a third of a mean miss
constexpr double missing_step = 1.0 / 16, much_missing = 0.25;
constexpr double counters_step = 1.0 / 8;  // of the capacity, for one comparison
constexpr double least_share = 0.25;       // of a capacity that the engine itself tells
constexpr double most_times = 64;          // what a host tier may add to it
constexpr double least_capacity = 4096;    // no engine serves with less
constexpr double most_capacity = 1ULL << 32;
constexpr double near_share = 0.25;  // of the capacity: nearer is held by any LRU
constexpr double trust_step = 1.0 / 16;
constexpr double rounding = 0.95;        // of a prediction: the estimate of tokens is no better
constexpr double least_counted = 16384;  // lookups that make a comparison

double bounded(const cache_belief& b, double capacity) {
  const double least = b.base_known ? std::min(b.base * least_share, b.base) : least_capacity;
  const double most = b.base_known ? std::min(b.base * most_times, most_capacity) : most_capacity;
  return std::clamp(capacity, least, std::max(most, least));
}

void trust_in(cache_belief& b, double share, double step) {
  b.trust = std::clamp(b.trust + step * (std::clamp(share, 0.0, 1.0) - b.trust), 0.0, 1.0);
}

}  // namespace

cache_belief learn_from_answer(cache_belief b, const cache_sample& s) {
  const auto cached = static_cast<double>(s.cached), held = static_cast<double>(s.held_tokens);
  const bool told = s.held_tokens >= least_told_tokens;
  const auto distance = static_cast<double>(s.held_distance);
  const bool missed = told && cached + static_cast<double>(least_told_tokens) / 2 < held * rounding;
  const bool near = distance <= b.capacity * near_share;
  if (told && near) trust_in(b, missed ? cached / held : 1, trust_step);
  if (told && !near && distance < b.capacity) {
    b.missing += missing_step * ((missed ? 1.0 : 0.0) - b.missing);
    const bool edge = distance > b.capacity * edge_share;
    if (missed && (edge || b.missing > much_missing)) {
      b.capacity = bounded(b, b.capacity - lowered_by * (b.capacity - distance));
    } else if (!missed && edge && b.base_known && b.capacity < b.base) {
      b.capacity = std::min(b.capacity * (1 + restored_by), b.base);
    }
  }
  // More than half of what was taken to be evicted was there.
  const auto ghost = static_cast<double>(s.ghost_tokens),
             ghost_distance = static_cast<double>(s.ghost_distance);
  const bool beaten = s.ghost_tokens >= s.held_tokens + least_told_tokens && 2 * cached > held + ghost;
  if (beaten && ghost_distance > b.capacity) b.capacity = bounded(b, ghost_distance);
  return b;
}

cache_belief learn_from_counters(cache_belief b, const cache_counters& c) {
  if (!(c.queries >= least_counted) || !(c.hits >= 0) || !(c.hits <= c.queries)) return b;
  const bool ours = c.believed_queries > 0.75 * c.queries && c.believed_queries < 1.25 * c.queries;
  if (!ours) return b;
  const double seen = c.hits / c.queries, believed = c.believed_hits / c.believed_queries;
  if (seen < 0.8 * believed - 0.02) {
    b.capacity = bounded(b, b.capacity * (1 - counters_step));
    // Only where the engine has nothing to show for its share of the work is more wrong than the capacity.
    trust_in(b, seen < 0.1 * believed ? 0 : 1, 4 * trust_step);
  } else {
    trust_in(b, 1, 4 * trust_step);
    if (seen > 1.1 * believed + 0.02) b.capacity = bounded(b, b.capacity * (1 + counters_step));
  }
  return b;
}

}  // namespace penstock::routing
