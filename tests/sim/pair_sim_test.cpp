// Whole workers over engines whose two legs start at once (Mooncake, SGLang), with faults and clients that
// leave in every state of both legs. Each run: both legs always ended, the ledger is empty, no blocks are
// held that it does not know of, and no client got a word of an answer whose prefill leg did not end well.
// PENSTOCK_SIM_SEED=N replays a seed, PENSTOCK_SIM_RUNS=N runs more.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "sim/trial.hpp"

#include "sim/pair_actor.hpp"

namespace {

using namespace sim;
using namespace std::chrono_literals;
using penstock::connector_kind;
using penstock::endpoint_role;

struct pool_shape {
  std::size_t prefills = 0, decodes = 0, both = 0;
  std::size_t size() const { return prefills + decodes + both; }
  endpoint_role role_of(std::size_t i) const {
    return i < prefills             ? endpoint_role::prefill
           : i < prefills + decodes ? endpoint_role::decode
                                    : endpoint_role::both;
  }
};

std::shared_ptr<const penstock::fleet_view> fleet_of(std::shared_ptr<const penstock::config> settings,
                                                     const pool_shape& shape, connector_kind connector,
                                                     std::int64_t split) {
  auto fleet = std::make_shared<penstock::fleet_view>(*sim::fleet_of(std::move(settings), shape.size()));
  fleet->pools[0].disaggregation = {.enabled = true, .connector = connector, .split = split};
  for (std::size_t i = 0; i < shape.size(); ++i) {
    penstock::endpoint_view& e = fleet->endpoints[i];
    e.settings.role = shape.role_of(i);
    e.settings.bootstrap_host = fmt::format("engine-{}", i);
    e.settings.bootstrap_port = 8998;
    e.rank_ids = {fmt::format("e{}_dp0", i)};
  }
  return fleet;
}

// What the runs did besides being right: that they reach what they are for.
struct seen {
  std::uint64_t meetings = 0, fetched = 0, pinned = 0, withheld = 0,
                closed[penstock::handoff::closing_count] = {};
  std::uint64_t of(penstock::handoff::closing how) const { return closed[static_cast<std::size_t>(how)]; }
};

// What goes wrong on purpose, to show that a check fires.
struct trick {
  bool lies = false, forgets = false;  // as in pair_behaviour
  planted bug = planted::none;
};

struct run {
  std::uint64_t seed;
  connector_kind connector;
  trick how;

  world w{seed};
  pool_shape shape;
  truths truth;
  meeting_book book;
  std::vector<std::unique_ptr<pair_actor>> engines;
  clients_of_run clients;
  std::vector<std::string> wrong;
  recorder told;

  void make_engines() {
    const bool sglang = connector == connector_kind::sglang;
    const duration slow_answer = w.rng.below(3) == 0 ? duration(500ms) : duration(5ms);
    for (std::size_t i = 0; i < shape.size(); ++i)
      engines.push_back(std::make_unique<pair_actor>(
          w, static_cast<int>(i), draw_engine(w, 50),
          pair_behaviour{.fault_chance = static_cast<double>(w.rng.below(60)) / 100,
                         .answer_time = slow_answer,
                         .sglang = sglang,
                         .prefills_only = shape.role_of(i) == endpoint_role::prefill,
                         .decodes_only = shape.role_of(i) == endpoint_role::decode,
                         .lies = how.lies,
                         .forgets = how.forgets},
          truth, book));
  }

  // No blocks are held that the ledger does not know of.
  void judge_ledger(penstock::worker::worker& worker, seen& did) {
    const auto m = worker.metrics();
    for (std::size_t i = 0; i < penstock::handoff::closing_count; ++i) did.closed[i] += m.handoffs_closed[i];
    using penstock::handoff::closing;
    const std::uint64_t lost = m.handoffs_closed[static_cast<std::size_t>(closing::expired)] +
                               m.handoffs_closed[static_cast<std::size_t>(closing::lapsed)];
    std::uint64_t stranded = 0;
    for (const auto& [name, h] : book) {
      stranded += h.stranded();
      did.pinned += h.pinned;
      did.fetched += h.fetched;
    }
    did.meetings += book.size();
    if (stranded > lost)
      wrong.push_back(
          fmt::format("{} hand-offs hold blocks for nobody, the ledger knows of {}", stranded, lost));
  }

  std::vector<std::string> operator()(seen& did) {
    w.bug = how.bug;
    draw_weather(w);
    const auto settings = settings_of(w.rng);
    shape = {1 + w.rng.below(3), 1 + w.rng.below(3), w.rng.below(2)};
    make_engines();
    listen(w, engines);
    penstock::routing::shared_state shared(settings->routing);
    {
      const std::int64_t split = w.rng.below(4) == 0 ? penstock::split_by_cost : penstock::split_always;
      penstock::worker::worker worker({.io = w,
                                       .told = told,
                                       .routing = shared,
                                       .fleet = fleet_of(settings, shape, connector, split),
                                       .seed = seed});
      clients = let_run(w, worker, wrong);
      judge_ledger(worker, did);
    }
    judge(w, engines, shared, told, clients, truth, wrong);
    for (const auto& [id, attempts] : truth)
      for (const attempt_truth& a : attempts) did.withheld += a.withheld && a.events != 0;
    return wrong;
  }
};

void run_all(connector_kind connector) {
  seen did;
  const std::uint64_t runs = for_each_seed(
      20000, [&](std::uint64_t seed) { return run{.seed = seed, .connector = connector}(did); });
  using penstock::handoff::closing;
  MESSAGE(name(connector), ": ", did.meetings, " hand-offs, ", did.pinned, " pinned, ", did.fetched,
          " fetched, ", did.withheld, " answers withheld; ledger: ", did.of(closing::fetched), " fetched, ",
          did.of(closing::cut), " cut, ", did.of(closing::delivered), " delivered, ", did.of(closing::lapsed),
          " lapsed, ", did.of(closing::expired), " expired");
  if (runs < 1000) return;
  // The runs go where they shall.
  CHECK(did.fetched > runs / 2);
  CHECK(did.withheld > 0);
  CHECK(did.of(closing::fetched) > runs / 2);
  CHECK(did.of(closing::cut) > 0);
}

// Within a thousand seeds the check that complains with these words fires.
void check_found(connector_kind connector, trick how, std::string_view complaint) {
  bool found = false;
  seen did;
  for (std::uint64_t seed = 1; seed <= 1000 && !found; ++seed)
    for (const std::string& line : run{.seed = seed, .connector = connector, .how = how}(did))
      found |= line.find(complaint) != line.npos;
  CHECK(found);
}

}  // namespace

TEST_CASE("mooncake: both legs end, nothing is stranded, nothing passes that should wait") {
  run_all(connector_kind::mooncake);
}

TEST_CASE("sglang: both legs end, nothing is stranded, nothing passes that should wait") {
  run_all(connector_kind::sglang);
}

TEST_CASE("an answer that passes although its prefill leg did not end well is found out") {
  for (const connector_kind connector : {connector_kind::mooncake, connector_kind::sglang})
    check_found(connector, {.lies = true}, "did not end well");
}

TEST_CASE("a leg that goes on although the other failed is found out") {
  for (const connector_kind connector : {connector_kind::mooncake, connector_kind::sglang})
    check_found(connector, {.bug = planted::swallow_hang_ups}, "goes on although the other failed");
}

TEST_CASE("blocks that the ledger takes for freed and nobody freed are found out") {
  // SGLang's prefill leg lasts until the blocks are fetched, and with it they go.
  check_found(connector_kind::mooncake, {.forgets = true}, "hold blocks for nobody");
}
