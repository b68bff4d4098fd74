// KV blocks: names, reference counts, order of reuse.
#include "emulator/model/block_pool.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <list>
#include <map>
#include <vector>

#include "penstock/random.hpp"

using namespace penstock::emulator;

TEST_CASE("a block is found by its name until its memory is needed, longest unused first") {
  block_pool pool(3);
  std::vector<block_id> blocks;
  for (std::uint64_t name = 1; name <= 3; ++name) {
    blocks.push_back(pool.allocate());
    pool.give_name(blocks.back(), name);
  }
  CHECK(pool.allocate() == no_block);
  for (const std::size_t i : {2, 0, 1}) pool.release(blocks[i]);
  CHECK(pool.available() == 3);
  CHECK(pool.find(1) == blocks[0]);

  CHECK(pool.allocate() == blocks[2]);
  CHECK(pool.find(3) == no_block);
  pool.acquire(pool.find(1));  // a hit takes it out of the order
  CHECK(pool.allocate() == blocks[1]);
  CHECK(pool.find(2) == no_block);
  CHECK(pool.find(1) == blocks[0]);
  CHECK(pool.used() == 3);
}

TEST_CASE("two blocks of one name: the other still serves when one is reused") {
  block_pool pool(2);
  const block_id a = pool.allocate(), b = pool.allocate();
  pool.give_name(a, 7);
  pool.give_name(b, 7);
  CHECK(pool.find(7) == a);
  pool.release(a);
  pool.release(b);
  CHECK(pool.allocate() == a);
  CHECK(pool.find(7) == b);
  CHECK(pool.allocate() == b);
  CHECK(pool.find(7) == no_block);
}

TEST_CASE("a block without a name is reused before any that may still serve") {
  block_pool pool(3);
  const block_id named = pool.allocate(), one = pool.allocate(), two = pool.allocate();
  pool.give_name(named, 7);
  for (const block_id id : {named, one, two}) pool.release(id);
  CHECK(pool.allocate() == two);
  CHECK(pool.allocate() == one);
  CHECK(pool.find(7) == named);
  CHECK(pool.allocate() == named);
  CHECK(pool.find(7) == no_block);
}

TEST_CASE("forgotten names are gone, references are not") {
  block_pool pool(4);
  const block_id a = pool.allocate();
  pool.give_name(a, 5);
  pool.forget_names();
  CHECK(pool.find(5) == no_block);
  CHECK(pool.used() == 1);
  pool.give_name(a, 6);
  CHECK(pool.find(6) == a);
}

// The obvious implementation: a list in order of reuse and a map of names.
TEST_CASE("random histories agree with a slow model") {
  constexpr std::uint32_t capacity = 40;
  penstock::prng random(11);
  block_pool pool(capacity);
  std::list<block_id> idle;  // longest unused first
  std::map<block_id, std::uint64_t> names;
  std::vector<block_id> held;
  std::uint32_t fresh = capacity;
  for (int step = 0; step < 50000; ++step) {
    const std::uint64_t name = 1 + random.below(60);
    if (random.below(2) == 0 && !held.empty()) {
      const std::size_t i = random.below(held.size());
      pool.release(held[i]);
      if (std::count(held.begin(), held.end(), held[i]) == 1) {
        if (names.count(held[i]) > 0) {
          idle.push_back(held[i]);
        } else {
          idle.push_front(held[i]);
        }
      }
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
      continue;
    }
    const block_id found = pool.find(name);
    const bool known = std::any_of(names.begin(), names.end(), [&](auto& n) { return n.second == name; });
    REQUIRE((found != no_block) == known);
    if (found != no_block) {
      REQUIRE(names[found] == name);
      pool.acquire(found);
      idle.remove(found);
      held.push_back(found);
      continue;
    }
    const block_id got = pool.allocate();
    REQUIRE((got == no_block) == (fresh == 0 && idle.empty()));
    if (got == no_block) continue;
    if (fresh > 0) {
      --fresh;
    } else {
      REQUIRE(got == idle.front());
      idle.pop_front();
      names.erase(got);
    }
    held.push_back(got);
    if (random.below(8) == 0) continue;
    pool.give_name(got, name);
    names[got] = name;
  }
}
