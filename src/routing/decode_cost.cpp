#include "routing/decode_cost.hpp"

#include <algorithm>

namespace penstock::routing {
namespace {

constexpr double least_completion = 8;              // shorter answers measure a step or two
constexpr double least_gap = 1e-6, most_gap = 100;  // seconds per token
constexpr double most_sequences = 65536;
constexpr double decay = 0.98;
constexpr double trusted = 8;          // answers from which on outliers are drawn in
constexpr double clamp = 3;            // ... to this factor of the fit
constexpr double least_spread = 0.04;  // of the load, as variance over mean squared: below it no slope

}  // namespace

void learn_decode(decode_sums& sums, double completion, double secs, double sequences) {
  if (!(completion >= least_completion) || !(secs > 0) || !(sequences >= 1)) return;
  double gap = secs / (completion - 1);
  if (!(gap >= least_gap) || !(gap <= most_gap) || !(sequences <= most_sequences)) return;
  const decode_fit known = fit_of(sums);
  const double expected = static_cast<double>(known.base) + static_cast<double>(known.slope) * sequences;
  if (static_cast<double>(sums.n) >= trusted && expected > 0) {
    gap = std::clamp(gap, expected / clamp, expected * clamp);
  }
  const auto add = [](float& sum, double v) {
    sum = static_cast<float>(static_cast<double>(sum) * decay + v);
  };
  add(sums.n, 1);
  add(sums.x, sequences);
  add(sums.y, gap);
  add(sums.xx, sequences * sequences);
  add(sums.xy, sequences * gap);
}

decode_fit fit_of(const decode_sums& s) {
  if (!(s.n >= 1)) return {};
  const double n = static_cast<double>(s.n), x = static_cast<double>(s.x) / n,
               y = static_cast<double>(s.y) / n;
  const double spread = static_cast<double>(s.xx) / n - x * x;
  double slope = 0;
  if (s.n >= 4 && spread > least_spread * x * x) {
    slope = (static_cast<double>(s.xy) / n - x * y) / spread;
  }
  // Neither can be negative: a batch does not get faster by growing, nor does it take no time.
  slope = std::clamp(slope, 0.0, y / x);
  return {static_cast<float>(y - slope * x), static_cast<float>(slope)};
}

}  // namespace penstock::routing
