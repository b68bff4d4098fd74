#include "routing/rendezvous.hpp"

#include <xxhash.h>

namespace penstock::routing {

std::uint64_t endpoint_key(std::string_view pool, std::string_view url, int data_parallel_rank) {
  const std::uint64_t of_pool = XXH3_64bits(pool.data(), pool.size());
  const std::uint64_t of_url = XXH3_64bits_withSeed(url.data(), url.size(), of_pool);
  const auto rank = static_cast<std::int64_t>(data_parallel_rank);
  return XXH3_64bits_withSeed(&rank, sizeof rank, of_url);
}

}  // namespace penstock::routing
