// The command line of penstock-lab.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "emulator/model/engine_model.hpp"
#include "figures.hpp"
#include "rules.hpp"
#include "world.hpp"

namespace penstock::lab {

struct lab_options {
  std::string trace, shape;  // one of them
  std::uint32_t engines = 4;
  bool counted = false;  // --engines was given
  std::string classes = "llama-3.3-70b-instruct/H100/tp4";
  std::uint64_t kv_tokens = 0;  // of each engine; 0: its class's
  double rate = 1;
  std::optional<duration> spread;  // unset: the granularity of the trace's stamps
  std::optional<duration> cut;     // only what arrives before
  std::vector<policy_spec> policies;
  std::uint32_t seeds = 1;
  std::uint64_t first_seed = 1;
  std::string json;
  std::string dump;  // file for the requests of the first seed
  std::uint32_t first_port = 20000;
  double speed = 1;               // of the engines, and so of all that follows from it
  std::uint32_t requests = 4000;  // of a shape
  double load = 0.7;              // of a shape
  bool rough = false, told_speeds = false, quiet = false;
  std::vector<engine_incident> incidents;
  service_level slo;
  std::vector<std::pair<endpoint_role, std::uint32_t>> roles;  // in the order of the fleet
  double transfer_gbytes = 25;                                 // per second and receiving engine
  std::uint32_t block_bytes = 0;
  duration scrape_interval{};
  unsigned jobs = 2;

  // Follow from engines, classes, kv_tokens and roles.
  std::vector<emulator::engine_settings> fleet;
  std::vector<endpoint_role> role_of;  // empty: engines do all themselves
  std::uint32_t kv_bytes = 0;          // of a token
};

// nullopt with a sentence in `message`; an empty message: --help was asked for, and printed.
std::optional<lab_options> parse_options(const std::vector<std::string>& arguments, std::string& message);
std::string usage();

}  // namespace penstock::lab
