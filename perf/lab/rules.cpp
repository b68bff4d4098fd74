#include "rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include "penstock/config.hpp"
#include "workload.hpp"

namespace penstock::lab {
namespace {

template <class Score>
std::size_t least(std::span<const sight> engines, prng& rng, Score score_of) {
  std::size_t best = 0, ties = 1;
  double lowest = score_of(engines[0]);
  for (std::size_t i = 1; i < engines.size(); ++i) {
    const double score = score_of(engines[i]);
    if (score < lowest) {
      lowest = score;
      best = i;
      ties = 1;
    } else if (score == lowest && rng.below(++ties) == 0) {
      best = i;
    }
  }
  return best;
}

// KubeAI, internal/loadbalancer/balance_chwbl.go: a ring of 256 virtual nodes an endpoint, key from the
// head of the first user message, first endpoint whose requests are at most `parameter` times the mean.
std::size_t bounded_hash(const question& q, prng&) {
  constexpr std::uint64_t replicas = 256;
  struct node {
    std::uint64_t distance;
    std::size_t index;
  };
  std::vector<node> ring;
  ring.reserve(q.engines.size() * replicas);
  double total = 0;
  for (std::size_t i = 0; i < q.engines.size(); ++i) {
    total += q.engines[i].load;
    for (std::uint64_t r = 0; r < replicas; ++r)
      ring.push_back({mix(q.engines[i].engine + 1, r + 1) - q.user_key, i});
  }
  std::sort(ring.begin(), ring.end(), [](const node& a, const node& b) { return a.distance < b.distance; });
  const double bound = (total + 1) / static_cast<double>(q.engines.size()) * q.parameter;
  for (const node& n : ring) {
    if (q.engines[n.index].load <= bound) return n.index;
  }
  return ring[0].index;
}

// SGLang's and SMG's cache_aware (policies/cache_aware.rs): least loaded when the load is uneven (by 64 and
// by 1.5 times), else the engine of the longest match if that is above 0.3 of the prompt, else the least
// loaded. `parameter` is the absolute threshold.
std::size_t cache_aware(const question& q, prng& rng) {
  constexpr double relative = 1.5, match_threshold = 0.3;
  const auto [low, high] = std::minmax_element(
      q.engines.begin(), q.engines.end(), [](const sight& a, const sight& b) { return a.load < b.load; });
  const auto least_loaded = [&] {
    return least(q.engines, rng,
                 [](const sight& s) { return s.load + static_cast<double>(s.served) * 1e-12; });
  };
  if (high->load - low->load > q.parameter && high->load > relative * low->load) return least_loaded();
  const std::size_t best = least(q.engines, rng, [](const sight& s) { return -static_cast<double>(s.hit); });
  const double match = static_cast<double>(q.engines[best].hit) / static_cast<double>(q.prompt_tokens);
  return match > match_threshold ? best : least_loaded();
}

// LMetric (arXiv 2603.15202): new prefill tokens, the request's own included, times the batch with it.
std::size_t lmetric(const question& q, prng& rng) {
  return least(q.engines, rng, [](const sight& s) {
    return (s.queued + static_cast<double>(s.uncached)) * (s.requests + 1);
  });
}

// llm-d's default since August 2026: among those that hold at least 0.8 of the prompt, unless the best of
// them waits longer than the best of all by `parameter` seconds; there the least uncached tokens in flight
// with its own.
std::size_t sticky(const question& q, prng& rng) {
  constexpr double affine = 0.8;
  const auto work = [](const sight& s) { return s.queued + static_cast<double>(s.uncached); };
  const auto holds = [&](const sight& s) {
    return static_cast<double>(s.hit) >= affine * static_cast<double>(q.prompt_tokens);
  };
  double best = -1, best_holding = -1;
  for (const sight& s : q.engines) {
    if (best < 0 || work(s) < best) best = work(s);
    if (holds(s) && (best_holding < 0 || work(s) < best_holding)) best_holding = work(s);
  }
  const bool stay = best_holding >= 0 && best_holding - best <= q.parameter * q.peak_rate;
  return least(q.engines, rng, [&](const sight& s) { return stay && !holds(s) ? 1e18 : work(s); });
}

std::size_t min_ttft(const question& q, prng& rng) {
  return least(q.engines, rng, [](const sight& s) { return s.queued + static_cast<double>(s.uncached); });
}

constexpr rule table[] = {
    {"bounded_hash", bounded_hash, 1.25, 1.25,
     "consistent hashing of the user's first bytes, bounded on requests (KubeAI)"},
    {"cache_aware", cache_aware, 64, 16, "SGLang/SMG: longest prefix unless load is uneven"},
    {"lmetric", lmetric, 0, 0, "new prefill tokens x batch size"},
    {"sticky", sticky, 18, 18, "llm-d: sticky until saturated; :SECONDS of extra wait"},
    {"min_ttft", min_ttft, 0, 0, "least uncached tokens in flight with its own"},
};

constexpr policy own[] = {policy::round_robin, policy::random, policy::least_requests, policy::least_tokens,
                          policy::prefix};

bool read_number(std::string_view text, double& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

// What decides between one engine and two.
struct split_rule {
  std::string_view name;
  std::int64_t split;
};
constexpr split_rule split_rules[] = {
    {"cost", split_by_cost}, {"never", split_never}, {"always", split_always}, {"threshold", 16}};

// "lambda=4,w=100" for prefix, a number for a rule.
bool read_parameter(std::string_view text, policy_spec& p) {
  if (p.chosen != nullptr) return read_number(text, p.parameter);
  double value = 0;
  if (p.split) {
    const bool good = *p.split >= 0 && read_number(text, value) && value >= 0 && value <= 1e9;
    if (good) p.split = static_cast<std::int64_t>(value);
    return good;
  }
  if (text.starts_with("lambda=") && read_number(text.substr(7), value)) {
    p.lambda = value;
    return true;
  }
  if (text.starts_with("w=") && read_number(text.substr(2), value)) {
    p.sequence_cost = value;
    return true;
  }
  if (text.starts_with("hold=") && read_number(text.substr(5), value)) {
    p.hold = value;
    return value >= 0 && value <= 600;
  }
  return false;
}

}  // namespace

std::span<const rule> rules() { return table; }

std::string policy_help() {
  std::string text = "  round_robin random least_requests least_tokens session_hash prefix: Penstock's own\n";
  for (const rule& r : table) text += fmt::format("  {:<13} {}\n", r.name, r.text);
  text +=
      "  oracle        one infinite cache shared by all engines, and their true queues\n"
      "  cost, never, always, threshold:TOKENS\n"
      "                with --roles: when requests are split (llm-d's threshold is 16 uncached tokens)\n"
      "  A rule's constant follows a colon (sticky:5); +ours behind a rule gives it Penstock's queue and "
      "belief\n  instead of its published signals. For experiments: prefix:lambda=4, prefix:w=0,\n  prefix:hold=0.\n";
  return text;
}

std::optional<policy_spec> parse_policy(std::string_view text, std::string& error) {
  policy_spec p;
  p.name = text;
  std::string_view base = text;
  if (base.ends_with("+ours")) {
    p.ours = true;
    base.remove_suffix(5);
  }
  const std::size_t colon = base.find(':');
  const std::string_view parameter = colon == std::string_view::npos ? "" : base.substr(colon + 1);
  base = base.substr(0, colon);
  bool known = false;
  for (const rule& r : table) {
    if (r.name != base) continue;
    known = true;
    p.by = brain::rule;
    p.chosen = &r;
    p.parameter = r.tuned;
  }
  for (const policy v : own) {
    if (name(v) != base) continue;
    known = true;
    p.route = v;
  }
  if (base == "session_hash") {
    known = p.hash_session = true;
    p.route = policy::consistent_hash;
  }
  for (const split_rule& v : split_rules) {
    if (v.name != base) continue;
    known = true;
    p.split = v.split;
  }
  if (base == "oracle") {
    known = true;
    p.by = brain::oracle;
  }
  if (known && p.ours && p.chosen == nullptr) known = false;
  if (known && !parameter.empty() && !read_parameter(parameter, p)) known = false;
  if (known && colon != std::string_view::npos && parameter.empty()) known = false;
  if (known) return p;
  error = fmt::format("unknown policy \"{}\"; the policies are\n{}", text, policy_help());
  return std::nullopt;
}

}  // namespace penstock::lab
