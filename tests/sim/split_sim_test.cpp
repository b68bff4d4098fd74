// Whole workers over engines that prefill here and decode there, with faults and clients that leave in every
// state of both legs. Each run: the ledger is empty at the end, every lease was fetched or is in the ledger
// as lost, no answer is made of foreign KV. PENSTOCK_SIM_SEED=N replays a seed, PENSTOCK_SIM_RUNS=N runs
// more.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "sim/trial.hpp"

#include "sim/handoff_actor.hpp"

namespace {

using namespace sim;
using namespace std::chrono_literals;
using penstock::endpoint_role;

struct pool_shape {
  std::size_t prefills = 0, decodes = 0, both = 0;
  std::size_t size() const { return prefills + decodes + both; }
};

std::shared_ptr<const penstock::fleet_view> fleet_of(std::shared_ptr<const penstock::config> settings,
                                                     const pool_shape& shape, std::int64_t split,
                                                     duration lease) {
  auto fleet = std::make_shared<penstock::fleet_view>(*sim::fleet_of(std::move(settings), shape.size()));
  fleet->pools[0].disaggregation = {.enabled = true, .split = split, .lease = lease};
  for (std::size_t i = 0; i < shape.size(); ++i)
    fleet->endpoints[i].settings.role = i < shape.prefills                   ? endpoint_role::prefill
                                        : i < shape.prefills + shape.decodes ? endpoint_role::decode
                                                                             : endpoint_role::both;
  return fleet;
}

// What a run did besides being right: that the runs reach what they are for.
struct seen {
  std::uint64_t leases = 0, fetched = 0, delivered = 0, lapsed = 0, expired = 0, cut = 0, late = 0;
};

// `true_lease`: what the engines keep to; the worker believes in `lease`.
std::vector<std::string> run_seed(std::uint64_t seed, seen& did, bool liar) {
  world w(seed);
  draw_weather(w);
  const auto settings = settings_of(w.rng);
  const pool_shape shape{1 + w.rng.below(3), 1 + w.rng.below(3), w.rng.below(2)};
  const duration lease = w.rng.below(3) == 0 ? duration(400ms) : duration(30s);
  const duration slow_answer = w.rng.below(3) == 0 ? duration(500ms) : duration(5ms);
  truths truth;
  lease_book book;
  std::vector<std::unique_ptr<handoff_actor>> engines;
  for (std::size_t i = 0; i < shape.size(); ++i)
    engines.push_back(std::make_unique<handoff_actor>(
        w, static_cast<int>(i), draw_engine(w, 50),
        handoff_behaviour{.fault_chance = static_cast<double>(w.rng.below(60)) / 100,
                          .lease = liar ? lease / 50 : lease,
                          .answer_time = slow_answer,
                          .prefills_only = i < shape.prefills},
        truth, book));
  listen(w, engines);
  recorder told;
  penstock::routing::shared_state shared(settings->routing);
  clients_of_run clients;
  std::vector<std::string> wrong;
  std::uint64_t lost = 0;
  {
    const std::int64_t split = w.rng.below(4) == 0 ? penstock::split_by_cost : penstock::split_always;
    penstock::worker::worker worker({.io = w,
                                     .told = told,
                                     .routing = shared,
                                     .fleet = fleet_of(settings, shape, split, lease),
                                     .seed = seed});
    clients = let_run(w, worker, wrong);
    const auto m = worker.metrics();
    using penstock::handoff::closing;
    const auto closed = [&m](closing how) { return m.handoffs_closed[static_cast<std::size_t>(how)]; };
    lost = closed(closing::expired) + closed(closing::lapsed);
    did.fetched += closed(closing::fetched);
    did.delivered += closed(closing::delivered);
    did.lapsed += closed(closing::lapsed);
    did.expired += closed(closing::expired);
    did.cut += closed(closing::cut);
  }
  std::uint64_t stranded = 0;
  for (const auto& [id, l] : book.leases) stranded += !l.fetched && !l.excused;
  did.leases += book.leases.size();
  if (stranded > lost)
    wrong.push_back(fmt::format("{} leases ran out, the ledger knows of {}", stranded, lost));
  if (book.wrong_reads != 0)
    wrong.push_back(fmt::format("{} reads of blocks that were gone", book.wrong_reads));
  judge(w, engines, shared, told, clients, truth, wrong);
  return wrong;
}

}  // namespace

TEST_CASE("no split request leaks a lease, invents an answer or forgets an end") {
  seen did;
  const std::uint64_t runs =
      for_each_seed(3000, [&did](std::uint64_t seed) { return run_seed(seed, did, false); });
  MESSAGE(did.leases, " leases: ", did.fetched, " fetched, ", did.cut, " cut, ", did.delivered,
          " delivered, ", did.lapsed, " lapsed, ", did.expired, " expired");
  if (runs < 1000) return;
  // The runs go where they shall.
  CHECK(did.fetched > runs / 2);
  CHECK(did.cut > 0);
  CHECK(did.delivered > 0);
  CHECK(did.lapsed > 0);
  CHECK(did.expired > 0);
}

TEST_CASE("engines that keep blocks for less long than was agreed are found out") {
  bool found = false;
  seen did;
  for (std::uint64_t seed = 1; seed <= 300 && !found; ++seed)
    for (const std::string& line : run_seed(seed, did, true)) found |= line.find("foreign") != line.npos;
  CHECK(found);
}
