#include "routing/candidates.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace penstock::routing {
namespace {

constexpr std::uint32_t fetch_ahead = 12;

// True when the endpoint takes requests; else counts why not.
bool takes_requests(const endpoint_view& e, absences& a) {
  switch (e.state) {
    case life::down: ++a.down; return false;
    case life::draining: ++a.draining; return false;
    case life::starting:
    case life::up:
    case life::suspect: break;
  }
  if (e.addresses.empty()) {
    ++a.unresolved;
    return false;
  }
  if (e.settings.role == endpoint_role::prefill) {
    ++a.prefill_only;
    return false;
  }
  return true;
}

}  // namespace

absences gather(const fleet_view& fleet, const model_route& route, std::span<const std::uint64_t> keys,
                std::vector<draft>& out) {
  absences a;
  const pool_view& pool = fleet.pools[route.pool];
  bool whole = false;
  // What stands there from the last decision is overwritten: to clear it all costs more than to fill it in.
  out.resize(pool.endpoints.size());
  std::size_t taken = 0;
  for (std::uint32_t p = 0; p < pool.endpoints.size(); ++p) {
    const std::uint32_t i = pool.endpoints[p];
    if (i >= fleet.endpoints.size()) continue;
    if (const std::uint32_t next = p + fetch_ahead; next < pool.endpoints.size()) {
      if (pool.endpoints[next] < fleet.endpoints.size())
        __builtin_prefetch(&fleet.endpoints[pool.endpoints[next]]);
    }
    const endpoint_view& e = fleet.endpoints[i];
    if (!takes_requests(e, a)) continue;
    if (route.served && route.endpoints[p].state == serving::lacks) {
      ++a.other_model;
      continue;
    }
    const bool last_resort = e.settings.role == endpoint_role::decode;
    if (last_resort && whole) continue;
    if (!last_resort && !whole) {
      taken = 0;
      whole = true;
    }
    draft& d = out[taken++];
    d.figures = {};
    d.figures.endpoint = e.id;
    d.figures.confidence = e.confidence > 0 ? std::min(e.confidence, 1.0) : 0;  // NaN is no confidence
    d.key = i < keys.size() ? keys[i] : i;
    d.seed = route.endpoints[p].seed;
    d.position = p;
    d.doubted = e.state == life::suspect;
    d.sequence_cost = d.decoding = d.pace = 0;
  }
  out.resize(taken);
  return a;
}

std::string describe_absence(std::string_view pool, const absences& a) {
  std::string why;
  const auto add = [&why](std::uint32_t n, const char* what) {
    if (n > 0) fmt::format_to(std::back_inserter(why), "{}{} {}", why.empty() ? "" : ", ", n, what);
  };
  add(a.down, "down");
  add(a.draining, "draining");
  add(a.unresolved, "without an address");
  add(a.prefill_only, "for prefill only");
  add(a.decode_only, "for decode only");
  add(a.other_model, "without this model");
  if (why.empty()) why = "it has none";
  const char* const then =
      a.needs_both ? "What it asks for cannot be prefilled here and decoded there, and the pool has no endpoint of "
                     "role \"both\""
                   : "Try again later";
  return fmt::format("No endpoint of pool `{}` can take the request: {}. {}.", pool, why, then);
}

}  // namespace penstock::routing
