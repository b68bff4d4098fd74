// The published rules on hand-made fleets, and names on the command line.
#include "rules.hpp"

#include <doctest/doctest.h>

#include <map>
#include <vector>

#include "prefix_lru.hpp"

using namespace penstock;
using namespace penstock::lab;

namespace {

sight engine(std::uint32_t n, double queued, double requests, std::uint64_t hit,
             std::uint64_t prompt = 1000) {
  sight s;
  s.engine = n;
  s.queued = queued;
  s.requests = s.load = requests;
  s.hit = hit;
  s.uncached = prompt - hit;
  return s;
}

std::size_t ask(const char* policy, const std::vector<sight>& engines, std::uint64_t key = 1) {
  std::string error;
  const auto p = parse_policy(policy, error);
  REQUIRE(p);
  prng rng(1);
  question q;
  q.engines = engines;
  q.prompt_tokens = 1000;
  q.user_key = key;
  q.peak_rate = 10000;
  q.parameter = p->parameter;
  return p->chosen->choose(q, rng);
}

prefix_chain chain(std::uint64_t first, std::size_t n) {
  prefix_chain c;
  for (std::size_t i = 0; i < n; ++i) c.blocks.push_back({first + i, 100});
  return c;
}

}  // namespace

TEST_CASE("minimum TTFT and LMetric") {
  // 1500, 1400 and 1600 tokens to go; batches of 1, 9 and 1.
  const std::vector<sight> e{engine(0, 500, 0, 0), engine(1, 1300, 8, 900), engine(2, 600, 0, 0)};
  CHECK(ask("min_ttft", e) == 1);
  CHECK(ask("lmetric", e) == 0);
}

TEST_CASE("sticky stays until the wait is too long, and only where nearly all is held") {
  const std::vector<sight> e{engine(0, 0, 0, 0), engine(1, 40000, 0, 800), engine(2, 0, 0, 700)};
  CHECK(ask("sticky:5", e) == 1);
  CHECK(ask("sticky:3", e) == 2);
  CHECK(ask("sticky:5", {engine(0, 0, 0, 0), engine(1, 4000, 0, 790)}) == 0);
}

TEST_CASE("cache_aware goes by load when it is uneven, else by the match if that is long") {
  CHECK(ask("cache_aware:64", {engine(0, 0, 5, 0), engine(1, 0, 40, 400)}) == 1);
  CHECK(ask("cache_aware:64", {engine(0, 0, 5, 0), engine(1, 0, 40, 300)}) == 0);
  CHECK(ask("cache_aware:64", {engine(0, 0, 5, 0), engine(1, 0, 70, 400)}) == 0);
  CHECK(ask("cache_aware:64", {engine(0, 0, 200, 0), engine(1, 0, 270, 400)}) == 1);
}

TEST_CASE("bounded hashing keeps a key's home while that is within its bound") {
  std::vector<sight> e{engine(0, 0, 4, 0), engine(1, 0, 4, 0), engine(2, 0, 4, 0)};
  std::map<std::size_t, int> homes;
  for (std::uint64_t key = 1; key <= 300; ++key) ++homes[ask("bounded_hash", e, key * 0x9e3779b97f4a7c15ULL)];
  CHECK(homes.size() == 3);
  const std::size_t home = ask("bounded_hash", e, 77);
  CHECK(ask("bounded_hash", e, 77) == home);
  e[home].load = 40;
  CHECK(ask("bounded_hash", e, 77) != home);
}

TEST_CASE("policies are read from their names") {
  std::string error;
  CHECK(parse_policy("prefix", error)->by == brain::router);
  CHECK(parse_policy("session_hash", error)->hash_session);
  CHECK(parse_policy("oracle", error)->by == brain::oracle);
  CHECK(parse_policy("sticky", error)->parameter == 18);
  CHECK(parse_policy("sticky:2.5+ours", error)->parameter == 2.5);
  CHECK(parse_policy("sticky:2.5+ours", error)->ours);
  CHECK(*parse_policy("prefix:lambda=3", error)->lambda == 3);
  for (const char* bad : {"", "prefixx", "sticky:", "sticky:x", "round_robin+ours", "oracle:3", "prefix:3"}) {
    CAPTURE(bad);
    error.clear();
    CHECK_FALSE(parse_policy(bad, error));
    CHECK(error.find("lmetric") != std::string::npos);
  }
}

TEST_CASE("a rule's index forgets the tail of what was used longest ago") {
  prefix_lru index(1000);
  const prefix_chain a = chain(100, 6), b = chain(200, 6);
  index.use(a.blocks);
  index.use(b.blocks);
  CHECK(index.tokens() == 1000);
  CHECK(index.match(b.blocks) == 600);
  CHECK(index.match(a.blocks) == 400);
  index.use(a.blocks);
  CHECK(index.match(a.blocks) == 600);
  CHECK(index.match(b.blocks) == 400);
  index.clear();
  CHECK(index.match(a.blocks) == 0);
}
