// Consistent hashing with bounded load, by rendezvous: no ring to keep, and every replica agrees.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace penstock::routing {

// Identity of an endpoint for hashing: the same in every replica and across restarts, so it is made of
// what the configuration says and not of slots.
std::uint64_t endpoint_key(std::string_view pool, std::string_view url, int data_parallel_rank);

// The weight of an endpoint for a key; a key belongs to the endpoint with the highest (Thaler and
// Ravishankar, 1998). Removing an endpoint moves its own keys only, adding one takes 1/n of each other's.
// One multiplication-hash an endpoint: 128 of them cost less than one cache miss of a ring's search, and
// the share of each is exact where a ring needs hundreds of virtual nodes.
constexpr std::uint64_t rendezvous_weight(std::uint64_t endpoint, std::uint64_t key) {
  std::uint64_t h = endpoint ^ (key * 0x9e3779b97f4a7c15ULL);
  h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93ULL;
  h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93ULL;
  return h ^ (h >> 32);
}

// The bound of Mirrokni, Thorup and Zadimoghaddam ("Consistent hashing with bounded loads", 2016): an
// endpoint takes one more while its load is below `factor` times the mean, the newcomer included. With a
// factor of at least 1 the least loaded one always accepts.
constexpr bool within_bound(double load, double total, double extra, std::size_t endpoints, double factor) {
  return endpoints == 0 || load * static_cast<double>(endpoints) < factor * (total + extra);
}

}  // namespace penstock::routing
