#include "workload.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>
#include <string>
#include <unordered_map>

namespace penstock::lab {
namespace {

constexpr double most_shift_s = 30;

duration from_seconds(double s) { return duration(static_cast<duration::rep>(s * 1e9)); }

// Requests of each session in their order.
std::vector<std::vector<std::uint32_t>> sessions_of(const workload& w) {
  std::unordered_map<std::uint32_t, std::size_t> place;
  std::vector<std::vector<std::uint32_t>> list;
  for (std::uint32_t i = 0; i < w.requests.size(); ++i) {
    const auto [at, fresh] = place.try_emplace(w.requests[i].session, list.size());
    if (fresh) list.emplace_back();
    list[at->second].push_back(i);
  }
  return list;
}

// In how many sessions a segment occurs, up to two.
std::unordered_map<std::uint64_t, std::uint32_t> owners(const workload& w) {
  std::unordered_map<std::uint64_t, std::uint32_t> owner;
  for (const request& r : w.requests) {
    for (const segment& s : r.segments) {
      const auto [at, fresh] = owner.try_emplace(s.id, r.session);
      if (!fresh && at->second != r.session) at->second = nobody;
    }
  }
  return owner;
}

workload resampled(const workload& base, prng& rng) {
  const auto sessions = sessions_of(base);
  const auto owner = owners(base);
  workload w{base.name, base.stamp, {}};
  w.requests.reserve(base.requests.size());
  std::vector<std::uint32_t> drawn(sessions.size(), 0), index_of(base.requests.size(), nobody);
  for (std::uint32_t n = 0; n < sessions.size(); ++n) {
    const std::size_t which = rng.below(sessions.size());
    const std::uint64_t copy = drawn[which]++;
    const double shift = copy == 0 ? 0 : (2 * rng.unit() - 1) * most_shift_s;
    for (const std::uint32_t i : sessions[which]) {
      request r = base.requests[i];
      r.session = n;
      if (r.follows == nobody) {
        r.at = std::max(duration{}, r.at + from_seconds(shift));
      } else {
        r.follows = index_of[r.follows];
      }
      if (copy > 0) {
        for (segment& s : r.segments) {
          if (owner.at(s.id) != nobody) s.id = mix(s.id, copy);
        }
        if (r.output_id != 0) r.output_id = mix(r.output_id, copy);
      }
      index_of[i] = static_cast<std::uint32_t>(w.requests.size());
      w.requests.push_back(std::move(r));
    }
  }
  return w;
}

}  // namespace

double exponential(prng& rng, double mean) { return -mean * std::log(1 - rng.unit()); }

double lognormal(prng& rng, double median, double sigma) {
  // Box and Muller.
  const double r = std::sqrt(-2 * std::log(1 - rng.unit()));
  return median * std::exp(sigma * r * std::cos(2 * std::numbers::pi * rng.unit()));
}

std::string json_lines_of(const workload& w) {
  std::string text;
  for (const request& r : w.requests) {
    fmt::format_to(
        std::back_inserter(text),
        "{{\"at_s\":{:.6f},\"follows\":{},\"session\":{},\"output\":{},\"streamed\":{},\"segments\":[",
        seconds(r.at), r.follows == nobody ? "null" : std::to_string(r.follows), r.session, r.output_tokens,
        r.streamed);
    for (std::size_t i = 0; i < r.segments.size(); ++i) {
      fmt::format_to(std::back_inserter(text), "{}[\"{:x}\",{}]", i > 0 ? "," : "", r.segments[i].id,
                     r.segments[i].tokens);
    }
    text += "]}\n";
  }
  return text;
}

void roughen(workload& w, prng& rng) {
  std::unordered_map<std::uint64_t, float> ratio_of;  // by segment: the session that brought it decides
  std::unordered_map<std::uint32_t, float> ratio_in;
  for (request& r : w.requests) {
    auto& own = ratio_in[r.session];
    if (own == 0) own = static_cast<float>(2.5 + 3 * rng.unit());
    for (segment& s : r.segments) s.bytes_per_token = ratio_of.try_emplace(s.id, own).first->second;
    r.streamed = rng.unit() >= 0.3;
    r.tells_cached = rng.unit() >= 0.5;
    r.patience = rng.unit() < 0.03 ? from_seconds(0.05 + exponential(rng, 5)) : duration{};
  }
}

workload vary(const workload& base, const variation& v) {
  // Mixed, for a multiple of the generator's own step would begin one draw later in the same numbers.
  prng rng(mix(v.seed, 1));
  workload w = v.resample ? resampled(base, rng) : base;
  for (request& r : w.requests) {
    if (r.follows != nobody) continue;
    const auto part = static_cast<duration::rep>(rng.unit() * static_cast<double>(v.spread.count()));
    r.at =
        duration(static_cast<duration::rep>(static_cast<double>((r.at + duration(part)).count()) / v.rate));
  }
  if (v.rough) roughen(w, rng);
  return w;
}

}  // namespace penstock::lab
