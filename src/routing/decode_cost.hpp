// What one more sequence costs the others of a batch, learned from finished answers: a robust regression of
// the time between tokens on the sequences in flight. Plain arithmetic on one endpoint's sums.
#pragma once

#include <cstdint>

namespace penstock::routing {

// Decayed sums of a weighted least squares fit: y = seconds per token, x = sequences in flight.
struct decode_sums {
  float n = 0, x = 0, y = 0, xx = 0, xy = 0;
};
// seconds per token = base + slope x sequences. Zeros while nothing is known; a slope of 0 also where the
// load was always the same, for then no slope can be told.
struct decode_fit {
  float base = 0, slope = 0;
};

// One answer: `completion` tokens (the engine's count, for an event may hold several) came in `secs` after
// the first, at `sequences` in flight on the average. Outliers are drawn in to 3 times the fit, a slow client
// or a pause of the engine must not pass for its speed; some 50 answers are remembered. Ignores what is too
// short or absurd.
void learn_decode(decode_sums& sums, double completion, double secs, double sequences);
decode_fit fit_of(const decode_sums& sums);

}  // namespace penstock::routing
