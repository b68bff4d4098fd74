// The fleet at one moment: immutable, built by the control thread, posted to every worker.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/config.hpp"
#include "penstock/ids.hpp"
#include "penstock/net_address.hpp"
#include "penstock/time.hpp"

namespace penstock {

// Life of an endpoint as health sees it. Only `down` and `draining` take it out of decisions.
enum class life : std::uint8_t { starting, up, suspect, down, draining };
constexpr std::string_view name(life v) {
  constexpr std::string_view names[] = {"starting", "up", "suspect", "down", "draining"};
  return names[static_cast<std::size_t>(v)];
}

// What an engine says of itself in /metrics and /v1/models. Absent figures are negative or 0 as noted.
struct engine_state {
  double running = -1, waiting = -1;                      // requests; -1: not known
  double without_room = -1;                               // of those that wait: for want of room; -1: not known
  double kv_use = -1;                                     // 0..1; -1: not known
  std::uint32_t block_tokens = 0;                         // 0: not known
  std::uint64_t kv_blocks = 0;                            // 0: not known
  std::uint64_t kv_tokens = 0;                            // capacity; 0: not known
  std::uint64_t host_kv_tokens = 0;                       // of a tier behind it; 0: none, or not known
  double prefix_hits = -1, prefix_queries = -1;           // token counters since the engine started
  double handoffs_late = -1, handoffs_expired = -1;       // counters of a prefill engine; -1: not known
  double start_time_s = 0;                                // process_start_time_seconds; 0: not known
  instant scraped_at{};                                   // epoch: never
  std::vector<std::string> running_loras, waiting_loras;  // adapters in the batch, in the queue
  std::uint32_t max_loras = 0;                            // 0: not known
};

// A model an engine serves. `parent` is set for LoRA adapters.
struct served_model {
  std::string id, root, parent, owned_by;
  std::uint64_t max_model_len = 0;
  std::int64_t created = 0;
};

struct alignas(64) endpoint_view {
  // What every decision looks at comes first, on one cache line.
  endpoint_id id;
  std::uint32_t pool = 0;  // index into fleet_view::pools
  life state = life::starting;
  std::uint32_t epoch = 0;             // grows when the engine turns out to be another process: cold cache
  double confidence = 1;               // 0..1, lowered by stale or failed scrapes and suspicion
  std::vector<net_address> addresses;  // resolved; empty: not yet
  endpoint_config settings;
  std::string authority;    // Host header
  std::string path_prefix;  // of the url; "" or "/something"
  engine_state engine;
  bool models_known = false;
  std::vector<served_model> models;
  // What its bootstrap server calls its data-parallel ranks, by rank (mooncake); empty: not known.
  std::vector<std::string> rank_ids;
};

struct pool_view {
  std::string name;
  std::vector<std::string> models;
  policy route = policy::prefix;
  std::vector<std::uint32_t> endpoints;  // indices into fleet_view::endpoints
  disaggregation_config disaggregation;
};

struct fleet_view {
  std::uint64_t version = 0;
  std::shared_ptr<const config> settings;
  std::vector<pool_view> pools;
  std::vector<endpoint_view> endpoints;
  bool ready = false;  // configuration loaded, not draining, somebody to ask
  bool draining = false;
};

// Whether the endpoint is a prefill engine whose partners must be told what its ranks are called.
inline bool asks_bootstrap(const fleet_view& fleet, const endpoint_view& of) {
  const disaggregation_config& how = fleet.pools[of.pool].disaggregation;
  return how.enabled && traits(how.connector).ranks_have_ids && of.settings.bootstrap_port != 0;
}

}  // namespace penstock
