#include "proxy/worker/upstream_pool.hpp"

#include <algorithm>

namespace penstock::worker {

engine_connection* upstream_pool::take(endpoint_id to) {
  if (to.slot >= idle_.size()) return nullptr;
  std::vector<engine_connection*>& list = idle_[to.slot];
  // A slot that changed its owner may still have connections to the old one: they time out.
  if (list.empty() || !(list.back()->endpoint == to)) return nullptr;
  engine_connection* e = list.back();
  list.pop_back();
  --size_;
  return e;
}

bool upstream_pool::put(engine_connection& e, std::size_t limit) {
  if (e.endpoint.slot >= idle_.size()) idle_.resize(e.endpoint.slot + 1u);
  std::vector<engine_connection*>& list = idle_[e.endpoint.slot];
  if (list.size() >= limit) return false;
  list.push_back(&e);
  ++size_;
  return true;
}

void upstream_pool::remove(engine_connection& e) {
  if (e.endpoint.slot >= idle_.size()) return;
  std::vector<engine_connection*>& list = idle_[e.endpoint.slot];
  const auto at = std::find(list.begin(), list.end(), &e);
  if (at == list.end()) return;
  list.erase(at);
  --size_;
}

}  // namespace penstock::worker
