#include "shapes.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <utility>
#include <vector>

namespace penstock::lab {
namespace {

duration from_seconds(double s) { return duration(static_cast<duration::rep>(s * 1e9)); }

std::uint32_t tokens(double n, double least, double most) {
  return static_cast<std::uint32_t>(std::clamp(n, least, most));
}

// A prompt that grows: each run's id follows from all before it.
struct prompt {
  explicit prompt(std::uint64_t salt) : id(salt) {}
  void add(std::uint64_t content, std::uint32_t n) {
    id = mix(id, content);
    segments.push_back({id, n, 4});
  }
  std::uint64_t id;
  std::vector<segment> segments;
};

// Draws from 0 .. n-1 with weights 1 / (rank + 1).
class zipf {
 public:
  explicit zipf(std::uint32_t n) {
    double sum = 0;
    for (std::uint32_t i = 0; i < n; ++i) sums_.push_back(sum += 1.0 / (i + 1));
  }
  std::uint32_t draw(prng& rng) const {
    const double at = rng.unit() * sums_.back();
    return static_cast<std::uint32_t>(std::lower_bound(sums_.begin(), sums_.end(), at) - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

// Poisson arrivals, one a second in the mean: scale_to_load does the rest.
class arrivals {
 public:
  explicit arrivals(prng& rng) : rng_(rng) {}
  duration next() { return from_seconds(at_ += exponential(rng_, 1)); }

 private:
  prng& rng_;
  double at_ = 0;
};

// One question behind something that others have as well.
request question(prompt p, std::uint32_t session, double input, double sigma, std::uint32_t output,
                 prng& rng) {
  request r;
  r.session = session;
  r.user_segment = static_cast<std::uint32_t>(p.segments.size());
  p.add(rng.next(), tokens(lognormal(rng, input, sigma), 10, 60000));
  r.segments = std::move(p.segments);
  r.output_tokens = std::max(output, 1U);
  return r;
}

struct dialogue {
  double turns, think_s, think_sigma, growth, growth_sigma, output, reset;
};

// The turns of one session, each after the answer before it; the first comes at `begin`. After a reset
// (an agent's compaction) only `head` is left.
void converse(workload& w, const prompt& head, duration begin, std::uint32_t session, std::uint32_t turns,
              const dialogue& d, prng& rng) {
  prompt p = head;
  for (std::uint32_t turn = 0; turn < turns; ++turn) {
    request r;
    r.session = session;
    r.user_segment = 1;
    if (turn == 0) {
      r.at = begin;
    } else {
      r.follows = static_cast<std::uint32_t>(w.requests.size() - 1);
      r.at = from_seconds(std::min(lognormal(rng, d.think_s, d.think_sigma), 600.0));
      if (rng.unit() < d.reset) p = head;
    }
    p.add(rng.next(), tokens(lognormal(rng, d.growth, d.growth_sigma), 10, 30000));
    r.segments = p.segments;
    r.output_tokens = tokens(lognormal(rng, d.output, 0.7), 1, 4000);
    p.add(rng.next(), r.output_tokens);
    r.output_id = p.id;
    w.requests.push_back(std::move(r));
  }
}

std::uint32_t geometric(prng& rng, double mean) {
  return static_cast<std::uint32_t>(1 + exponential(rng, mean - 1));
}

// 150 system prompts of 6,000 tokens, as in llm-d's test of September 2025, but drawn by Zipf.
workload shared_prompts(const shape_size& size) {
  prng rng(size.seed);
  const zipf which(150);
  arrivals come(rng);
  workload w{"shared_prompts", {}, {}};
  for (std::uint32_t i = 0; i < size.requests; ++i) {
    prompt p(11);
    p.add(1 + which.draw(rng), 6000);
    request r = question(p, i, 300, 0.8, tokens(lognormal(rng, 200, 0.6), 1, 2000), rng);
    r.at = come.next();
    w.requests.push_back(std::move(r));
  }
  return w;
}

// Coding agents: tools and rules that all share, a context that grows (figures of the public traces of
// coding sessions: growth p50 661 and p90 3,740 tokens, think time p50 10 s, answers 218, resets 2 %).
workload agents(const shape_size& size) {
  prng rng(size.seed);
  arrivals come(rng);
  const dialogue d{20, 10, 1.2, 661, 1.35, 218, 0.02};
  workload w{"agents", {}, {}};
  for (std::uint32_t s = 0; w.requests.size() < size.requests; ++s) {
    prompt head(21);
    head.add(1, 13000);
    head.add(rng.next(), tokens(lognormal(rng, 6000, 0.9), 100, 60000));
    converse(w, head, come.next(), s, geometric(rng, d.turns), d, rng);
  }
  return w;
}

// Chats in a closed loop: 200 people who read the answer before they ask again.
workload chats(const shape_size& size) {
  prng rng(size.seed);
  constexpr std::uint32_t people = 200;
  const dialogue d{0, 5, 0.8, 120, 1, 300, 0};
  workload w{"chats", {}, {}};
  for (std::uint32_t s = 0; s < people; ++s) {
    prompt head(31);
    head.add(1, 1500);
    const std::uint32_t turns = std::max(1U, size.requests / people);
    converse(w, head, from_seconds(10 * rng.unit()), s, turns, d, rng);
  }
  return w;
}

// Documents of some 20,000 tokens with some eight questions each, asked within minutes.
workload documents(const shape_size& size) {
  prng rng(size.seed);
  arrivals come(rng);
  workload w{"documents", {}, {}};
  for (std::uint32_t s = 0; w.requests.size() < size.requests; ++s) {
    prompt p(41);
    p.add(rng.next(), tokens(lognormal(rng, 20000, 0.5), 2000, 100000));
    duration at = duration(come.next().count() * 8);
    const std::uint32_t count = geometric(rng, 8);
    for (std::uint32_t i = 0; i < count; ++i) {
      request r = question(p, s, 60, 0.5, tokens(lognormal(rng, 250, 0.6), 1, 2000), rng);
      r.user_segment = 0;
      r.at = at;
      at += from_seconds(exponential(rng, 8));
      w.requests.push_back(std::move(r));
    }
  }
  return w;
}

workload no_sharing(std::string name, const shape_size& size, double input, double sigma, double output) {
  prng rng(size.seed);
  arrivals come(rng);
  workload w{std::move(name), {}, {}};
  for (std::uint32_t i = 0; i < size.requests; ++i) {
    request r = question(prompt(51), i, input, sigma, tokens(lognormal(rng, output, 0.6), 1, 4000), rng);
    r.at = come.next();
    w.requests.push_back(std::move(r));
  }
  return w;
}

workload unique(const shape_size& size) { return no_sharing("unique", size, 4000, 1, 250); }
workload decode_heavy(const shape_size& size) { return no_sharing("decode_heavy", size, 250, 0.6, 1000); }

// One system prompt of 4,000 tokens, short questions, answers of 800 tokens.
workload hot_prefix(const shape_size& size) {
  prng rng(size.seed);
  arrivals come(rng);
  workload w{"hot_prefix", {}, {}};
  for (std::uint32_t i = 0; i < size.requests; ++i) {
    prompt p(61);
    p.add(1, 4000);
    request r = question(p, i, 60, 0.4, 800, rng);
    r.at = come.next();
    w.requests.push_back(std::move(r));
  }
  return w;
}

// Long prompts, one in three of which continues one of 40 others; answers of a few words.
workload prefill_heavy(const shape_size& size) {
  prng rng(size.seed);
  const zipf which(40);
  arrivals come(rng);
  workload w{"prefill_heavy", {}, {}};
  for (std::uint32_t i = 0; i < size.requests; ++i) {
    prompt p(71);
    if (rng.unit() < 0.33) p.add(1 + which.draw(rng), 8000);
    request r = question(p, i, 6000, 0.9, tokens(lognormal(rng, 12, 0.5), 1, 100), rng);
    r.at = come.next();
    w.requests.push_back(std::move(r));
  }
  return w;
}

// Chats and documents on one fleet: short questions with long answers, long prompts with short ones.
workload mixed(const shape_size& size) {
  prng rng(size.seed);
  arrivals come(rng);
  workload w{"mixed", {}, {}};
  for (std::uint32_t i = 0; i < size.requests; ++i) {
    const bool chat = rng.unit() < 0.5;
    const std::uint32_t output = tokens(lognormal(rng, chat ? 600 : 150, 0.6), 1, 4000);
    request r = question(prompt(81), i, chat ? 250 : 8000, 0.7, output, rng);
    r.at = come.next();
    w.requests.push_back(std::move(r));
  }
  return w;
}

constexpr shape table[] = {
    {"shared_prompts", shared_prompts, "150 system prompts of 6,000 tokens by Zipf, short questions"},
    {"agents", agents, "coding sessions of some 20 turns, context grows, each turn after the answer before"},
    {"documents", documents, "some 8 questions to each document of 20,000 tokens"},
    {"chats", chats, "closed loop of 200 people"},
    {"unique", unique, "nothing in common, prompts of 4,000 tokens in the median"},
    {"hot_prefix", hot_prefix, "one system prompt of 4,000 tokens, short questions, 800 tokens out"},
    {"decode_heavy", decode_heavy, "nothing in common, 250 tokens in, 1,000 out"},
    {"mixed", mixed, "half 250 tokens in and 600 out, half 8,000 in and 150 out, nothing in common"},
    {"prefill_heavy", prefill_heavy, "long prompts, a third of them shared in part, 12 tokens out"},
};

// Tokens that are not known from the prompts before, and the mean context in memory.
struct ideal_sums {
  double uncached = 0, output = 0, context = 0, requests = 0;
};

ideal_sums sum_up(const workload& w) {
  ideal_sums sums;
  std::unordered_set<std::uint64_t> known;
  for (const request& r : w.requests) {
    bool held = true;
    double own = 0;
    for (const segment& s : r.segments) {
      held = held && known.count(s.id) > 0;
      if (!held) own += s.tokens;
      known.insert(s.id);
    }
    if (r.output_id != 0) known.insert(r.output_id);
    sums.uncached += own;
    sums.output += r.output_tokens;
    sums.context += own + 0.5 * r.output_tokens;
    sums.requests += 1;
  }
  return sums;
}

}  // namespace

std::span<const shape> shapes() { return table; }

const shape* find_shape(std::string_view name) {
  for (const shape& s : table) {
    if (s.name == name) return &s;
  }
  return nullptr;
}

double ideal_work(const workload& w, const emulator::engine_settings& e) {
  const ideal_sums s = sum_up(w);
  if (s.requests == 0) return 0;
  const double fits = static_cast<double>(e.kv_tokens) / std::max(1.0, s.context / s.requests);
  const double batch = std::clamp(fits, 1.0, static_cast<double>(e.max_num_seqs));
  const double decode_us = s.output * (e.fixed_us / batch + e.decode_us);
  return (s.uncached * e.prefill_us + decode_us) * 1e-6 / e.speed;
}

void scale_to_load(workload& w, std::span<const emulator::engine_settings> engines, double load) {
  double rate = 0;  // workloads a second
  for (const emulator::engine_settings& e : engines) {
    const double work = ideal_work(w, e);
    if (work > 0) rate += 1 / work;
  }
  duration last{};
  for (const request& r : w.requests) {
    if (r.follows == nobody) last = std::max(last, r.at);
  }
  if (!(rate > 0) || last == duration{}) return;
  const double factor = 1 / (rate * load * seconds(last));
  for (request& r : w.requests) {
    if (r.follows == nobody)
      r.at = duration(static_cast<duration::rep>(static_cast<double>(r.at.count()) * factor));
  }
}

}  // namespace penstock::lab
