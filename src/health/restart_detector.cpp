#include "health/restart_detector.hpp"

#include <cmath>

namespace penstock::health {
namespace {

// A counter that was known goes back only in a new process. Takes the new figure where there is one.
bool went_back(double& known, double seen) {
  if (seen < 0) return false;
  const bool back = known >= 0 && seen < known;
  known = seen;
  return back;
}

}  // namespace

bool restart_detector::answered() {
  if (!doubtful_ || informed_) return false;
  doubtful_ = false;
  return true;
}

bool restart_detector::scrapes_failed() {
  const bool lost = doubtful_;
  doubtful_ = false;
  return lost;
}

bool restart_detector::scraped(const engine_state& state) {
  const bool was_doubtful = doubtful_;
  const bool hits_back = went_back(hits_, state.prefix_hits);
  const bool queries_back = went_back(queries_, state.prefix_queries);
  bool restarted = hits_back || queries_back;
  if (state.start_time_s > 0) {
    const bool known = start_time_s_ > 0;
    if (known && std::abs(state.start_time_s - start_time_s_) > start_time_tolerance_s) restarted = true;
    if (was_doubtful && !known) restarted = true;
    start_time_s_ = state.start_time_s;
  } else if (was_doubtful) {
    // Counters that did not shrink prove nothing once connections were refused.
    restarted = true;
  }
  if (state.start_time_s > 0 || state.prefix_queries >= 0 || state.prefix_hits >= 0) informed_ = true;
  if (state.scraped_at != instant{}) doubtful_ = false;
  return restarted;
}

}  // namespace penstock::health
