// The /metrics page: workers' cells and the fleet as Prometheus families.
#pragma once

#include <cstdint>
#include <string>

#include "penstock/fleet_view.hpp"
#include "penstock/time.hpp"
#include "proxy/worker/metrics.hpp"

namespace penstock::admin {

// What the page is made of besides the workers' cells.
struct process_figures {
  std::uint64_t reloads_good = 0, reloads_rejected = 0;
  bool last_reload_good = true;
  std::uint64_t log_lines_dropped = 0;
  std::size_t workers = 0;
  instant now{};
};

// Text exposition format 0.0.4. Label sets are bounded by pools, endpoints and the closed list of reasons.
std::string metrics_page(const worker::worker_metrics& cells, const fleet_view& fleet,
                         const process_figures& figures);

}  // namespace penstock::admin
