// How fast an engine prefills, learned from its first tokens. Plain arithmetic on one endpoint's sums.
#pragma once

#include <cstdint>

#include "penstock/time.hpp"

namespace penstock::routing {

// Tokens and the seconds they took. An engine computes the prompts of many requests in one step, whose first
// tokens come together: the first that is seen would have all of the step's time and the others none, so that
// the speed would depend on which came last. Therefore steps are what is counted and forgotten.
struct prefill_sums {
  float tokens = 0, secs = 0;  // of the steps that are over, decayed
  // The step whose first tokens come now: its tokens, and what it leaves of the sums above (1: tells nothing).
  float step_tokens = 0, step_keeps = 1;
  std::uint32_t steps = 0;  // that counted, before this one
  // When it can have begun, when its first and last first tokens came, and the last one before it.
  instant begun{}, opened{}, told{}, before{};
};

// The first token, at `now`, of a request that was dispatched at `dispatched` and had `tokens` to compute. An
// engine works in order, so a step begins when the one before had its first tokens, or when its first request
// came. A request of less than 256 tokens tells nothing by itself, as fixed costs hide the speed, nor do many
// of them: what nobody sees the first token of may have been computed beside. A step that is far off what is
// known is drawn in to a factor of 8; some ten requests are remembered.
void learn_prefill(prefill_sums& sums, std::uint64_t tokens, instant dispatched, instant now);

// What is known by now, the step under way included. Zeros: nothing.
struct prefill_fit {
  float tokens = 0, secs = 0;
};
prefill_fit fit_of(const prefill_sums& sums);
// Tokens per second; 0: not known.
double speed_of(prefill_fit fit);

// Speeds beyond these are nonsense.
inline constexpr double least_prefill_speed = 10, most_prefill_speed = 1e7;

}  // namespace penstock::routing
