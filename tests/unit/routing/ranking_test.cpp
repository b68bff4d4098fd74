// The six policies: properties of the order, bounds, hashing.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "routing/router.hpp"
#include "unit/routing/fixtures.hpp"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::fixtures;

TEST_CASE("router: the same input gives the same decision") {
  for (std::size_t by = 0; by < policy_count; ++by) {
    bench one(fleet_of(9, static_cast<policy>(by))), two(fleet_of(9, static_cast<policy>(by)));
    std::vector<work_lease> keep;
    for (std::uint64_t i = 0; i < 200; ++i) {
      const request_facts f = request_of(chain_of(i % 30, i % 9));
      const plan a = one.decide(f), b = two.decide(f);
      REQUIRE(a.candidates.size() == b.candidates.size());
      CHECK(a.why == b.why);
      for (std::size_t k = 0; k < a.candidates.size(); ++k)
        CHECK(a.candidates[k].endpoint == b.candidates[k].endpoint);
      keep.push_back(one.send(f, a.candidates[0]));
      keep.push_back(two.send(f, b.candidates[0]));
    }
  }
}

TEST_CASE("router: the order of endpoints does not matter") {
  for (const policy by : {policy::prefix, policy::consistent_hash, policy::least_tokens,
                          policy::least_requests, policy::random}) {
    fleet_view mixed = fleet_of(9, by);
    std::reverse(mixed.pools[0].endpoints.begin(), mixed.pools[0].endpoints.end());
    bench one(fleet_of(9, by)), two(mixed);
    std::vector<work_lease> keep;
    for (std::uint64_t i = 0; i < 100; ++i) {
      const request_facts f = request_of(chain_of(i % 30, i % 9));
      const plan a = one.decide(f), b = two.decide(f);
      for (std::size_t k = 0; k < 9; ++k) CHECK(a.candidates[k].endpoint == b.candidates[k].endpoint);
      keep.push_back(one.send(f, a.candidates[0]));
      keep.push_back(two.send(f, b.candidates[0]));
    }
  }
}

TEST_CASE("router: every plan lists every candidate once") {
  for (std::size_t by = 0; by < policy_count; ++by) {
    bench b(fleet_of(17, static_cast<policy>(by)));
    for (std::uint64_t i = 0; i < 30; ++i) {
      std::set<std::uint16_t> seen;
      const plan p = b.decide(request_of(chain_of(i, 3)));
      for (const candidate& c : p.candidates) seen.insert(c.endpoint.slot);
      CHECK(seen.size() == 17);
    }
  }
}

TEST_CASE("router: a plan of the best few is the beginning of the plan of all") {
  for (std::size_t by = 0; by < policy_count; ++by) {
    bench b(fleet_of(40, static_cast<policy>(by)));
    std::vector<work_lease> keep;
    for (std::uint64_t i = 0; i < 200; ++i) {
      const request_facts f = request_of(chain_of(i % 30, i % 9));
      const prng before = b.rng;
      const plan all = b.decide(f);
      for (const std::size_t most : {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{39}}) {
        prng again = before;
        const auto found = b.route.decide(f, b.fleet, at_ms(1000), again, most);
        const plan& few = std::get<plan>(found);
        REQUIRE(few.candidates.size() == most);
        if (static_cast<policy>(by) == policy::round_robin) continue;  // whose turn it is, moves on
        CHECK(few.why == all.why);
        for (std::size_t k = 0; k < most; ++k)
          CHECK(few.candidates[k].endpoint == all.candidates[k].endpoint);
      }
      keep.push_back(b.send(f, all.candidates[i % 3]));
      if (keep.size() > 60) keep.erase(keep.begin() + static_cast<std::ptrdiff_t>(i % 50));
    }
  }
}

TEST_CASE("router: the other policies do what their names say") {
  SUBCASE("round robin takes turns, and passes over who is out") {
    bench b(fleet_of(4, policy::round_robin));
    b.fleet.endpoints[2].state = life::down;
    std::vector<int> times(4);
    std::uint16_t last = 99;
    for (int i = 0; i < 30; ++i) {
      const std::uint16_t s = b.first(request_of({}));
      CHECK(s != last);
      last = s;
      ++times[s];
    }
    CHECK(times == std::vector<int>{10, 10, 0, 10});
  }
  SUBCASE("least requests") {
    bench b(fleet_of(3, policy::least_requests));
    work_lease a = b.send_to(0, request_of({})), c = b.send_to(2, request_of({}));
    CHECK(b.decide(request_of({})).why == choice::least_requests);
    CHECK(b.first(request_of({})) == 1);
  }
  SUBCASE("least tokens") {
    bench b(fleet_of(2, policy::least_tokens));
    work_lease big = b.send_to(0, request_of(chain_of(1, 40)));
    work_lease a = b.send_to(1, request_of(chain_of(2, 1))), c = b.send_to(1, request_of(chain_of(3, 1)));
    CHECK(b.first(request_of(chain_of(4, 1))) == 1);
    big.first_token(at_ms(1100), true);
    CHECK(b.first(request_of(chain_of(4, 1))) == 0);
  }
  SUBCASE("random reaches everybody evenly") {
    bench b(fleet_of(4, policy::random));
    std::vector<int> times(4);
    for (int i = 0; i < 4000; ++i) ++times[b.first(request_of({}))];
    for (const int n : times) CHECK(n == doctest::Approx(1000).epsilon(0.15));
  }
}

TEST_CASE("router: consistent hash keeps the bound, and an affinity its endpoint") {
  bench b(fleet_of(5, policy::consistent_hash));
  request_facts f = request_of({});
  f.affinity = "session-1";
  const std::uint16_t home = b.first(f);
  CHECK(b.decide(f).why == choice::hash);
  for (int i = 0; i < 20; ++i) CHECK(b.first(f) == home);
  prng rng(5);
  std::vector<work_lease> leases;
  bool bounded = false;
  for (int i = 0; i < 600; ++i) {
    if (!leases.empty() && rng.below(3) == 0) {
      std::swap(leases[rng.below(leases.size())], leases.back());
      leases.pop_back();
    }
    if (rng.below(2) == 0) f.affinity = "session-" + std::to_string(rng.below(50));
    const plan p = b.decide(f);
    bounded = bounded || p.why == choice::hash_bounded;
    leases.push_back(b.send(f, p.candidates[0]));
    const std::uint64_t load = b.shared.board.read(leases.back().endpoint()).sequences;
    CHECK(static_cast<double>(load) <= std::ceil(1.25 * static_cast<double>(leases.size()) / 5));
  }
  CHECK(bounded);
}

TEST_CASE("router: near-ties of prefix go to the session's endpoint, a held prefix goes before it") {
  bench b(fleet_of(8));
  request_facts f = request_of(chain_of(1, 6));
  f.affinity = "session-1";
  const plan p = b.decide(f);
  CHECK(p.why == choice::hash_tie);
  CHECK(p.by_session);
  CHECK(explain(p, b.fleet).find("the session belongs to it") != std::string::npos);
  std::set<std::uint16_t> homes;
  for (std::uint64_t i = 0; i < 40; ++i) {
    request_facts other = request_of(chain_of(100 + i, 6));
    other.affinity = "session-1";
    CHECK(b.first(other) == p.candidates[0].endpoint.slot);
    other.affinity = "session-" + std::to_string(i);
    homes.insert(b.first(other));
  }
  CHECK(homes.size() > 4);
  const std::uint16_t away = p.candidates[0].endpoint.slot == 0 ? 1 : 0;
  b.serve_at(away, f);
  CHECK(b.first(f) == away);
}

TEST_CASE("router: a lone conversation stays with its engine, however fast all engines are") {
  // All of the traffic shares its past, which so is a head that is cheap to share; and at this speed
  // computing it anew takes less than what counts as a tie.
  bench b(fleet_of(3));
  prefix_chain chain = chain_of(1, 12);
  std::uint16_t home = 0xffff;
  for (std::uint64_t turn = 0; turn < 6; ++turn) {
    const instant now = at_ms(1000 + 1000 * static_cast<std::int64_t>(turn));
    const request_facts f = request_of(chain);
    if (turn == 0) home = b.first(f, now);
    CHECK(b.first(f, now) == home);
    work_lease l = b.send(f, now);
    l.first_token(now + std::chrono::milliseconds(3), true);
    l.ended(now + std::chrono::milliseconds(4), {});
    chain = chain_of(100 + turn, 2, chain);
  }
}

TEST_CASE("router: removing an endpoint moves its own keys only; adding one takes its share") {
  bench five(fleet_of(5, policy::consistent_hash)), six(fleet_of(6, policy::consistent_hash));
  int moved = 0;
  constexpr int keys = 3000;
  for (int i = 0; i < keys; ++i) {
    request_facts f = request_of({});
    f.affinity = "key " + std::to_string(i);
    const std::uint16_t with = six.first(f), without = five.first(f);
    if (with == without) continue;
    CHECK(with == 5);
    ++moved;
  }
  CHECK(moved == doctest::Approx(keys / 6.0).epsilon(0.15));
}

TEST_CASE("router: hashing does not depend on slots") {
  fleet_view other = fleet_of(5, policy::consistent_hash);
  for (endpoint_view& e : other.endpoints) e.id.slot = static_cast<std::uint16_t>(100 - e.id.slot);
  bench a(fleet_of(5, policy::consistent_hash)), b(other);
  for (int i = 0; i < 100; ++i) {
    request_facts f = request_of({});
    f.affinity = std::to_string(i);
    CHECK(a.first(f) == 100 - b.first(f));
  }
}

TEST_CASE("router: new conversations under one system prompt spread by their telling block") {
  bench b(fleet_of(8));
  const prefix_chain system = chain_of(1, 16);
  for (std::uint64_t i = 0; i < 8; ++i)
    b.serve_at(static_cast<std::uint16_t>(i), request_of(chain_of(i + 2, 2, system)));
  std::vector<int> times(8);
  for (std::uint64_t i = 0; i < 400; ++i) {
    const request_facts f = request_of(chain_of(1000 + i, 2, system));
    const plan p = b.decide(f);
    CHECK(p.telling_index == 16);
    CHECK(p.why == choice::hash_tie);
    ++times[p.candidates[0].endpoint.slot];
  }
  for (const int n : times) CHECK(n > 20);
}
