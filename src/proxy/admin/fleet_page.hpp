// /debug/fleet: the fleet as the workers see it, as JSON.
#pragma once

#include <string>

#include "penstock/fleet_view.hpp"
#include "penstock/time.hpp"
#include "proxy/worker/metrics.hpp"
#include "routing/endpoint_board.hpp"

namespace penstock::admin {

// Every endpoint with its role, its state, what its engine told, and what we have outstanding there; of a
// pool that splits requests also the hand-offs that are open and what was learned of its pairs. No secrets.
std::string fleet_page(const worker::worker_metrics& cells, const fleet_view& fleet,
                       const routing::endpoint_board& board, instant now);

}  // namespace penstock::admin
