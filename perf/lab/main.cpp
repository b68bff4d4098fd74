// penstock-lab: compares routing policies in virtual time.
#include <fmt/format.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "figures.hpp"
#include "options.hpp"
#include "readers.hpp"
#include "shapes.hpp"

namespace penstock::lab {
namespace {

std::variant<workload, read_error> load_of(const lab_options& o) {
  if (!o.shape.empty()) {
    workload w = find_shape(o.shape)->make({o.requests, o.first_seed});
    scale_to_load(w, o.fleet, o.load);
    return w;
  }
  return read_trace(o.trace);
}

workload variant_of(const lab_options& o, const workload& base, std::uint32_t number) {
  variation v;
  v.seed = o.first_seed + number;
  v.resample = number > 0;
  v.rate = o.rate;
  v.spread = o.spread.value_or(base.stamp);
  v.rough = o.rough;
  workload w = vary(base, v);
  if (o.cut) {
    // Followers stand behind what they follow, so an index is known when it is needed.
    std::vector<std::uint32_t> index(w.requests.size(), nobody);
    workload kept{w.name, w.stamp, {}};
    for (std::uint32_t i = 0; i < w.requests.size(); ++i) {
      request& r = w.requests[i];
      if (r.follows == nobody ? r.at > *o.cut : index[r.follows] == nobody) continue;
      if (r.follows != nobody) r.follows = index[r.follows];
      index[i] = static_cast<std::uint32_t>(kept.requests.size());
      kept.requests.push_back(std::move(r));
    }
    return kept;
  }
  return w;
}

run_settings settings_of(const lab_options& o, const policy_spec& policy, std::uint64_t seed) {
  run_settings s;
  s.engines = o.fleet;
  s.policy = policy;
  s.incidents = o.incidents;
  s.block_bytes = o.block_bytes;
  s.scrape_interval = o.scrape_interval;
  s.told_speeds = o.told_speeds;
  s.first_port = o.first_port;
  s.roles = o.role_of;
  s.transfer.bytes_per_token = o.kv_bytes;
  s.transfer.bytes_per_second = o.transfer_gbytes * 1e9;
  s.seed = seed;
  return s;
}

// Every policy sees the same workload of a seed. Cells are independent, so their order does not matter.
std::vector<policy_runs> run_all(const lab_options& o, const workload& base) {
  std::vector<policy_runs> all;
  for (const policy_spec& p : o.policies) all.push_back({p.name, std::vector<figures>(o.seeds)});
  for (std::uint32_t number = 0; number < o.seeds; ++number) {
    const workload load = variant_of(o, base, number);
    std::atomic<std::size_t> next{0};
    std::vector<std::exception_ptr> failures(all.size());
    const auto run_some = [&](std::size_t& i) {
      for (; i < all.size(); i = next++) {
        const run_result r = simulate(load, settings_of(o, o.policies[i], o.first_seed + number));
        all[i].seeds[number] = figures_of(r, o.slo);
        if (o.quiet) continue;
        std::fprintf(stderr, "seed %u %s: %.0f requests, mean TTFT %.3f s\n", number + 1,
                     all[i].policy.c_str(), all[i].seeds[number].requests, all[i].seeds[number].mean);
      }
    };
    const auto work = [&] {
      std::size_t i = next++;
      try {
        run_some(i);
      } catch (...) {
        failures[i] = std::current_exception();
      }
    };
    std::vector<std::thread> threads;
    for (unsigned t = 1; t < o.jobs && t < all.size(); ++t) threads.emplace_back(work);
    work();
    for (std::thread& t : threads) t.join();
    for (const std::exception_ptr& failure : failures)
      if (failure) std::rethrow_exception(failure);
  }
  return all;
}

int run(const std::vector<std::string>& arguments) {
  std::string message;
  const std::optional<lab_options> o = parse_options(arguments, message);
  if (!o) {
    if (message.empty()) std::fputs(usage().c_str(), stdout);
    if (!message.empty()) std::fprintf(stderr, "penstock-lab: %s\n", message.c_str());
    return message.empty() ? 0 : 1;
  }
  const std::variant<workload, read_error> got = load_of(*o);
  if (const auto* wrong = std::get_if<read_error>(&got)) {
    std::fprintf(stderr, "penstock-lab: %s\n", wrong->message.c_str());
    return 1;
  }
  std::ofstream out;
  if (!o->json.empty() && o->json != "-") {
    out.open(o->json);
    if (!out) {
      std::fprintf(stderr, "penstock-lab: %s: cannot be written\n", o->json.c_str());
      return 1;
    }
  }
  if (!o->dump.empty()) {
    std::ofstream requests(o->dump);
    requests << json_lines_of(variant_of(*o, std::get<workload>(got), 0));
    if (!requests.flush()) {
      std::fprintf(stderr, "penstock-lab: %s: cannot be written\n", o->dump.c_str());
      return 1;
    }
  }
  const std::vector<policy_runs> all = run_all(*o, std::get<workload>(got));
  if (out.is_open()) out << json_of(all);
  if (o->json == "-") {
    std::fputs(json_of(all).c_str(), stdout);
  } else {
    std::printf("%s\n%s", table_of(all).c_str(), standing_of(all).c_str());
  }
  if (out.is_open() && !out.flush()) {
    std::fprintf(stderr, "penstock-lab: %s: cannot be written\n", o->json.c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace penstock::lab

int main(int argc, char** argv) {
  try {
    return penstock::lab::run({argv + 1, argv + argc});
  } catch (const std::invalid_argument& e) {
    std::fprintf(stderr, "penstock-lab: %s\n", e.what());
    return 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "penstock-lab: %s\n", e.what());
    return 70;
  }
}
