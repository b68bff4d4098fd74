// Whole workers over engines that prefill here and then decode there (NIXL, MoRI-IO, TensorRT-LLM), with
// faults and clients that leave in every state of both legs. Each run: the ledger is empty at the end, every
// lease was fetched or is in the ledger as lost, no answer is made of foreign KV. PENSTOCK_SIM_SEED=N replays
// a seed, PENSTOCK_SIM_RUNS=N runs more.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "sim/trial.hpp"

#include "sim/handoff_actor.hpp"

namespace {

using namespace sim;
using namespace std::chrono_literals;
using penstock::connector_kind;
using penstock::endpoint_role;
using penstock::handoff::closing;

struct pool_shape {
  std::size_t prefills = 0, decodes = 0, both = 0;
  std::size_t size() const { return prefills + decodes + both; }
};

std::shared_ptr<const penstock::fleet_view> fleet_of(std::shared_ptr<const penstock::config> settings,
                                                     const pool_shape& shape, connector_kind connector,
                                                     std::int64_t split, duration lease) {
  auto fleet = std::make_shared<penstock::fleet_view>(*sim::fleet_of(std::move(settings), shape.size()));
  fleet->pools[0].disaggregation = {.enabled = true, .connector = connector, .split = split, .lease = lease};
  for (std::size_t i = 0; i < shape.size(); ++i)
    fleet->endpoints[i].settings.role = i < shape.prefills                   ? endpoint_role::prefill
                                        : i < shape.prefills + shape.decodes ? endpoint_role::decode
                                                                             : endpoint_role::both;
  return fleet;
}

// What the runs did besides being right: that they reach what they are for.
struct seen {
  std::uint64_t leases = 0, closed[penstock::handoff::closing_count] = {};
  std::uint64_t of(closing how) const { return closed[static_cast<std::size_t>(how)]; }
};

// What engines do to show that a check fires.
enum class lie : std::uint8_t {
  none,
  short_lease,  // they keep blocks for less long than the worker was told
  forgetful,    // they do not fetch what a decode leg names
};

std::vector<std::string> run_seed(std::uint64_t seed, connector_kind connector, seen& did,
                                  lie told_wrong = lie::none) {
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
        handoff_behaviour{.connector = connector,
                          .fault_chance = static_cast<double>(w.rng.below(60)) / 100,
                          .lease = told_wrong == lie::short_lease ? lease / 50 : lease,
                          .answer_time = slow_answer,
                          .prefills_only = i < shape.prefills,
                          .forgets = told_wrong == lie::forgetful},
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
                                     .fleet = fleet_of(settings, shape, connector, split, lease),
                                     .seed = seed});
    clients = let_run(w, worker, wrong);
    const auto m = worker.metrics();
    for (std::size_t i = 0; i < penstock::handoff::closing_count; ++i) did.closed[i] += m.handoffs_closed[i];
    lost = m.handoffs_closed[static_cast<std::size_t>(closing::expired)] +
           m.handoffs_closed[static_cast<std::size_t>(closing::lapsed)];
  }
  std::uint64_t stranded = 0;
  for (const auto& [id, l] : book.leases) {
    stranded += l.told && !l.fetched && !engines[static_cast<std::size_t>(l.engine)]->dead();
    // A client that leaves is no reason to hear an engine no more.
    if (l.cut && told.ended[fmt::format("id-{}", l.request)] == penstock::reason::client_gone)
      wrong.push_back(
          fmt::format("request {}: its client left, and its prefill answer was not heard", l.request));
  }
  did.leases += book.leases.size();
  if (stranded > lost)
    wrong.push_back(fmt::format("{} leases ran out, the ledger knows of {}", stranded, lost));
  if (book.wrong_reads != 0)
    wrong.push_back(fmt::format("{} reads of blocks that were gone", book.wrong_reads));
  judge(w, engines, shared, told, clients, truth, wrong);
  return wrong;
}

void run_all(connector_kind connector, std::uint64_t usual) {
  seen did;
  const std::uint64_t runs =
      for_each_seed(usual, [&](std::uint64_t seed) { return run_seed(seed, connector, did); });
  MESSAGE(name(connector), ": ", did.leases, " leases: ", did.of(closing::fetched), " fetched, ",
          did.of(closing::cut), " cut, ", did.of(closing::delivered), " delivered, ", did.of(closing::lapsed),
          " lapsed, ", did.of(closing::expired), " expired, ", did.of(closing::complete), " complete");
  if (runs < 1000) return;
  // The runs go where they shall.
  CHECK(did.of(closing::fetched) > runs / 2);
  CHECK(did.of(closing::cut) > 0);
  CHECK(did.of(closing::delivered) > 0);
  CHECK(did.of(closing::lapsed) > 0);
  CHECK(did.of(closing::expired) > 0);
  CHECK((did.of(closing::complete) > 0) == (connector == connector_kind::trtllm));
}

void check_found(lie what, std::string_view complaint) {
  for (const connector_kind connector :
       {connector_kind::nixl, connector_kind::moriio, connector_kind::trtllm}) {
    bool found = false;
    seen did;
    for (std::uint64_t seed = 1; seed <= 300 && !found; ++seed)
      for (const std::string& line : run_seed(seed, connector, did, what))
        found |= line.find(complaint) != line.npos;
    CHECK(found);
  }
}

}  // namespace

TEST_CASE("nixl: no split request leaks a lease, invents an answer or forgets an end") {
  run_all(connector_kind::nixl, 20000);
}

TEST_CASE("moriio: no split request leaks a lease, invents an answer or forgets an end") {
  run_all(connector_kind::moriio, 10000);
}

TEST_CASE("trtllm: no split request leaks a lease, invents an answer or forgets an end") {
  run_all(connector_kind::trtllm, 10000);
}

TEST_CASE("engines that keep blocks for less long than was agreed are found out") {
  check_found(lie::short_lease, "foreign");
}

TEST_CASE("blocks that the ledger takes for fetched and nobody fetched are found out") {
  check_found(lie::forgetful, "leases ran out");
}
