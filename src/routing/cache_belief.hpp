// How much an engine's cache really holds, learned where answers or counters contradict the belief: plain
// arithmetic on one endpoint's figures.
#pragma once

#include <cstdint>

namespace penstock::routing {

// What one prompt's lookup says of its endpoint's LRU. A distance is the tokens that the endpoint used
// since the block was last used: an LRU of C tokens holds what is nearer than C and nothing else.
struct cache_evidence {
  std::uint32_t held_blocks = 0;     // leading blocks that were believed to be held
  std::uint32_t ghost_blocks = 0;    // leading blocks that are known, the believed and the evicted ones
  std::uint64_t held_distance = 0;   // of the farthest of the believed ones
  std::uint64_t ghost_distance = 0;  // of the farthest of the evicted ones
  bool in_flight = false;            // some of the believed ones had no first token yet
};

// The same with what the engine said of it. Tokens are the engine's; distances stay in those of the estimate,
// as the capacity is applied to them.
struct cache_sample {
  std::uint64_t held_tokens = 0, ghost_tokens = 0;
  std::uint64_t held_distance = 0, ghost_distance = 0;
  std::uint64_t cached = 0;  // usage.prompt_tokens_details.cached_tokens
};

// One endpoint's capacity in tokens. `base` is what its metrics or the default say.
struct cache_belief {
  double capacity = 0, base = 0;
  bool base_known = false;  // from metrics: evidence may lower it to a quarter, no further
  double trust = 1;         // share of the nearest believed tokens that the engine really had
  double missing = 0;       // of the answers about farther ones: those that contradicted the belief
};

// Fewer tokens are within the rounding of blocks and of the estimate.
inline constexpr std::uint64_t least_told_tokens = 512;

// After an answer with cached_tokens. Raised at once to a distance that the engine was seen to hold, for a
// belief that is too small is ruinous; lowered by a 16th of the way to one that it had evicted, for a
// single miss has other causes too: a prompt is looked up when its turn comes, and running sequences push out
// more than their age says. Misses far below the capacity count only while they are many, and hits at its edge
// raise it again where it is below the engine's own figure: what is believed to be gone is not asked for, so
// nothing else could. Trust learns from blocks so near that no capacity explains a miss: an
// engine without a prefix cache, or one that sees other tokens than we do.
cache_belief learn_from_answer(cache_belief b, const cache_sample& s);

// Hits and lookups of some time, in tokens: as the engine's counters tell them, and as believed. For
// engines that do not send cached_tokens.
struct cache_counters {
  double hits = 0, queries = 0, believed_hits = 0, believed_queries = 0;
};
// Unchanged when much of the traffic was not ours or there was too little of it.
cache_belief learn_from_counters(cache_belief b, const cache_counters& c);

}  // namespace penstock::routing
