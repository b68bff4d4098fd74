#include "routing/fleet_index.hpp"

#include <limits>

#include "routing/rendezvous.hpp"

namespace penstock::routing {

namespace {

std::uint64_t sum(std::uint64_t a, std::uint64_t b) {
  return a <= std::numeric_limits<std::uint64_t>::max() - b ? a + b
                                                            : std::numeric_limits<std::uint64_t>::max();
}

}  // namespace

std::uint64_t kv_capacity(const endpoint_view& endpoint) {
  if (endpoint.settings.kv_tokens > 0) return endpoint.settings.kv_tokens;
  const engine_state& e = endpoint.engine;
  if (e.kv_tokens > 0) return sum(e.kv_tokens, e.host_kv_tokens);
  if (e.block_tokens == 0) return 0;
  const bool fits = e.kv_blocks <= std::numeric_limits<std::uint64_t>::max() / e.block_tokens;
  if (!fits) return std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t tokens = e.kv_blocks * e.block_tokens;
  return tokens > 0 ? sum(tokens, e.host_kv_tokens) : 0;
}

void fleet_index::sync(const fleet_view& fleet, prefix_table& prefixes, prefix_table& responses) {
  if (fleet.version != 0 && fleet.version == version_ && keys_.size() == fleet.endpoints.size()) return;
  version_ = fleet.version;
  keys_.clear();
  for (const endpoint_view& e : fleet.endpoints) {
    const std::string_view pool =
        e.pool < fleet.pools.size() ? std::string_view(fleet.pools[e.pool].name) : "";
    keys_.push_back(endpoint_key(pool, e.settings.url, e.settings.data_parallel_rank));
    prefixes.adopt(e.id, kv_capacity(e), e.engine.start_time_s, e.settings.kv_tokens > 0);
    prefixes.check(e.id, e.engine.prefix_hits, e.engine.prefix_queries);
    // An engine that started again has forgotten its responses too.
    responses.adopt(e.id, 0, e.engine.start_time_s);
  }
}

}  // namespace penstock::routing
