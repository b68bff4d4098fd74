// What a decision costs: 128 endpoints, a prompt of 400 blocks (some 100k tokens), a full 64 MiB table.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <span>
#include <vector>

#include "penstock/random.hpp"
#include "routing/model_index.hpp"
#include "routing/router.hpp"

namespace {

using namespace penstock;
using namespace penstock::routing;
using stopwatch = std::chrono::steady_clock;

constexpr std::uint16_t endpoints = 128;
constexpr std::size_t prompt_blocks = 400;
constexpr std::size_t shared_blocks = 16;  // of the system prompt
constexpr std::size_t prompts = 512;
constexpr std::uint32_t block_tokens = 256;
constexpr std::size_t most_candidates = 16;  // as a worker asks

prefix_chain chain_of(std::uint64_t name, std::size_t blocks, std::size_t shared) {
  prefix_chain c;
  prng common(7), own(name);
  for (std::size_t i = 0; i < blocks; ++i)
    c.blocks.push_back({i < shared ? common.next() : own.next(), block_tokens});
  c.tail_tokens = 30;
  return c;
}

// A fleet whose table is full: 8 million words of other prompts beside the ones that are asked for.
struct world {
  world() : shared(settings()), route(shared) {
    const std::span<std::byte> table = shared.prefixes.memory();
    if (::madvise(table.data(), table.size(), MADV_HUGEPAGE) != 0) std::perror("huge pages");
    fleet.version = 1;
    fleet.pools.push_back({"main", {"*"}, policy::prefix, {}});
    for (std::uint16_t s = 0; s < endpoints; ++s) {
      endpoint_view e;
      e.id = {s, 0};
      e.settings.url = fmt::format("http://engine-{}:8000", s);
      e.settings.kv_tokens = std::uint64_t{1} << 26;
      e.addresses.resize(1);
      e.state = life::up;
      fleet.endpoints.push_back(e);
      fleet.pools[0].endpoints.push_back(s);
    }
    fill();
  }

  static routing_config settings() {
    routing_config s;
    s.table_bytes = std::uint64_t{64} << 20;
    s.block_bytes = 1024;
    s.lambda = 8;
    s.sequence_cost = 200;
    s.load_factor = 1.25;
    return s;
  }

  void hold(endpoint_id id, const prefix_chain& c, std::size_t blocks) {
    std::vector<std::uint64_t> keys;
    for (std::size_t i = 0; i < std::min(blocks, c.blocks.size()); ++i) keys.push_back(c.blocks[i].key);
    const std::vector<std::uint8_t> units(keys.size(), block_units(block_tokens));
    shared.prefixes.enter(id, seed, keys, units, block_mark::confirmed);
  }

  void fill() {
    request_facts first;
    first.model = "m";
    (void)route.decide(first, fleet, instant(std::chrono::seconds(1)), rng);
    for (std::size_t n = 0; n < shared.prefixes.buckets() * 8 / 400 * 3 / 2; ++n) {
      hold({static_cast<std::uint16_t>(rng.below(endpoints)), 0}, chain_of(1000000 + n, 400, 0), 400);
    }
    for (std::size_t n = 0; n < prompts; ++n) {
      request_facts f;
      f.model = "m";
      f.stream = true;
      f.prompts.push_back(chain_of(n + 1, prompt_blocks, shared_blocks));
      f.prompt_tokens = f.prompts[0].tokens();
      requests.push_back(std::move(f));
    }
    // Every endpoint holds the system prompt, a few hold some of each conversation.
    for (std::uint16_t s = 0; s < endpoints; ++s) hold({s, 0}, requests[0].prompts[0], shared_blocks);
    for (const request_facts& f : requests) {
      for (int i = 0; i < 4; ++i) {
        hold({static_cast<std::uint16_t>(rng.below(endpoints)), 0}, f.prompts[0], rng.below(prompt_blocks));
      }
    }
    // The router has seen the traffic: it knows what much of it shares.
    for (const request_facts& f : requests) {
      candidate to;
      to.endpoint = fleet.endpoints[rng.below(endpoints)].id;
      to.uncached_tokens = 1000;
      route.dispatched(f, fleet, to, instant(std::chrono::seconds(1))).withdraw();
    }
  }

  // Puts everything else out of the caches.
  void chill() {
    for (std::size_t i = 0; i < trash.size(); i += 8) trash[i] += i;
    benchmark::ClobberMemory();
  }

  shared_state shared;
  router route;
  fleet_view fleet;
  prng rng{1};
  std::uint64_t seed = resolve_model({}, "m").seed;
  std::vector<request_facts> requests;
  std::vector<std::uint64_t> trash = std::vector<std::uint64_t>(std::size_t{8} << 20);
};

world& the_world() {
  static world w;
  return w;
}

// Times single calls, so that percentiles can be told; with `cold`, everything but the request's own blocks
// is put out of the caches before each. The clock's own cost (some 20 ns) is in the figures.
template <class F>
void measure(benchmark::State& state, bool cold, F call) {
  world& w = the_world();
  std::vector<double> micros;
  std::size_t n = 0;
  for (auto _ : state) {
    if (cold) w.chill();
    // The chain of a request was written a moment before anybody asks for it.
    const request_facts& f = w.requests[n++ * 7 % prompts];
    std::uint64_t sum = 0;
    for (const prefix_block& b : f.prompts[0].blocks) sum += b.key;
    benchmark::DoNotOptimize(sum);
    const auto from = stopwatch::now();
    call(w, f);
    const std::chrono::duration<double> took = stopwatch::now() - from;
    state.SetIterationTime(took.count());
    micros.push_back(took.count() * 1e6);
  }
  std::sort(micros.begin(), micros.end());
  state.counters["p50_us"] = micros[micros.size() / 2];
  state.counters["p99_us"] = micros[micros.size() * 99 / 100];
}

void longest_prefix(benchmark::State& state) {
  std::vector<prefix_probe> probes;
  for (std::uint16_t s = 0; s < endpoints; ++s) probes.push_back({{s, 0}, the_world().seed, 0});
  measure(state, state.range(0) != 0, [&](world& w, const request_facts& f) {
    w.shared.prefixes.longest(f.prompts[0].blocks, probes, shared_blocks);  // as the router asks
    benchmark::DoNotOptimize(probes.data());
  });
}

void decide(benchmark::State& state) {
  measure(state, state.range(0) != 0, [](world& w, const request_facts& f) {
    auto p = w.route.decide(f, w.fleet, instant(std::chrono::seconds(2)), w.rng, most_candidates);
    benchmark::DoNotOptimize(p);
  });
}

// Booking and entering the blocks, first token, end: what a request costs after its decision.
void dispatch_to_end(benchmark::State& state) {
  measure(state, state.range(0) != 0, [](world& w, const request_facts& f) {
    candidate to;
    to.endpoint = w.fleet.endpoints[w.rng.below(endpoints)].id;
    to.uncached_tokens = 1000;
    const instant now(std::chrono::seconds(2));
    work_lease l = w.route.dispatched(f, w.fleet, to, now);
    l.first_token(now + std::chrono::milliseconds(100), true);
    l.ended(now + std::chrono::milliseconds(200), {});
  });
}

BENCHMARK(longest_prefix)
    ->ArgName("cold")
    ->Arg(0)
    ->Arg(1)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Iterations(2000);
BENCHMARK(decide)
    ->ArgName("cold")
    ->Arg(0)
    ->Arg(1)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Iterations(2000);
BENCHMARK(dispatch_to_end)
    ->ArgName("cold")
    ->Arg(0)
    ->Arg(1)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Iterations(2000);

}  // namespace
