// What the runs of all simulations have in common: how their surroundings are drawn from the seed, what must
// hold at the end of each, and how seeds are gone through.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proxy/worker/worker.hpp"
#include "sim/client_actor.hpp"
#include "sim/engine_actor.hpp"
#include "sim/recorder.hpp"
#include "sim/setting.hpp"
#include "sim/world.hpp"

namespace sim {

using clients_of_run = std::vector<std::unique_ptr<client_actor>>;

inline void draw_weather(world& w) {
  w.net.latency_max = std::chrono::microseconds(100 + w.rng.below(8000));
  w.net.window = 200 + w.rng.below(32768);
  w.net.piece_max = 1 + w.rng.below(3000);
}

// `faults`: per cent of an engine's answers that may fail, at most.
inline engine_behaviour draw_engine(world& w, std::uint64_t faults) {
  return {.fault_chance = static_cast<double>(w.rng.below(faults)) / 100,
          .event_gap = std::chrono::milliseconds(1 + w.rng.below(50)),
          .events_max = static_cast<int>(1 + w.rng.below(30)),
          .closes_idle = w.rng.below(3) == 0};
}

// Engine i listens on port i + 1; now and then one refuses, in some runs one always does. `engines` outlives
// the run.
template <class Engines>
void listen(world& w, const Engines& engines) {
  const std::size_t refusing = w.rng.below(4) == 0 ? w.rng.below(engines.size()) : engines.size();
  w.engine_at = [&w, &engines, refusing](std::uint16_t port) -> actor* {
    const std::size_t i = port - 1u;
    return i == refusing || engines[i]->dead() || w.rng.below(30) == 0 ? nullptr : engines[i].get();
  };
}

// Lets clients come, and the run go until it rests; says what `worker` then still holds.
inline clients_of_run let_run(world& w, penstock::worker::worker& worker, std::vector<std::string>& wrong) {
  w.attach(worker);
  clients_of_run clients;
  const std::size_t n = 1 + w.rng.below(8);
  for (std::size_t i = 0; i < n; ++i) {
    clients.push_back(std::make_unique<client_actor>(w, (i + 1) * 100, behaviour_of(w.rng)));
    client_actor* c = clients.back().get();
    w.at(w.jitter(std::chrono::milliseconds(300)), [c] { c->begin(); });
  }
  if (!w.run(w.now() + std::chrono::minutes(5), [&] { return worker.next_tick(); }))
    wrong.push_back("the run does not come to rest");
  const auto held = worker.held();
  if (held.clients + held.engines + held.requests + held.body_bytes + held.buffer_bytes + held.timers +
          held.handoffs !=
      0)
    wrong.push_back(
        fmt::format("leaked: {} clients, {} engines, {} requests, {} body bytes, {} buffer bytes, {} "
                    "timers, {} hand-offs",
                    held.clients, held.engines, held.requests, held.body_bytes, held.buffer_bytes,
                    held.timers, held.handoffs));
  if (w.open_links() != 0) wrong.push_back(fmt::format("{} sockets left open", w.open_links()));
  return clients;
}

// Behind the worker's end: no work that nobody does, every request accounted once, every client told the
// truth.
template <class Engines>
void judge(world& w, const Engines& engines, penstock::routing::shared_state& shared, recorder& told,
           const clients_of_run& clients, const truths& truth, std::vector<std::string>& wrong) {
  for (std::size_t i = 0; i < engines.size(); ++i) {
    const auto load = shared.board.read({static_cast<std::uint16_t>(i), 1});
    if (load.prefill_tokens + load.decode_tokens + load.sequences != 0)
      wrong.push_back(fmt::format("engine {}: work on the board that nobody does", i));
    if (engines[i]->running() != 0) wrong.push_back(fmt::format("engine {} works for nobody", i));
  }
  for (const auto& [id, dead] : w.killed)
    if (dead.size() > 2) wrong.push_back(fmt::format("request {} killed {} engines", id, dead.size()));
  wrong.insert(wrong.end(), w.complaints.begin(), w.complaints.end());
  if (!told.claims.empty()) wrong.push_back("a request id is still claimed");
  for (const auto& c : clients) {
    for (std::string& complaint : c->judge(truth)) wrong.push_back(std::move(complaint));
    for (const std::uint64_t id : c->answered())
      if (told.accounted[fmt::format("id-{}", id)] != 1)
        wrong.push_back(
            fmt::format("request {} accounted {} times", id, told.accounted[fmt::format("id-{}", id)]));
  }
  for (const auto& [id, times] : told.accounted)
    if (times > 1) wrong.push_back("request " + id + " accounted more than once");
}

// Runs `usual` seeds, a tenth of them where a sanitizer makes everything slow, or those that the environment
// asks for, and reports what is wrong with each. Returns how many there were.
template <class Run>
std::uint64_t for_each_seed(std::uint64_t usual, Run run) {
  const std::uint64_t only = from_environment("PENSTOCK_SIM_SEED", 0);
  const std::uint64_t first = only != 0 ? only : 1;
  if (from_environment("PENSTOCK_TEST_SLOW", 1) > 1) usual /= 10;
  const std::uint64_t runs = only != 0 ? 1 : from_environment("PENSTOCK_SIM_RUNS", usual);
  int failures = 0;
  for (std::uint64_t seed = first; seed < first + runs && failures < 5; ++seed) {
    const std::vector<std::string> wrong = run(seed);
    if (wrong.empty()) continue;
    ++failures;
    for (const std::string& line : wrong) MESSAGE("seed ", seed, ": ", line);
    FAIL_CHECK("replay with PENSTOCK_SIM_SEED=", seed);
  }
  return runs;
}

}  // namespace sim
