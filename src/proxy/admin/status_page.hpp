// The status page at `/`: what an operator wants to see first, as one HTML page without scripts or assets.
#pragma once

#include <string>

#include "penstock/fleet_view.hpp"
#include "penstock/time.hpp"
#include "proxy/worker/metrics.hpp"
#include "routing/endpoint_board.hpp"

namespace penstock::admin {

// Pools with what they answered, endpoints with state, queue and hit ratio. Loads itself again every 5 s.
// Names from configuration and engines are escaped; no secrets.
std::string status_page(const worker::worker_metrics& cells, const fleet_view& fleet,
                        const routing::endpoint_board& board, instant now);

}  // namespace penstock::admin
