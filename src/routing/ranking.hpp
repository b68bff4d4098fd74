// The six policies: from figures to an order and a reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "penstock/plan.hpp"
#include "penstock/random.hpp"
#include "routing/candidates.hpp"
#include "routing/cost_model.hpp"

namespace penstock::routing {

// What the policies look at beyond the drafts.
struct rank_request {
  policy by = policy::prefix;
  cost_weights weights;
  double pool_speed = default_speed;
  std::uint32_t sequences = 1;
  std::uint64_t hash_key = 0;          // consistent_hash: what the request is hashed by; 0: nothing
  std::uint64_t tie_key = 0;           // prefix: the telling block; 0: none
  std::uint32_t cursor = 0;            // round_robin: the position whose turn it is
  std::size_t most = ~std::size_t{0};  // so many places of the order are looked at
};

// A place in the order; `index` is the draft's. Lower shelf, then lower score, then lower tie comes first.
struct ranked {
  double score = 0;
  std::uint64_t tie = 0;
  std::uint32_t shelf = 0, index = 0;

  friend constexpr bool operator<(const ranked& a, const ranked& b) {
    if (a.shelf != b.shelf) return a.shelf < b.shelf;
    if (a.score != b.score) return a.score < b.score;
    return a.tie < b.tie;
  }
};

// Orders appraised drafts, best first, and says why the first is first; behind the first `most` places they
// stand in any order. Under least_tokens and
// least_requests the scores become the policy's own figure. The outcome does not depend on the order of
// `drafts`. `rng` breaks ties that no key decides. `order` is the caller's scratch.
choice rank(std::span<draft> drafts, const rank_request& request, prng& rng, std::vector<ranked>& order);

}  // namespace penstock::routing
