#include "figures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include "penstock/random.hpp"

namespace penstock::lab {

double quantile(std::vector<float>& values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(q * static_cast<double>(values.size())) - 1;
  return static_cast<double>(values[static_cast<std::size_t>(std::max(rank, 0.0))]);
}

figures figures_of(const run_result& run, const service_level& slo) {
  figures f;
  std::vector<float> t = run.ttft_s;
  for (const float v : t) f.mean += static_cast<double>(v);
  f.mean /= static_cast<double>(std::max<std::size_t>(t.size(), 1));
  f.p50 = quantile(t, 0.5);
  f.p90 = quantile(t, 0.9);
  f.p99 = quantile(t, 0.99);
  f.itl_p99 = run.gaps.quantile(0.99);
  f.hit_rate = run.prompt_tokens == 0
                   ? 0
                   : static_cast<double>(run.cached_tokens) / static_cast<double>(run.prompt_tokens);
  const auto within =
      std::count_if(t.begin(), t.end(), [&](float v) { return static_cast<double>(v) <= seconds(slo.ttft); });
  const auto all = static_cast<double>(run.served + run.failed);
  f.within_slo = all == 0 ? 0 : std::min(1.0, static_cast<double>(within) / all);
  double good = 0;
  for (std::size_t i = 0; i < run.pace_s.size(); ++i) {
    const auto ttft = static_cast<double>(run.ttft_s[i]), pace = static_cast<double>(run.pace_s[i]);
    if (ttft <= seconds(slo.ttft) && pace >= 0 && pace <= seconds(slo.pace)) good += 1;
  }
  f.goodput = all == 0 ? 0 : good / all;
  f.split = run.served == 0 ? 0 : static_cast<double>(run.split) / static_cast<double>(run.served);
  const double sum =
      static_cast<double>(std::accumulate(run.computed.begin(), run.computed.end(), std::uint64_t{0}));
  if (sum > 0)
    f.imbalance = static_cast<double>(*std::max_element(run.computed.begin(), run.computed.end())) *
                  static_cast<double>(run.computed.size()) / sum;
  f.requests = static_cast<double>(run.served);
  f.failed = static_cast<double>(run.failed);
  f.left = static_cast<double>(run.left);
  f.preemptions = static_cast<double>(run.preemptions);
  return f;
}

double mean_of(const policy_runs& runs, double figures::*what) {
  double sum = 0;
  for (const figures& f : runs.seeds) sum += f.*what;
  return sum / static_cast<double>(std::max<std::size_t>(runs.seeds.size(), 1));
}

interval paired_ratio(const policy_runs& a, const policy_runs& b, double figures::*what) {
  constexpr std::size_t draws = 2000;
  const std::size_t n = std::min(a.seeds.size(), b.seeds.size());
  const auto ratio = [&](auto seed_of) {
    double above = 0, below = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t seed = seed_of(i);
      above += a.seeds[seed].*what;
      below += b.seeds[seed].*what;
    }
    return below > 0 ? above / below : 1;
  };
  interval r;
  r.value = ratio([](std::size_t i) { return i; });
  prng rng(7);
  std::vector<double> drawn;
  for (std::size_t d = 0; d < draws; ++d) drawn.push_back(ratio([&](std::size_t) { return rng.below(n); }));
  std::sort(drawn.begin(), drawn.end());
  r.low = drawn[draws / 40];
  r.high = drawn[draws - 1 - draws / 40];
  return r;
}

const policy_runs* best_listed(std::span<const policy_runs> all) {
  const policy_runs* best = nullptr;
  for (const policy_runs& p : all) {
    if (p.policy.starts_with("prefix") || p.policy == "oracle") continue;
    if (best == nullptr || mean_of(p, &figures::mean) < mean_of(*best, &figures::mean)) best = &p;
  }
  return best;
}

std::string table_of(std::span<const policy_runs> all) {
  const policy_runs* best = best_listed(all);
  std::string text =
      "| policy | mean | p50 | p90 | p99 | ITL p99 | hit | TTFT in SLO | both in SLO | split | imbalance | "
      "failed | mean to best rule "
      "|\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const policy_runs& p : all) {
    const auto m = [&](double figures::*what) { return mean_of(p, what); };
    fmt::format_to(
        std::back_inserter(text),
        "| {} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {:.4f} | {:.1f} % | {:.1f} % | {:.1f} % | {:.0f} % | "
        "{:.2f} | {:.0f} | ",
        p.policy, m(&figures::mean), m(&figures::p50), m(&figures::p90), m(&figures::p99),
        m(&figures::itl_p99), 100 * m(&figures::hit_rate), 100 * m(&figures::within_slo),
        100 * m(&figures::goodput), 100 * m(&figures::split), m(&figures::imbalance), m(&figures::failed));
    if (best != nullptr) {
      const interval r = paired_ratio(p, *best, &figures::mean);
      fmt::format_to(std::back_inserter(text), "{:.3f} [{:.3f}, {:.3f}]", r.value, r.low, r.high);
    }
    text += " |\n";
  }
  return text;
}

std::string standing_of(std::span<const policy_runs> all) {
  const policy_runs* best = best_listed(all);
  const policy_runs* oracle = nullptr;
  for (const policy_runs& p : all) {
    if (p.policy == "oracle") oracle = &p;
  }
  std::string text;
  for (const policy_runs& p : all) {
    if (best == nullptr || !p.policy.starts_with("prefix")) continue;
    const interval mean = paired_ratio(p, *best, &figures::mean), p99 = paired_ratio(p, *best, &figures::p99);
    fmt::format_to(
        std::back_inserter(text),
        "{} against {}, the best listed rule: mean TTFT {:.3f} [{:.3f}, {:.3f}], p99 {:.3f} [{:.3f}, "
        "{:.3f}]",
        p.policy, best->policy, mean.value, mean.low, mean.high, p99.value, p99.low, p99.high);
    if (oracle != nullptr) {
      const double gap = mean_of(*best, &figures::mean) - mean_of(*oracle, &figures::mean);
      if (gap > 0)
        fmt::format_to(std::back_inserter(text), "; {:.0f} % of the gap to the oracle closed",
                       100 * (mean_of(*best, &figures::mean) - mean_of(p, &figures::mean)) / gap);
    }
    text += '\n';
  }
  return text;
}

std::string json_of(std::span<const policy_runs> all) {
  std::string text = "[";
  for (const policy_runs& p : all) {
    const auto m = [&](double figures::*what) { return mean_of(p, what); };
    fmt::format_to(
        std::back_inserter(text),
        "{}\n {{\"policy\":\"{}\",\"ttft_mean_s\":{:.6f},\"ttft_p50_s\":{:.6f},\"ttft_p90_s\":{:.6f},"
        "\"ttft_p99_s\":{:.6f},\"itl_p99_s\":{:.6f},\"hit_rate\":{:.6f},\"requests\":{:.0f},",
        text.size() > 1 ? "," : "", p.policy, m(&figures::mean), m(&figures::p50), m(&figures::p90),
        m(&figures::p99), m(&figures::itl_p99), m(&figures::hit_rate),
        m(&figures::requests) * static_cast<double>(p.seeds.size()));
    fmt::format_to(std::back_inserter(text),
                   "\"failed\":{:.0f},\"left\":{:.0f},\"within_slo\":{:.6f},\"goodput\":{:.6f},"
                   "\"split\":{:.6f},\"imbalance\":{:.4f},\"preemptions\":{:.1f},\"seeds\":[",
                   m(&figures::failed) * static_cast<double>(p.seeds.size()),
                   m(&figures::left) * static_cast<double>(p.seeds.size()), m(&figures::within_slo),
                   m(&figures::goodput), m(&figures::split), m(&figures::imbalance),
                   m(&figures::preemptions));
    for (std::size_t i = 0; i < p.seeds.size(); ++i) {
      const figures& f = p.seeds[i];
      fmt::format_to(
          std::back_inserter(text),
          "{}{{\"ttft_mean_s\":{:.6f},\"ttft_p99_s\":{:.6f},\"itl_p99_s\":{:.6f},\"hit_rate\":{:.6f},"
          "\"goodput\":{:.6f}}}",
          i > 0 ? "," : "", f.mean, f.p99, f.itl_p99, f.hit_rate, f.goodput);
    }
    text += "]}";
  }
  return text + "\n]\n";
}

}  // namespace penstock::lab
