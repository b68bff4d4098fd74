// Which pool serves a model name, which endpoints of it do, and what their engines call it.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/fleet_view.hpp"

namespace penstock::routing {

inline constexpr std::uint32_t no_pool = std::numeric_limits<std::uint32_t>::max();

enum class serving : std::uint8_t { unknown, serves, lacks };

// One endpoint of the pool. `seed` stands for what the engine mixes into its block hashes.
struct endpoint_model {
  std::uint64_t seed = 0;
  serving state = serving::unknown;
};

// `endpoints` runs parallel to pool_view::endpoints. `family` is one seed for all of them, the same
// whatever their order: for hashing and popularity.
struct model_route {
  std::uint32_t pool = no_pool;
  bool served = false;  // some endpoint of the pool, in whatever state, is known to serve it
  std::uint64_t family = 0;
  std::vector<endpoint_model> endpoints;
};

// Resolves a model name at one endpoint. Names of one engine with the same root are one model. An
// adapter is not its parent: engines put its name into their block hashes (vLLM's extra keys), so it is
// seeded with its parent's root and its own name, and the same name over another parent is another model.
endpoint_model resolve_model(const endpoint_view& endpoint, std::string_view model);

// The pool for a model name: the one that lists it; else one whose engines serve it (any name where the
// pool lists "*", adapters of a listed parent elsewhere); else the first with "*". Without a name: the
// only pool, else the first with "*". no_pool when there is none.
std::uint32_t choose_pool(const fleet_view& fleet, std::string_view model);

// Model names that a caller could have asked for, sorted, at most `most`.
std::vector<std::string> known_models(const fleet_view& fleet, std::size_t most);

// Remembers the routes of the last few names, for one version of the fleet. Version 0 is never kept.
class model_index {
 public:
  // Valid until the next call.
  const model_route& route(const fleet_view& fleet, std::string_view model);

 private:
  static constexpr std::size_t slots = 16, longest_name = 256;
  struct entry {
    std::uint64_t version = 0;
    std::string model;
    model_route route;
  };
  std::array<entry, slots> entries_;
  model_route scratch_;
};

}  // namespace penstock::routing
