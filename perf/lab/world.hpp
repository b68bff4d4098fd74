// Many emulated engines, one proxy and the clients of a workload, in virtual time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/model/engine_model.hpp"
#include "emulator/model/kv_transfer.hpp"
#include "histogram.hpp"
#include "penstock/config.hpp"
#include "rules.hpp"
#include "workload.hpp"

namespace penstock::lab {

// Something that happens to an engine. Times are since the first possible arrival.
enum class event_kind : std::uint8_t {
  slow,     // runs at `value` of its speed for `lasts`
  stall,    // ends no iteration for `lasts`
  restart,  // loses everything and is away for `lasts`
  join,     // is away from the beginning until `at`: comes cold
  blind,    // its scrapes fail for `lasts`
};

struct engine_incident {
  event_kind kind = event_kind::slow;
  std::uint32_t engine = nobody;    // nobody: another one each time, in turn
  duration at{}, lasts{}, every{};  // lasts 0: for ever; every 0: once
  double value = 0.5;
};

// "slow:0@60s+120s", "restart:*@300s+20s/300s", "slow:0@0s=0.25"; a sentence in `error` when it is none.
std::optional<engine_incident> parse_incident(std::string_view text, std::string& error);
// "3s", "250ms", "5m"; a bare number is seconds.
std::optional<duration> parse_duration(std::string_view text);

struct run_settings {
  std::vector<emulator::engine_settings> engines;
  policy_spec policy;
  std::vector<engine_incident> incidents;
  std::uint32_t block_bytes = 0;         // 0: the default
  duration scrape_interval{};            // 0: the default
  std::vector<endpoint_role> roles;      // of the engines, where requests may be split; empty: not
  emulator::transfer_settings transfer;  // of KV, into each engine
  bool told_speeds = false;              // the router knows each engine's true speed from the beginning
  std::uint32_t first_port = 20000;      // of the engines' addresses, by which hashing places
  std::uint64_t seed = 1;
};

struct run_result {
  std::vector<float> ttft_s;  // of those that had a first token, in the order of the workload
  std::vector<float> pace_s;  // of the same: mean seconds between their tokens; -1: it was cut off
  histogram gaps;             // seconds between tokens of one answer
  std::uint64_t served = 0, failed = 0, left = 0;
  std::uint64_t split = 0;                             // of those that were served
  std::uint64_t prompt_tokens = 0, cached_tokens = 0;  // of requests that had a first token
  std::vector<std::uint64_t> computed;                 // prefill tokens by engine
  std::uint64_t preemptions = 0;
  std::uint64_t pinned_blocks = 0;  // held for hand-offs when all was over: none, or something leaked
  double lasted_s = 0;
};

// Deterministic: the same arguments give the same result.
run_result simulate(const workload& load, const run_settings& how);

}  // namespace penstock::lab
