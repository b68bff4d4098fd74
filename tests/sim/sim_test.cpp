// Whole workers on a simulated network and clock: thousands of seeds, each with its own weather, faults and
// clients. A failing seed prints itself; PENSTOCK_SIM_SEED=N replays it, PENSTOCK_SIM_RUNS=N runs more.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "sim/trial.hpp"

namespace {

using namespace sim;

// Everything that is wrong after the run of one seed.
std::vector<std::string> run_seed(std::uint64_t seed, planted bug) {
  world w(seed);
  w.bug = bug;
  draw_weather(w);
  const auto settings = settings_of(w.rng);
  const std::size_t engine_count = 1 + w.rng.below(4);
  truths truth;
  std::vector<std::unique_ptr<engine_actor>> engines;
  for (std::size_t i = 0; i < engine_count; ++i)
    engines.push_back(std::make_unique<engine_actor>(w, static_cast<int>(i), draw_engine(w, 60), truth));
  listen(w, engines);
  recorder told;
  penstock::routing::shared_state shared(settings->routing);
  clients_of_run clients;
  std::vector<std::string> wrong;
  {
    penstock::worker::worker worker(
        {.io = w, .told = told, .routing = shared, .fleet = fleet_of(settings, engine_count), .seed = seed});
    clients = let_run(w, worker, wrong);
  }
  judge(w, engines, shared, told, clients, truth, wrong);
  return wrong;
}

}  // namespace

TEST_CASE("no seed leaks, lies or forgets") {
  for_each_seed(20000, [](std::uint64_t seed) { return run_seed(seed, planted::none); });
}

TEST_CASE("a run is the same each time") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed)
    CHECK(run_seed(seed, planted::repeat_engine_bytes) == run_seed(seed, planted::repeat_engine_bytes));
}

TEST_CASE("planted bugs are found") {
  for (const planted bug :
       {planted::swallow_client_loss, planted::lose_written_bytes, planted::repeat_engine_bytes,
        planted::swallow_ticks, planted::swallow_hang_ups}) {
    CAPTURE(static_cast<int>(bug));
    bool found = false;
    for (std::uint64_t seed = 1; seed <= 300 && !found; ++seed) found = !run_seed(seed, bug).empty();
    CHECK(found);
  }
}
