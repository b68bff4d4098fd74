#include "health/pool_guard.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "penstock/random.hpp"

using namespace penstock;
using namespace penstock::health;
using namespace std::chrono_literals;

namespace {

// u up, s suspect, S starting, d down but accepting, n the same and never up, x refusing, D draining,
// e draining and down.
guard_member member(char c) {
  guard_member m;
  m.proven = c != 'n' && c != 'S';
  m.draining = c == 'D' || c == 'e';
  m.accepts_connections = c != 'x';
  switch (c) {
    case 'u':
    case 'D': m.state = life::up; break;
    case 's': m.state = life::suspect; break;
    case 'S': m.state = life::starting; break;
    default: m.state = life::down;
  }
  return m;
}

std::string guarded(const std::string& pool) {
  std::vector<guard_member> members;
  for (const char c : pool) members.push_back(member(c));
  guard_pool(members);
  std::string out;
  for (const auto& m : members) {
    constexpr char letters[] = {'S', 'u', 's', 'd', 'D'};
    out.push_back(letters[static_cast<std::size_t>(m.effective)]);
  }
  return out;
}

}  // namespace

TEST_CASE("the last endpoint and half of a pool stay in while they accept connections") {
  CHECK(guarded("") == "");
  CHECK(guarded("u") == "u");
  CHECK(guarded("d") == "s");
  CHECK(guarded("x") == "d");
  CHECK(guarded("ud") == "ud");
  CHECK(guarded("dd") == "sd");
  CHECK(guarded("xd") == "ds");
  CHECK(guarded("xx") == "dd");
  CHECK(guarded("udd") == "usd");
  CHECK(guarded("ddd") == "ssd");
  CHECK(guarded("uud") == "uud");
  CHECK(guarded("uuxd") == "uudd");
  CHECK(guarded("uxxd") == "udds");
  CHECK(guarded("uddd") == "usdd");
  CHECK(guarded("ddddd") == "sssdd");
  CHECK(guarded("sddd") == "ssdd");
  CHECK(guarded("Sddd") == "Ssdd");
}

TEST_CASE("draining endpoints are out and no part of the pool that is counted") {
  CHECK(guarded("Dd") == "Ds");
  CHECK(guarded("De") == "DD");
  CHECK(guarded("DDud") == "DDud");
  CHECK(guarded("eu") == "Du");
}

TEST_CASE("who was up before is held before who never was, then who was good last") {
  CHECK(guarded("nd") == "ds");
  CHECK(guarded("nnd") == "sds");
  std::vector<guard_member> members(3, member('d'));
  members[1].last_good = instant{} + 5s;
  members[2].last_good = instant{} + 9s;
  guard_pool(members);
  CHECK(members[0].effective == life::down);
  CHECK(members[1].effective == life::suspect);
  CHECK(members[2].effective == life::suspect);
}

TEST_CASE("roles are guarded one by one") {
  std::vector<guard_member> members(4, member('u'));
  members[2] = members[3] = member('d');
  members[2].role = members[3].role = endpoint_role::decode;
  members[0].role = members[1].role = endpoint_role::prefill;
  guard_pool(members);
  CHECK(members[2].effective == life::suspect);
  CHECK(members[3].effective == life::down);
}

TEST_CASE("whatever the pool: half of it is in, or everybody who accepts is") {
  prng rng{3};
  const std::string letters = "usSdnx";
  for (int round = 0; round < 5000; ++round) {
    std::string pool;
    for (auto n = 1 + rng.below(9); n > 0; --n) pool.push_back(letters[rng.below(letters.size())]);
    const auto after = guarded(pool);
    std::size_t in = 0, held_out = 0;
    for (std::size_t i = 0; i < pool.size(); ++i) {
      if (after[i] != 'd') ++in;
      if (after[i] == 'd' && pool[i] != 'x') ++held_out;
      if (pool[i] == 'u' || pool[i] == 's' || pool[i] == 'S') CHECK(after[i] == pool[i]);
      if (pool[i] == 'x') CHECK(after[i] == 'd');
    }
    CHECK((2 * in >= pool.size() || held_out == 0));
  }
}
