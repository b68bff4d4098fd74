// Tells from scrapes and lost connections that the engine behind an endpoint is another process than
// before: its KV cache is empty.
#pragma once

#include "penstock/fleet_view.hpp"

namespace penstock::health {

class restart_detector {
 public:
  // The endpoint refused a connection or moved to other addresses: perhaps the process is gone.
  void gone() { doubtful_ = true; }

  // The endpoint answers probes. True: it was gone, and this engine never gave a figure that could show
  // that it is still the same process.
  bool answered();

  // The endpoint answers probes, but its scrapes failed several times in a row. True: it was gone, and
  // nothing is going to show that it is still the same process.
  bool scrapes_failed();

  // A scrape with figures. True: the start time moved, a counter went back, or it was gone and nothing
  // here speaks against a new process.
  bool scraped(const engine_state& state);

 private:
  double start_time_s_ = 0;
  double hits_ = -1, queries_ = -1;
  bool doubtful_ = false;
  bool informed_ = false;  // some scrape had a start time or a counter
};

// Start times this close are one process: they are computed from the boot time, which a clock step moves.
inline constexpr double start_time_tolerance_s = 1.0;

}  // namespace penstock::health
