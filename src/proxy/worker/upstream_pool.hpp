// Idle connections to engines, waiting for the next request to the same endpoint.
#pragma once

#include <vector>

#include "penstock/ids.hpp"
#include "proxy/worker/connections.hpp"

namespace penstock::worker {

// Last in, first out, so that a lull lets the oldest grow old and be closed before the engine's own
// keep-alive ends (uvicorn: 5 s). Refers to connections that the worker owns.
class upstream_pool {
 public:
  // The most recently used idle connection to that endpoint, removed; null when there is none.
  engine_connection* take(endpoint_id to);
  // False when `limit` connections to that endpoint are idle already; the caller closes it then.
  bool put(engine_connection& e, std::size_t limit);
  // The connection died or is closed.
  void remove(engine_connection& e);
  std::size_t size() const { return size_; }

 private:
  std::vector<std::vector<engine_connection*>> idle_;  // by slot
  std::size_t size_ = 0;
};

}  // namespace penstock::worker
