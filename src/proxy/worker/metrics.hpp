// What a worker counts: plain cells with one writer, copied out as a whole when the scrape asks.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "penstock/account_record.hpp"
#include "penstock/reason.hpp"
#include "proxy/handoff/ledger.hpp"
#include "routing/pair_book.hpp"

namespace penstock::worker {

// Upper bounds in seconds, for times from token gaps to very long prefills.
inline constexpr std::array<double, 20> time_bounds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03,
                                                       0.05,   0.1,   0.2,    0.4,   0.8,  1.6,  3.2,
                                                       6.4,    12.8,  30,     60,    180,  600};

struct histogram {
  std::array<std::uint64_t, time_bounds.size() + 1> counts{};
  double sum = 0;

  void observe(double seconds) {
    std::size_t i = 0;
    while (i < time_bounds.size() && seconds > time_bounds[i]) ++i;
    ++counts[i];
    sum += seconds;
  }
  void add(const histogram& other) {
    for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += other.counts[i];
    sum += other.sum;
  }
};

// Of one pool. Times as in the design: `ours` from the last body byte to the dispatch, but for the time
// `held`, of those that waited here for their turn; `queue` from there
// until the request was handed to the engine (connection and write), `engine` until the first token.
struct pool_metrics {
  std::array<std::array<std::uint64_t, reason_count>, api_count> requests{};
  histogram ttft, ttft_ours, ttft_held, ttft_queue, ttft_engine, gap;
  histogram prefill_error;  // seconds between predicted and seen first token, whichever was later
  histogram cached_error;   // difference of predicted and told hit ratio of a prompt, 0..1
  std::uint64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  std::uint64_t predicted_cached_tokens = 0, predicted_prompt_tokens = 0;
  std::uint64_t usage_unknown = 0;  // answers that ended well without usage
  std::uint64_t attempts = 0, events = 0, oversized_events = 0;

  // Of requests to a pool that splits: why they were or were not; the prefill leg from the dispatch to its
  // whole answer; from there to the first token, what the decision expected of that, and how far it was off.
  std::array<std::uint64_t, split_choice_count> splits{};
  histogram prefill_leg, handoff_leg, transfer_estimate, transfer_error;

  void add(const pool_metrics& other);
};

// Of one worker (or, added up, of all). Gauges are of the moment of the copy.
struct worker_metrics {
  std::map<std::string, pool_metrics> pools;  // "" for requests that never reached a pool
  std::uint64_t accepted = 0, client_connections = 0, engine_connections = 0, idle_engine_connections = 0;
  std::uint64_t engine_connects = 0, engine_reuses = 0, live_requests = 0, live_streams = 0;
  std::uint64_t body_bytes = 0, buffer_bytes = 0, bytes_in = 0, bytes_out = 0;
  std::uint64_t memory_waits = 0;
  std::uint64_t handoffs_opened = 0, handoffs_open = 0;
  std::array<std::uint64_t, handoff::closing_count> handoffs_closed{};
  std::vector<handoff::ledger::entry> leases;  // what is open
  routing::pair_book pairs;                    // what was learned of pairs of engines

  void account(const account_record& r);
  void add(const worker_metrics& other);
};

}  // namespace penstock::worker
