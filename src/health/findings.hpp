// What an operator should know of a fleet that was just asked: `penstock check --live`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "penstock/fleet_view.hpp"

namespace penstock::health {

// One thing that is wrong or missing, with what to do about it.
struct finding {
  std::string url;
  std::string what;
  bool serious = true;  // requests fail or go astray; else only decisions are worse
};

// After every endpoint was resolved, probed, scraped and asked for its models as far as it answered:
// unreachable endpoints, models that a pool lists and an endpoint lacks, unknown KV capacity, block sizes
// that differ within a pool.
std::vector<finding> live_findings(const fleet_view& fleet);

// The switch that makes this engine tell `cached_tokens`, by who its models say they belong to.
std::string_view cached_tokens_switch(const endpoint_view& endpoint);
// Whether its models belong to `engine`: "vllm", "sglang", "llamacpp".
bool is_engine(const std::vector<served_model>& models, std::string_view engine);

}  // namespace penstock::health
