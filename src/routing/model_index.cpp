#include "routing/model_index.hpp"

#include <xxhash.h>

#include <algorithm>
#include <set>

namespace penstock::routing {
namespace {

std::uint64_t hash(std::string_view text, std::uint64_t seed = 0) {
  return XXH3_64bits_withSeed(text.data(), text.size(), seed);
}

const served_model* find(const endpoint_view& endpoint, std::string_view id) {
  for (const served_model& m : endpoint.models) {
    if (m.id == id) return &m;
  }
  return nullptr;
}

std::string_view root_of(const served_model& m) { return m.root.empty() ? std::string_view(m.id) : m.root; }

bool lists(const pool_view& pool, std::string_view model) {
  return std::find(pool.models.begin(), pool.models.end(), model) != pool.models.end();
}

// Does an engine of the pool offer `model` under a name that the pool lets pass?
bool offered(const fleet_view& fleet, const pool_view& pool, bool any, std::string_view model) {
  for (const std::uint32_t i : pool.endpoints) {
    if (i >= fleet.endpoints.size()) continue;
    const served_model* m = find(fleet.endpoints[i], model);
    if (m != nullptr && (any || (!m->parent.empty() && lists(pool, m->parent)))) return true;
  }
  return false;
}

model_route build(const fleet_view& fleet, std::string_view model) {
  model_route r;
  r.pool = choose_pool(fleet, model);
  r.family = ~std::uint64_t{0};
  if (r.pool == no_pool) return r;
  const pool_view& pool = fleet.pools[r.pool];
  r.endpoints.reserve(pool.endpoints.size());
  for (const std::uint32_t i : pool.endpoints) {
    r.endpoints.push_back(i < fleet.endpoints.size() ? resolve_model(fleet.endpoints[i], model)
                                                     : endpoint_model{});
    if (r.endpoints.back().state == serving::lacks) continue;
    r.served = r.served || r.endpoints.back().state == serving::serves;
    r.family = std::min(r.family, r.endpoints.back().seed);
  }
  return r;
}

// Routes run parallel to their pool; a fleet that changed under the same version must not be misread.
bool fits(const model_route& r, const fleet_view& fleet) {
  if (r.pool == no_pool) return true;
  return r.pool < fleet.pools.size() && r.endpoints.size() == fleet.pools[r.pool].endpoints.size();
}

}  // namespace

endpoint_model resolve_model(const endpoint_view& endpoint, std::string_view model) {
  if (model.empty()) return {hash(model), serving::unknown};
  if (!endpoint.models_known) return {hash(model), serving::unknown};
  const served_model* m = find(endpoint, model);
  if (m == nullptr) return {hash(model), serving::lacks};
  if (m->parent.empty()) return {hash(root_of(*m)), serving::serves};
  const served_model* parent = find(endpoint, m->parent);
  const std::string_view base = parent != nullptr ? root_of(*parent) : std::string_view(m->parent);
  return {hash(m->id, hash(base) | 1), serving::serves};
}

std::uint32_t choose_pool(const fleet_view& fleet, std::string_view model) {
  std::uint32_t open = no_pool, offering = no_pool;
  for (std::uint32_t p = 0; p < fleet.pools.size(); ++p) {
    const pool_view& pool = fleet.pools[p];
    if (!model.empty() && model != "*" && lists(pool, model)) return p;
    const bool any = lists(pool, "*");
    if (any && open == no_pool) open = p;
    if (offering == no_pool && !model.empty() && fleet.pools.size() > 1 && offered(fleet, pool, any, model))
      offering = p;
  }
  if (fleet.pools.size() == 1 && open == no_pool) {
    const bool passes = model.empty() || offered(fleet, fleet.pools[0], false, model);
    return passes ? 0 : no_pool;
  }
  return offering != no_pool ? offering : open;
}

std::vector<std::string> known_models(const fleet_view& fleet, std::size_t most) {
  std::set<std::string> names;
  for (const pool_view& pool : fleet.pools) {
    for (const std::string& m : pool.models) {
      if (m != "*") names.insert(m);
    }
    const bool any = lists(pool, "*");
    for (const std::uint32_t i : pool.endpoints) {
      if (i >= fleet.endpoints.size()) continue;
      for (const served_model& m : fleet.endpoints[i].models) {
        if (any || (!m.parent.empty() && lists(pool, m.parent))) names.insert(m.id);
      }
    }
  }
  std::vector<std::string> out(names.begin(), names.end());
  if (out.size() > most) out.resize(most);
  return out;
}

const model_route& model_index::route(const fleet_view& fleet, std::string_view model) {
  if (fleet.version == 0 || model.size() > longest_name) return scratch_ = build(fleet, model);
  entry& e = entries_[hash(model) % slots];
  if (e.version != fleet.version || e.model != model || !fits(e.route, fleet)) {
    e.route = build(fleet, model);
    e.model.assign(model);
    e.version = fleet.version;
  }
  return e.route;
}

}  // namespace penstock::routing
