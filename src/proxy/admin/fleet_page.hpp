// /debug/fleet: the fleet as the workers see it, as JSON.
#pragma once

#include <string>

#include "penstock/fleet_view.hpp"
#include "penstock/time.hpp"
#include "routing/endpoint_board.hpp"

namespace penstock::admin {

// Every endpoint with its state, what its engine told, and what we have outstanding there. No secrets.
std::string fleet_page(const fleet_view& fleet, const routing::endpoint_board& board, instant now);

}  // namespace penstock::admin
