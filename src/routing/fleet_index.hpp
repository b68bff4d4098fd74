// What a router works out once for each version of the fleet.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "penstock/fleet_view.hpp"
#include "routing/prefix_table.hpp"

namespace penstock::routing {

// Tokens of KV cache that an endpoint can hold: the configuration's figure, else the engine's own
// (tokens, else blocks x block size) and that of its host tier; 0 when nobody says.
std::uint64_t kv_capacity(const endpoint_view& endpoint);

class fleet_index {
 public:
  // Takes notice of a fleet: makes its endpoints owners of their slots in the tables, with their
  // capacities and engine starts. Free when the version is the one of last time; version 0 never is.
  void sync(const fleet_view& fleet, prefix_table& prefixes, prefix_table& responses);

  // Rendezvous identities, parallel to fleet_view::endpoints.
  std::span<const std::uint64_t> keys() const { return keys_; }

 private:
  std::uint64_t version_ = 0;
  std::vector<std::uint64_t> keys_;
};

}  // namespace penstock::routing
