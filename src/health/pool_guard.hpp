// What probes may not do to a pool: take out its last endpoint, or more than half of it.
#pragma once

#include <span>

#include "penstock/config.hpp"
#include "penstock/fleet_view.hpp"
#include "penstock/time.hpp"

namespace penstock::health {

// One endpoint of a pool as the guard sees it.
struct guard_member {
  life state = life::starting;
  endpoint_role role = endpoint_role::both;
  bool draining = false;            // by mark: out, and not counted as a part of the pool
  bool accepts_connections = true;  // false: `down` stands whatever becomes of the pool
  bool proven = false;              // was up at some time
  instant last_good{};
  life effective = life::starting;  // out
};

// Sets `effective` of every member of one pool. Of the n members of a role that are not draining at least
// ceil(n / 2) stay in, as long as enough of them accept connections; those held in are `suspect`. First
// those that ever were up, then those last seen good. Per role, because prefill endpoints are no
// substitute for the last decode endpoint.
void guard_pool(std::span<guard_member> members);

}  // namespace penstock::health
