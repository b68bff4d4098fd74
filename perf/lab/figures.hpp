// From runs to the numbers that are printed: figures of a run, means over seeds, paired intervals.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "penstock/time.hpp"
#include "world.hpp"

namespace penstock::lab {

// What a client is content with.
struct service_level {
  duration ttft = std::chrono::seconds(2);
  duration pace = std::chrono::milliseconds(50);  // mean time between the tokens of its answer
};

// Of one run. Times in seconds; shares 0..1.
struct figures {
  double mean = 0, p50 = 0, p90 = 0, p99 = 0;  // TTFT of the requests that had a first token
  double itl_p99 = 0;
  double hit_rate = 0;    // of prompt tokens
  double within_slo = 0;  // in TTFT, of all requests but those whose client left: failures miss it
  double goodput = 0;     // ... in both
  double split = 0;       // prefilled on one engine and decoded on another, of all that were served
  double imbalance = 0;   // prefill work of the busiest engine over the mean
  double requests = 0, failed = 0, left = 0, preemptions = 0;
};
figures figures_of(const run_result& run, const service_level& slo);

// One policy over all seeds, in the order of the seeds.
struct policy_runs {
  std::string policy;
  std::vector<figures> seeds;
};
double mean_of(const policy_runs& runs, double figures::*what);

// A ratio of means over paired seeds with the 95 % interval of its bootstrap (2,000 draws of seeds).
struct interval {
  double value = 0, low = 0, high = 0;
};
interval paired_ratio(const policy_runs& a, const policy_runs& b, double figures::*what);

// The fastest by mean TTFT of the rules that are neither prefix nor oracle; null when there is none.
const policy_runs* best_listed(std::span<const policy_runs> all);

// For people: a Markdown table, and below it how `prefix` stands.
std::string table_of(std::span<const policy_runs> all);
std::string standing_of(std::span<const policy_runs> all);
// For programs: an array with one object a policy.
std::string json_of(std::span<const policy_runs> all);

// q-quantile by nearest rank; 0 when empty. Sorts `values`.
double quantile(std::vector<float>& values, double q);

}  // namespace penstock::lab
