// Who may be asked at all, and the figures of each that every policy ranks by.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/fleet_view.hpp"
#include "penstock/plan.hpp"
#include "routing/endpoint_board.hpp"
#include "routing/model_index.hpp"

namespace penstock::routing {

// One endpoint on its way to become a candidate.
struct draft {
  candidate figures;
  std::uint64_t key = 0;       // rendezvous identity
  std::uint64_t seed = 0;      // of its model in the prefix table
  std::uint32_t position = 0;  // in its pool
  bool doubted = false;        // it refused or failed lately
  double sequence_cost = 0;    // learned, in tokens; 0: as configured
  double decoding = 0;         // sequences that generate now; where pairs are priced
  double pace = 0;             // seconds between tokens expected there; 0: not known
  endpoint_load load;
};

// Why endpoints of a pool were left out.
struct absences {
  std::uint32_t down = 0, draining = 0, unresolved = 0, prefill_only = 0, decode_only = 0, other_model = 0;
  bool needs_both = false;  // no hand-off carries the request, and the pool has no engine for it, up or not
};

// Fills `out` with the endpoints of the route's pool that can take whole requests. Left out: `down`,
// `draining`, without address, role prefill, and those known to lack the model while another endpoint
// of the pool, alive or not, is known to serve it; when none is, all are asked, so that the caller gets
// the engine's own answer. Endpoints with role decode prefill as well as any engine does, but that is
// not what they are there for: they come in only where no other is left. `keys` runs parallel to
// fleet_view::endpoints.
absences gather(const fleet_view& fleet, const model_route& route, std::span<const std::uint64_t> keys,
                std::vector<draft>& out);

// One sentence for the error body.
std::string describe_absence(std::string_view pool, const absences& a);

}  // namespace penstock::routing
