#include "routing/router.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <thread>

#include "unit/routing/fixtures.hpp"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::fixtures;
using std::chrono::milliseconds;

namespace {

served_model base(std::string id, std::string root = "") {
  return {std::move(id), std::move(root), "", "", 0, 0};
}
served_model adapter(std::string id, std::string parent) {
  return {std::move(id), "", std::move(parent), "", 0, 0};
}

void serves(endpoint_view& e, std::vector<served_model> models) {
  e.models_known = true;
  e.models = std::move(models);
}

bool idle(const shared_state& s, const fleet_view& f) {
  return std::all_of(f.endpoints.begin(), f.endpoints.end(), [&](const endpoint_view& e) {
    const endpoint_load l = s.board.read(e.id);
    return l.prefill_tokens == 0 && l.decode_tokens == 0 && l.sequences == 0;
  });
}

}  // namespace

TEST_CASE("router: a lease knows what its engine had computed before, where that is sure") {
  bench b(fleet_of(1));
  const request_facts f = request_of(chain_of(1, 8));
  work_lease first = b.send(f);
  CHECK(first.computed_before() == 0);
  // The first is still on its way: whether the second finds its blocks nobody knows.
  CHECK(b.decide(f).candidates.at(0).hit_tokens == 2048);
  work_lease second = b.send(f);
  CHECK(second.computed_before() == 0);
  first.first_token(at_ms(1100), true);
  first.ended(at_ms(1200), {});
  CHECK(b.send(f, at_ms(1300)).computed_before() == 2048);
  // Of other prompts, of several at once, and behind a hand-off nothing is sure.
  CHECK(b.send(request_of(chain_of(2, 8)), at_ms(1300)).computed_before() == 0);
  request_facts two = f;
  two.prompts.push_back(f.prompts[0]);
  CHECK(b.send(two, at_ms(1300)).computed_before() == 0);
  CHECK(b.send(f, {.endpoint = {0, 0}, .prefill = {1, 0}}, at_ms(1300)).computed_before() == 0);
  CHECK(work_lease().computed_before() == 0);
}

TEST_CASE("router: pool by exact name, then by what engines serve, then the open pool") {
  fleet_view f = fleet_of(0);
  f.pools = {{"a", {"alpha"}, policy::prefix, {0}},
             {"open", {"*"}, policy::prefix, {1}},
             {"b", {"beta"}, policy::prefix, {2}}};
  for (std::uint16_t i = 0; i < 3; ++i) f.endpoints.push_back(endpoint(i, i));
  serves(f.endpoints[2], {base("beta"), adapter("sql", "beta"), base("hidden")});
  bench b(f);
  CHECK(b.first(request_of({}, "alpha")) == 0);
  CHECK(b.first(request_of({}, "beta")) == 2);
  CHECK(b.first(request_of({}, "sql")) == 2);     // an adapter of a listed model
  CHECK(b.first(request_of({}, "hidden")) == 1);  // not listed, so not that pool's
  CHECK(b.first(request_of({}, "whatever")) == 1);
  CHECK(b.first(request_of({}, "*")) == 1);
  CHECK(b.first(request_of({}, "")) == 1);
}

TEST_CASE("router: without a pool for the model the answer names the models there are") {
  fleet_view f = fleet_of(1);
  f.pools[0].models = {"llama", "qwen"};
  bench b(f);
  const api_error e = b.refusal(request_of({}, std::string(5000, 'x')));
  CHECK(e.why == reason::model_not_found);
  CHECK(e.param == "model");
  CHECK(e.message.find("`llama`, `qwen`") != std::string::npos);
  CHECK(e.message.size() < 400);
  CHECK(b.first(request_of({}, "")) == 0);  // the only pool
}

TEST_CASE("router: endpoints known to lack the model are passed over while another is known to serve it") {
  fleet_view f = fleet_of(3);
  serves(f.endpoints[0], {base("other")});
  serves(f.endpoints[1], {base("m")});
  bench b(f);
  const plan p = b.decide(request_of({}));
  CHECK(find(p, 0) == nullptr);
  CHECK(find(p, 1) != nullptr);
  CHECK(find(p, 2) != nullptr);  // not known yet

  f.version = 2;
  f.endpoints[1].state = life::down;
  f.endpoints[2].state = life::down;
  bench gone(f);
  CHECK(gone.refusal(request_of({})).why == reason::no_endpoint);  // it will come back: not the other's 404

  f.version = 3;
  for (endpoint_view& e : f.endpoints) {
    e.state = life::up;
    serves(e, {base("other")});
  }
  bench nobody(f);
  CHECK(nobody.decide(request_of({})).candidates.size() == 3);  // the engine's own 404 is the answer
}

TEST_CASE("router: down, draining, unresolved and prefill-only endpoints are never chosen") {
  for (std::size_t by = 0; by < policy_count; ++by) {
    fleet_view f = fleet_of(6, static_cast<policy>(by));
    f.endpoints[0].state = life::down;
    f.endpoints[1].state = life::draining;
    f.endpoints[2].addresses.clear();
    f.endpoints[3].settings.role = endpoint_role::prefill;
    f.endpoints[4].state = life::starting;
    f.endpoints[5].state = life::suspect;
    bench b(f);
    const prefix_chain c = chain_of(1, 10);
    for (int i = 0; i < 20; ++i) {
      const plan p = b.decide(request_of(c));
      REQUIRE(p.candidates.size() == 2);
      CHECK(p.candidates[0].endpoint.slot == 4);  // the suspect comes last
      CHECK(p.candidates[1].endpoint.slot == 5);
    }
  }
}

TEST_CASE("router: nobody left is 503 with the reasons and when to try again") {
  fleet_view f = fleet_of(3);
  f.endpoints[0].state = life::down;
  f.endpoints[1].state = life::draining;
  f.endpoints[2].settings.role = endpoint_role::prefill;
  bench b(f);
  const api_error e = b.refusal(request_of({}));
  CHECK(e.why == reason::no_endpoint);
  CHECK(e.retry_after_s == 3);
  CHECK(e.message.find("1 down, 1 draining, 1 for prefill only") != std::string::npos);
  f.endpoints[2].settings.role = endpoint_role::decode;
  f.version = 2;
  f.draining = true;  // a draining replica still decides
  bench decode(f);
  CHECK(decode.first(request_of({})) == 2);  // better than nobody
}

TEST_CASE("router: prefix policy goes where the prompt is, and around a queue") {
  bench b(fleet_of(4));
  const prefix_chain first_turn = chain_of(1, 20);
  b.serve_at(2, request_of(first_turn));
  const request_facts next = request_of(chain_of(2, 2, first_turn));
  const plan p = b.decide(next, at_ms(5000));
  CHECK(p.candidates[0].endpoint.slot == 2);
  CHECK(p.why == choice::holds_prefix);
  CHECK(p.candidates[0].hit_blocks == 20);
  CHECK(p.candidates[0].hit_tokens == 20 * 256);
  CHECK(p.candidates[0].uncached_tokens == next.prompt_tokens - 20 * 256);
  CHECK(p.prompt_blocks == 22);
  // lambda 8: the held 5,120 tokens are worth a queue of some 46,000.
  std::vector<work_lease> queue;
  for (std::uint64_t i = 0; i < 10; ++i)
    queue.push_back(b.send_to(2, request_of(chain_of(100 + i, 15)), at_ms(5000)));
  CHECK(b.first(next, at_ms(5000)) == 2);
  for (std::uint64_t i = 0; i < 12; ++i)
    queue.push_back(b.send_to(2, request_of(chain_of(200 + i, 15)), at_ms(5000)));
  CHECK(b.first(next, at_ms(5000)) != 2);
}

TEST_CASE("router: a prefix in flight counts as held; withdrawn it is not") {
  bench b(fleet_of(2));
  const request_facts f = request_of(chain_of(9, 30));
  work_lease l = b.send_to(1, f);
  CHECK(find(b.decide(f), 1)->hit_blocks == 30);
  CHECK(find(b.decide(f), 1)->queue_tokens > 0);  // the price of the wait
  l.withdraw();
  CHECK_FALSE(l);
  CHECK(find(b.decide(f), 1)->hit_blocks == 0);
  CHECK(idle(b.shared, b.fleet));
}

TEST_CASE("router: leases give back whatever happens, and moves do not count twice") {
  bench b(fleet_of(3));
  prng rng(11);
  {
    std::vector<work_lease> leases;
    for (std::uint64_t i = 0; i < 500; ++i) {
      request_facts f = request_of(chain_of(rng.below(20), rng.below(8)));
      f.n = 1 + static_cast<std::uint32_t>(rng.below(3));
      leases.push_back(b.send(f, at_ms(static_cast<std::int64_t>(i))));
      work_lease& l = leases[rng.below(leases.size())];
      switch (rng.below(5)) {
        case 0: l.first_token(at_ms(static_cast<std::int64_t>(i)), rng.below(2) == 0); break;
        case 1: l.ended(at_ms(static_cast<std::int64_t>(i)), {100, 50, 20, true, true}); break;
        case 2: l.withdraw(); break;
        case 3: l = std::move(leases.back()); break;
        default: std::swap(l, leases.back());
      }
    }
    CHECK_FALSE(idle(b.shared, b.fleet));
  }
  CHECK(idle(b.shared, b.fleet));
}

TEST_CASE("router: the first token turns prefill into decode, once") {
  bench b(fleet_of(1));
  request_facts f = request_of(chain_of(1, 10));
  f.n = 3;
  work_lease l = b.send(f, at_ms(1000));
  CHECK(l.endpoint() == b.fleet.endpoints[0].id);
  endpoint_load load = b.shared.board.read(l.endpoint());
  CHECK(load.prefill_tokens == f.prompt_tokens);
  CHECK(load.sequences == 3);
  for (int i = 0; i < 2; ++i) {
    l.first_token(at_ms(1500), true);
    load = b.shared.board.read(l.endpoint());
    CHECK(load.prefill_tokens == 0);
    CHECK(load.decode_tokens == 3 * f.prompt_tokens);
  }
  CHECK(load.speed == doctest::Approx(static_cast<double>(f.prompt_tokens) / 0.5).epsilon(0.01));
  l.ended(at_ms(2000), {});
  CHECK(idle(b.shared, b.fleet));
  CHECK_FALSE(l);
}

TEST_CASE("router: a request without a stream teaches no speed") {
  bench b(fleet_of(1));
  work_lease l = b.send(request_of(chain_of(1, 10)), at_ms(1000));
  l.first_token(at_ms(1500), false);
  CHECK(b.shared.board.read(b.fleet.endpoints[0].id).speed == 0);
}

TEST_CASE("router: an endpoint that was replaced owes nothing to old leases") {
  bench b(fleet_of(2));
  const request_facts f = request_of(chain_of(1, 10));
  work_lease old = b.send_to(1, f);
  old.first_token(at_ms(1100), true);
  b.fleet.version = 2;
  b.fleet.endpoints[1].id.generation = 1;
  CHECK(find(b.decide(f), 1)->hit_blocks == 0);
  work_lease fresh = b.send_to(1, f);
  old.ended(at_ms(1200), {});
  const endpoint_load l = b.shared.board.read(b.fleet.endpoints[1].id);
  CHECK(l.sequences == 1);
  CHECK(l.prefill_tokens == f.prompt_tokens);
}

TEST_CASE("router: an engine that started again holds nothing") {
  bench b(fleet_of(2));
  b.fleet.endpoints[1].engine.start_time_s = 1000;
  b.fleet.version = 2;
  const request_facts f = request_of(chain_of(1, 10));
  b.serve_at(1, f);
  CHECK(find(b.decide(f), 1)->hit_blocks == 10);
  b.fleet.endpoints[1].engine.start_time_s = 2000;
  b.fleet.version = 3;
  CHECK(find(b.decide(f), 1)->hit_blocks == 0);
}

TEST_CASE("router: aliases of one engine share blocks, adapters do not") {
  fleet_view fleet = fleet_of(1);
  serves(fleet.endpoints[0], {base("small", "org/model"), base("large", "org/model"), adapter("sql", "small"),
                              adapter("law", "large")});
  bench b(fleet);
  const prefix_chain c = chain_of(1, 12);
  b.serve_at(0, request_of(c, "small"));
  CHECK(b.decide(request_of(c, "large")).candidates[0].hit_blocks == 12);
  CHECK(b.decide(request_of(c, "sql")).candidates[0].hit_blocks == 0);
  b.serve_at(0, request_of(c, "sql"));
  CHECK(b.decide(request_of(c, "sql")).candidates[0].hit_blocks == 12);
  CHECK(b.decide(request_of(c, "law")).candidates[0].hit_blocks == 0);
}

TEST_CASE("router: what an endpoint holds is bounded by its engine's KV") {
  fleet_view fleet = fleet_of(1);
  fleet.endpoints[0].engine.kv_blocks = 640;
  fleet.endpoints[0].engine.block_tokens = 16;  // 10,240 tokens: 40 blocks of ours
  bench b(fleet);
  const request_facts old = request_of(chain_of(1, 20));
  b.serve_at(0, old);
  CHECK(b.decide(old).candidates[0].hit_blocks == 20);
  for (std::uint64_t i = 2; i < 5; ++i) b.serve_at(0, request_of(chain_of(i, 20)));
  CHECK(b.decide(old).candidates[0].hit_blocks == 0);
  b.fleet.endpoints[0].settings.kv_tokens = 1 << 24;  // the configuration's word counts more
  b.fleet.version = 2;
  b.serve_at(0, old);
  for (std::uint64_t i = 2; i < 5; ++i) b.serve_at(0, request_of(chain_of(i, 20)));
  CHECK(b.decide(old).candidates[0].hit_blocks == 20);
}

TEST_CASE("router: slower endpoints get shorter queues") {
  bench b(fleet_of(2));
  for (int i = 0; i < 10; ++i) {
    const instant t = at_ms(i * 10000);
    b.shared.board.teach(b.fleet.endpoints[0].id, 4000, t, t + milliseconds(1000));
    b.shared.board.teach(b.fleet.endpoints[1].id, 4000, t, t + milliseconds(250));
  }
  std::vector<work_lease> leases;
  std::size_t to[2] = {0, 0};
  for (std::uint64_t i = 0; i < 60; ++i) {
    leases.push_back(b.send(request_of(chain_of(i, 8)), at_ms(200000)));
    ++to[leases.back().endpoint().slot];
  }
  CHECK(to[0] > 5);
  CHECK(to[1] > 2 * to[0]);
}

TEST_CASE("router: confidence lowers, never gates") {
  bench b(fleet_of(2));
  const request_facts f = request_of(chain_of(1, 40));
  b.serve_at(0, f);
  for (const double c : {0.5, 0.0, -3.0, std::numeric_limits<double>::quiet_NaN()}) {
    b.fleet.endpoints[0].confidence = c;
    const plan p = b.decide(f, at_ms(9000));
    REQUIRE(p.candidates.size() == 2);
    CHECK(p.candidates[0].endpoint.slot == 0);  // 10,000 held tokens outweigh doubt
    CHECK(b.first(request_of(chain_of(2, 40)), at_ms(9000)) == 1);
  }
  b.fleet.endpoints[0].confidence = 1;
  b.shared.board.suspect(b.fleet.endpoints[0].id, at_ms(20000));
  CHECK(b.first(request_of(chain_of(3, 4)), at_ms(10000)) == 1);
  std::set<std::uint16_t> later;
  for (std::uint64_t i = 0; i < 20; ++i) later.insert(b.first(request_of(chain_of(50 + i, 4)), at_ms(21000)));
  CHECK(later.size() == 2);
}

TEST_CASE("router: batches, n and pooling count as what they cost") {
  bench b(fleet_of(1));
  request_facts f = request_of(chain_of(1, 4));
  f.prompts.push_back(chain_of(2, 4));
  f.prompt_tokens *= 2;
  f.n = 2;
  work_lease l = b.send(f);
  CHECK(b.shared.board.read(l.endpoint()).sequences == 4);
  CHECK(b.shared.board.read(l.endpoint()).prefill_tokens == f.prompt_tokens);
  l.first_token(at_ms(1100), true);
  CHECK(b.shared.board.read(l.endpoint()).speed == 0);  // the first of two prompts says little
  l.ended(at_ms(1200), {});
  const plan again = b.decide(f);
  CHECK(again.candidates[0].hit_blocks == 8);
  CHECK(again.prompt_blocks == 8);

  request_facts pooling = request_of(chain_of(3, 4));
  pooling.pooling = true;
  work_lease e = b.send(pooling);
  CHECK(b.shared.board.read(e.endpoint()).prefill_tokens == pooling.prompt_tokens);
  e.ended(at_ms(1300), {});
  CHECK(b.decide(pooling).candidates[0].hit_blocks == 0);
}

TEST_CASE("router: previous_response_id goes back to its engine or is refused") {
  bench b(fleet_of(3));
  request_facts f = request_of(chain_of(1, 2));
  f.api = api_kind::responses;
  f.previous_response_id = "resp_1";
  CHECK(b.refusal(f).why == reason::response_not_found);
  CHECK(b.refusal(f).param == "previous_response_id");
  b.route.remember_response("resp_1", b.fleet.endpoints[2].id);
  const plan p = b.decide(f);
  REQUIRE(p.candidates.size() == 1);
  CHECK(p.candidates[0].endpoint.slot == 2);
  CHECK(p.why == choice::pinned);
  router other_worker(b.shared);
  CHECK(std::holds_alternative<plan>(other_worker.decide(f, b.fleet, at_ms(0), b.rng)));
  b.fleet.endpoints[2].state = life::down;
  CHECK(b.refusal(f).why == reason::response_not_found);
  b.fleet.endpoints[2].state = life::up;
  b.fleet.endpoints[2].id.generation = 1;
  b.fleet.version = 2;
  CHECK(b.refusal(f).why == reason::response_not_found);
  f.api = api_kind::chat;
  CHECK(b.decide(f).candidates.size() == 3);
  for (int i = 0; i < 100000; ++i)
    b.route.remember_response("resp_" + std::to_string(i), b.fleet.endpoints[1].id);
  f.api = api_kind::responses;
  f.previous_response_id = "resp_99999";
  CHECK(b.decide(f).candidates.size() == 1);
}

TEST_CASE("router: predicted prefill is queue plus own work") {
  bench b(fleet_of(1));
  for (int i = 0; i < 10; ++i) {
    b.shared.board.teach(b.fleet.endpoints[0].id, 5000, at_ms(i * 1000), at_ms(i * 1000 + 500));
  }
  request_facts f = request_of(chain_of(1, 39));  // 10,004 tokens
  const candidate idle_one = b.decide(f, at_ms(50000)).candidates[0];
  CHECK(seconds(b.route.predicted_prefill(idle_one)) == doctest::Approx(1.0).epsilon(0.05));
  work_lease l = b.send(f, idle_one, at_ms(50000));
  const candidate queued = b.decide(request_of(chain_of(2, 39)), at_ms(50500)).candidates[0];
  CHECK(seconds(b.route.predicted_prefill(queued)) == doctest::Approx(1.5).epsilon(0.05));
}

TEST_CASE("router: a queue drains with time, and an endpoint that is late is not taken for idle") {
  bench b(fleet_of(1));
  const request_facts f = request_of(chain_of(1, 31));
  work_lease l = b.send(f, at_ms(0));  // some 8,000 tokens, speed not known: 1 s
  const request_facts g = request_of(chain_of(2, 1));
  const double at_once = b.decide(g, at_ms(1)).candidates[0].queue_tokens;
  const double half = b.decide(g, at_ms(500)).candidates[0].queue_tokens;
  const double done = b.decide(g, at_ms(994)).candidates[0].queue_tokens;
  const double late = b.decide(g, at_ms(1900)).candidates[0].queue_tokens;
  CHECK(half == doctest::Approx(at_once / 2).epsilon(0.02));
  CHECK(done < at_once / 10);
  CHECK(late > half);
  const auto all = static_cast<double>(f.prompt_tokens);
  CHECK(b.decide(g, at_ms(5000)).candidates[0].queue_tokens == doctest::Approx(all));
  // Nothing for a hundred seconds: it has stopped.
  CHECK(b.decide(g, at_ms(100000)).candidates[0].queue_tokens > 50 * all);
}

TEST_CASE("router: bad input is harmless") {
  bench b(fleet_of(3));
  SUBCASE("empty prompts and no prompts") {
    request_facts none;
    CHECK(b.decide(none).candidates.size() == 3);
    CHECK(b.decide(request_of({})).candidates.size() == 3);
    request_facts empty = request_of({});
    empty.prompt_tokens = 0;
    empty.prompts[0].tail_tokens = 0;
    work_lease l = b.send(empty);
    l.first_token(at_ms(1), true);
  }
  SUBCASE("one block repeated, with absurd token counts") {
    prefix_chain c;
    c.blocks.assign(20000, {1, ~0U});
    work_lease l = b.send(request_of(c));
    l.first_token(at_ms(2000), true);
    CHECK(b.shared.board.read(l.endpoint()).prefill_tokens == 0);
    l.ended(at_ms(2001), {~std::uint64_t{0}, ~std::uint64_t{0}, 0, true, true});
  }
  SUBCASE("absurd engines") {
    for (endpoint_view& e : b.fleet.endpoints) {
      e.engine.kv_blocks = 1000000000000000000;
      e.engine.block_tokens = ~0U;
      e.engine.kv_tokens = e.id.slot == 0 ? ~std::uint64_t{0} : 0;
      e.engine.start_time_s = e.id.slot == 1 ? -1 : std::numeric_limits<double>::quiet_NaN();
      e.engine.running = e.engine.waiting = -std::numeric_limits<double>::infinity();
      e.engine.kv_use = 1e300;
    }
    b.fleet.version = 2;
    const request_facts f = request_of(chain_of(1, 10));
    b.serve_at(1, f);
    CHECK(find(b.decide(f), 1)->hit_blocks == 10);
  }
  SUBCASE("absurd settings") {
    auto c = std::make_shared<config>();
    c->routing.lambda = std::numeric_limits<double>::quiet_NaN();
    c->routing.sequence_cost = -5;
    c->routing.load_factor = 0;
    b.fleet.settings = c;
    CHECK(b.decide(request_of(chain_of(1, 10))).candidates[0].score > 0);
  }
  SUBCASE("no configuration, indices beyond the fleet, a version that stands still") {
    b.fleet.settings = nullptr;
    b.fleet.pools[0].endpoints.push_back(77);
    CHECK(b.decide(request_of(chain_of(1, 10))).candidates.size() == 3);
    b.fleet.endpoints.push_back(endpoint(3));
    b.fleet.pools[0].endpoints = {0, 1, 2, 3};
    b.fleet.pools[0].endpoints.push_back(0);
    CHECK(b.decide(request_of(chain_of(1, 10))).candidates.size() == 5);
    b.fleet.pools.clear();
    CHECK(b.refusal(request_of({})).why == reason::model_not_found);
  }
  SUBCASE("100,000 models and sessions") {
    for (int i = 0; i < 100000; ++i) {
      request_facts f = request_of(chain_of(static_cast<std::uint64_t>(i), 1), "model-" + std::to_string(i));
      f.affinity = std::to_string(i);
      work_lease l = b.send(f);
    }
    CHECK(idle(b.shared, b.fleet));
  }
}

TEST_CASE("router: eight workers share one state and leave nothing behind") {
  bench b(fleet_of(6));
  std::vector<std::thread> workers;
  for (std::uint64_t w = 0; w < 8; ++w) {
    workers.emplace_back([&b, w] {
      router own(b.shared);
      fleet_view fleet = fleet_of(6, static_cast<policy>(w % policy_count));
      prng rng(w);
      std::vector<work_lease> leases;
      for (int i = 0; i < 150; ++i) {
        // Workers hear of a restart and of a new owner at different times.
        fleet.version = 1 + static_cast<std::uint64_t>(i) / 20;
        fleet.endpoints[0].engine.start_time_s = 100.0 * static_cast<double>(fleet.version);
        fleet.endpoints[1].id.generation = static_cast<std::uint16_t>(fleet.version / 2);
        const request_facts f = request_of(chain_of(rng.below(20), 1 + rng.below(20), chain_of(0, 4)));
        auto v = own.decide(f, fleet, at_ms(i), rng);
        const plan* p = std::get_if<plan>(&v);
        if (p == nullptr) continue;
        leases.push_back(own.dispatched(f, fleet, p->candidates[0], at_ms(i)));
        work_lease& l = leases[rng.below(leases.size())];
        const std::uint64_t what = rng.below(4);
        if (what == 0) l.first_token(at_ms(i), true);
        if (what == 1) l.ended(at_ms(i), {10, 10, 0, true, false});
        if (what == 2) l.withdraw();
      }
    });
  }
  for (std::thread& t : workers) t.join();
  for (std::uint16_t s = 0; s < 6; ++s) {
    for (std::uint16_t g = 0; g < 6; ++g) {
      const endpoint_load l = b.shared.board.read({s, g});
      CHECK(l.prefill_tokens + l.decode_tokens + l.sequences == 0);
    }
  }
}

TEST_CASE("explain: words for the choice and a line for each candidate") {
  bench b(fleet_of(2));
  const request_facts f = request_of(chain_of(1, 10));
  b.serve_at(1, f);
  const std::string s = explain(b.decide(f, at_ms(5000)), b.fleet);
  CHECK(
      s.find("policy prefix: http://engine-1:8000, because its score is the lowest, and it holds 10 of 10") ==
      0);
  CHECK(s.find("\n1. http://engine-1:8000: score ") != std::string::npos);
  CHECK(s.find("\n2. http://engine-0:8000: score ") != std::string::npos);
  CHECK(s.find("holds 0 of 10 blocks (0 tokens), 2580 to compute, speed not known") != std::string::npos);
  CHECK(explain(plan{}, b.fleet) == "policy prefix: nobody can be asked");
  b.fleet.endpoints.clear();
  CHECK(explain(b.decide(request_of({})), b.fleet) == "policy prefix: nobody can be asked");
}
