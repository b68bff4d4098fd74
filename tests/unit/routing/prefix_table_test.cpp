#include "routing/prefix_table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "penstock/random.hpp"
#include "unit/routing/fixtures.hpp"

using namespace penstock;
using namespace penstock::routing;
using fixtures::chain_of;

namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

struct held_blocks {
  std::vector<std::uint64_t> keys;
  std::vector<std::uint8_t> units;
};
held_blocks blocks_of(const prefix_chain& c) {
  held_blocks h;
  for (const prefix_block& b : c.blocks) {
    h.keys.push_back(b.key);
    h.units.push_back(block_units(b.tokens));
  }
  return h;
}
void enter(prefix_table& t, endpoint_id id, const prefix_chain& c, block_mark m = block_mark::confirmed,
           std::uint64_t seed = 0) {
  const held_blocks h = blocks_of(c);
  t.enter(id, seed, h.keys, h.units, m);
}
std::uint32_t depth(const prefix_table& t, endpoint_id id, const prefix_chain& c, std::uint64_t seed = 0) {
  std::vector<prefix_probe> p{{id, seed, 77}};
  t.longest(c.blocks, p);
  return p[0].depth;
}

// What an engine would do: one LRU of blocks per endpoint, a prompt's tail evicted before its head.
class exact_lru {
 public:
  explicit exact_lru(std::uint64_t capacity) : capacity_(capacity) {}
  std::uint32_t depth(const prefix_chain& c) const {
    std::uint32_t d = 0;
    while (d < c.blocks.size() && where_.count(c.blocks[d].key) != 0) ++d;
    return d;
  }
  void use(const prefix_chain& c) {
    for (std::size_t i = c.blocks.size(); i-- > 0;) {
      const prefix_block& b = c.blocks[i];
      if (const auto at = where_.find(b.key); at != where_.end()) {
        held_ -= at->second->tokens;
        order_.erase(at->second);
      }
      order_.push_front(b);
      where_[b.key] = order_.begin();
      held_ += b.tokens;
    }
    while (held_ > capacity_) {
      held_ -= order_.back().tokens;
      where_.erase(order_.back().key);
      order_.pop_back();
    }
  }

 private:
  std::uint64_t capacity_, held_ = 0;
  std::list<prefix_block> order_;
  std::map<std::uint64_t, std::list<prefix_block>::iterator> where_;
};

}  // namespace

TEST_CASE("prefix table: depths of unequal endpoints, in any order of probes") {
  prefix_table t(64 * mib);  // sparse, so that no word is lost
  const prefix_chain c = chain_of(1, 400);
  std::vector<prefix_probe> probes;
  prng rng(3);
  std::vector<std::uint32_t> expected;
  for (std::uint16_t s = 0; s < 300; ++s) {
    const endpoint_id id{s, 0};
    t.adopt(id, 1 << 24, 0);
    prefix_chain part = c;
    part.blocks.resize(s % 7 == 0 ? 0 : rng.below(401));
    enter(t, id, part);
    probes.push_back({id, 0, 0});
    expected.push_back(static_cast<std::uint32_t>(part.blocks.size()));
  }
  for (int round = 0; round < 3; ++round) {
    t.longest(c.blocks, probes);
    for (const prefix_probe& p : probes) CHECK(p.depth == expected[p.endpoint.slot]);
    for (std::size_t i = probes.size(); i-- > 1;) std::swap(probes[i], probes[rng.below(i + 1)]);
  }
}

TEST_CASE("prefix table: a block can be held by every one of 128 endpoints") {
  prefix_table t(8 * mib);
  const prefix_chain shared = chain_of(2, 64);
  std::vector<prefix_probe> probes;
  for (std::uint16_t s = 0; s < 128; ++s) {
    t.adopt({s, 1}, 1 << 22, 0);
    enter(t, {s, 1}, shared);
    probes.push_back({{s, 1}, 0, 0});
  }
  t.longest(shared.blocks, probes);
  std::size_t whole = 0;
  for (const prefix_probe& p : probes) whole += p.depth == 64;
  CHECK(whole == 128);
}

TEST_CASE("prefix table: models with different seeds do not share blocks") {
  prefix_table t(mib);
  t.adopt({3, 0}, 1 << 20, 0);
  const prefix_chain c = chain_of(3, 10);
  enter(t, {3, 0}, c, block_mark::confirmed, 111);
  CHECK(depth(t, {3, 0}, c, 111) == 10);
  CHECK(depth(t, {3, 0}, c, 222) == 0);
}

TEST_CASE("prefix table: pending blocks count, and are withdrawn unless somebody confirmed them") {
  prefix_table t(mib);
  const endpoint_id id{0, 0};
  t.adopt(id, 1 << 20, 0);
  const prefix_chain c = chain_of(4, 20);
  const held_blocks h = blocks_of(c);
  enter(t, id, c, block_mark::pending);
  CHECK(depth(t, id, c) == 20);
  CHECK(t.believed_tokens(id) == 20 * 256);
  t.withdraw(id, 0, h.keys);
  CHECK(depth(t, id, c) == 0);
  CHECK(t.believed_tokens(id) == 0);

  prefix_chain half = c;
  half.blocks.resize(12);
  enter(t, id, half, block_mark::confirmed);
  enter(t, id, c, block_mark::pending);  // must not turn confirmed blocks back
  t.withdraw(id, 0, h.keys);
  CHECK(depth(t, id, c) == 12);
}

TEST_CASE("prefix table: generations, restarts and drops empty a slot at once") {
  prefix_table t(mib);
  const prefix_chain c = chain_of(5, 8);
  const endpoint_id old_id{9, 65535}, new_id{9, 0};
  CHECK(depth(t, old_id, c) == 0);  // nobody's slot
  enter(t, old_id, c);
  CHECK(depth(t, old_id, c) == 0);
  t.adopt(old_id, 1 << 20, 100.0);
  enter(t, old_id, c);
  CHECK(depth(t, old_id, c) == 8);
  t.adopt(old_id, 1 << 20, 100.9);  // the same engine, rounded
  CHECK(depth(t, old_id, c) == 8);
  t.adopt(old_id, 1 << 20, 90.0);  // a stale view
  CHECK(depth(t, old_id, c) == 8);
  t.adopt(old_id, 1 << 20, 500.0);  // started again
  CHECK(depth(t, old_id, c) == 0);
  t.adopt(old_id, 1 << 20, 500.0);
  enter(t, old_id, c);
  CHECK(depth(t, old_id, c) == 8);
  t.adopt(new_id, 1 << 20, 0);
  CHECK(depth(t, new_id, c) == 0);
  CHECK(depth(t, old_id, c) == 0);
  enter(t, old_id, c);  // a late message of the old owner's worker
  t.adopt(old_id, 1 << 20, 900.0);
  CHECK(depth(t, new_id, c) == 0);
  enter(t, new_id, c);
  CHECK(depth(t, new_id, c) == 8);
  t.drop(old_id);
  CHECK(depth(t, new_id, c) == 8);
  t.drop(new_id);
  CHECK(depth(t, new_id, c) == 0);
}

TEST_CASE("prefix table: absurd capacities and start times are harmless") {
  prefix_table t(mib);
  const endpoint_id id{2, 0};
  const prefix_chain c = chain_of(6, 30);
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const std::uint64_t capacity : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1000000000000000000},
                                       std::numeric_limits<std::uint64_t>::max()}) {
    for (const double start : {nan, inf, -inf, -5.0, 1e300}) t.adopt(id, capacity, start);
    enter(t, id, c);
    const bool tiny = capacity == 1;
    CHECK(depth(t, id, c) <= 30);
    if (!tiny) CHECK(depth(t, id, c) == 30);
  }
  t.crowd(id, std::numeric_limits<std::uint64_t>::max());
  CHECK(depth(t, id, c) <= 30);
  t.adopt({0xffff, 0}, 5, 5);
  enter(t, {0xffff, 0}, c);
  CHECK(depth(t, {0xffff, 0}, c) == 0);
}

TEST_CASE("prefix table: generated tokens push old blocks out") {
  prefix_table t(mib);
  const endpoint_id id{2, 0};
  t.adopt(id, 40 * 256, 0);
  const prefix_chain c = chain_of(7, 30);
  enter(t, id, c);
  t.crowd(id, 5 * 256);
  CHECK(depth(t, id, c) == 30);
  t.crowd(id, 20 * 256);
  CHECK(depth(t, id, c) < 30);
}

TEST_CASE("prefix table: who leaves takes nothing from those that wait for the same blocks") {
  prefix_table t(mib);
  const endpoint_id id{0, 0};
  t.adopt(id, 1 << 20, 0);
  const prefix_chain c = chain_of(8, 10);
  const held_blocks h = blocks_of(c);
  enter(t, id, c, block_mark::pending);
  enter(t, id, c, block_mark::pending);
  t.withdraw(id, 0, h.keys);
  CHECK(depth(t, id, c) == 10);
  t.withdraw(id, 0, h.keys);
  CHECK(depth(t, id, c) == 0);
  enter(t, id, c, block_mark::pending);
  enter(t, id, c, block_mark::pending);
  t.confirm(id, 0, h.keys, h.units);
  t.withdraw(id, 0, h.keys);
  t.withdraw(id, 0, h.keys);
  CHECK(depth(t, id, c) == 10);
  CHECK_FALSE(t.enter(id, 0, h.keys, h.units, block_mark::pending).evidence.in_flight);
}

TEST_CASE("prefix table: a lost word does not hide what is behind it") {
  prefix_table t(mib);
  const endpoint_id id{0, 0};
  t.adopt(id, 1 << 20, 0);
  const prefix_chain c = chain_of(8, 100);
  enter(t, id, c, block_mark::pending);
  const std::vector<std::uint64_t> lost{c.blocks[0].key, c.blocks[50].key, c.blocks[80].key};
  t.withdraw(id, 0, lost);
  CHECK(depth(t, id, c) == 100);
  const std::vector<std::uint64_t> last{c.blocks[99].key};
  t.withdraw(id, 0, last);
  CHECK(depth(t, id, c) == 99);
}

TEST_CASE("prefix table: empty prompts, repeats of one block, equal keys everywhere") {
  prefix_table t(mib);
  const endpoint_id id{0, 0};
  t.adopt(id, 1 << 20, 0);
  CHECK(depth(t, id, {}) == 0);
  t.enter(id, 0, {}, {}, block_mark::confirmed);
  prefix_chain same;
  same.blocks.assign(5000, {12345, 256});
  enter(t, id, same);
  CHECK(depth(t, id, same) == 5000);
  CHECK(t.believed_tokens(id) == 256);
  for (const std::uint64_t key : {std::uint64_t{0}, ~std::uint64_t{0}}) {
    prefix_chain edge;
    edge.blocks.assign(1, {key, 0});
    CHECK(depth(t, id, edge) == 0);
    enter(t, id, edge);
    CHECK(depth(t, id, edge) == 1);
  }
}

TEST_CASE("prefix table: an over-full table forgets, and keeps what is used") {
  prefix_table t(1);  // the least: 1,024 buckets
  const endpoint_id id{0, 0};
  t.adopt(id, std::uint64_t{1} << 32, 0);
  const prefix_chain hot = chain_of(1000, 8);
  for (std::uint64_t i = 0; i < 2000; ++i) {
    enter(t, id, chain_of(2000 + i, 50));
    if (i % 4 == 0) enter(t, id, hot);
  }
  CHECK(t.buckets() == 1024);
  CHECK(depth(t, id, chain_of(2000, 50)) == 0);
}

// Growing conversations over a shared system prompt, with a few endpoints whose KV is short.
TEST_CASE("prefix table: within 5 % of an exact tail-first LRU") {
  for (const std::uint64_t seed : {1, 2}) {
    for (const std::uint64_t capacity : {20000, 100000, 500000}) {
      prefix_table t(16 * mib);
      prng rng(seed);
      constexpr std::uint16_t endpoints = 4;
      std::vector<exact_lru> exact(endpoints, exact_lru(capacity));
      for (std::uint16_t s = 0; s < endpoints; ++s) t.adopt({s, 0}, capacity, 0);
      std::vector<prefix_chain> conversations;
      for (std::uint64_t i = 0; i < 150; ++i)
        conversations.push_back(chain_of(i + 10, 2, chain_of(rng.below(3), 12)));
      double believed = 0, held = 0, wrong = 0;
      std::uint64_t most = 0;
      for (int turn = 0; turn < 3000; ++turn) {
        // A few conversations are busy, most are seldom.
        const std::size_t n = conversations.size();
        prefix_chain& c = conversations[rng.below(1 + rng.below(n))];
        if (c.blocks.size() > 60 || rng.below(40) == 0)
          c = chain_of(rng.next(), 2, chain_of(rng.below(3), 12));
        c = chain_of(rng.next(), 1 + rng.below(3), c);
        const auto s = static_cast<std::uint16_t>(rng.below(endpoints));
        const std::uint32_t truth = exact[s].depth(c), guess = depth(t, {s, 0}, c);
        if (turn > 500) {
          believed += guess;
          held += truth;
          wrong += std::abs(static_cast<double>(guess) - static_cast<double>(truth));
        }
        exact[s].use(c);
        enter(t, {s, 0}, c);
        most = std::max(most, t.believed_tokens({s, 0}));
      }
      INFO("seed ", seed, " capacity ", capacity, " held ", held, " believed ", believed, " wrong ", wrong);
      CHECK(held > 0);
      CHECK(std::abs(believed - held) <= 0.05 * held);
      CHECK(wrong <= 0.05 * held);
      CHECK(most <= capacity + capacity / 20 + 512);
    }
  }
}

// Agents: sessions over a shared prompt whose context grows by answer and input at every turn. The engine
// keeps the blocks of answers too and finds them in the next turn's prompt.
TEST_CASE("prefix table: agents' answers are counted once, within 5 % of an exact LRU") {
  for (const std::uint64_t capacity : {200000, 600000}) {
    prefix_table t(16 * mib);
    prng rng(capacity);
    const endpoint_id id{0, 0};
    t.adopt(id, capacity, 0);
    exact_lru exact(capacity);
    struct session {
      prefix_chain prompt;
      std::size_t turns = 0;
    };
    std::vector<session> sessions(40);
    double believed = 0, held = 0, wrong = 0;
    for (int turn = 0; turn < 6000; ++turn) {
      session& s = sessions[rng.below(1 + rng.below(sessions.size()))];
      if (s.turns == 0) s.prompt = chain_of(rng.next(), 4, chain_of(rng.below(2), 20));
      s.prompt = chain_of(rng.next(), 1 + rng.below(6), s.prompt);
      const std::uint32_t truth = exact.depth(s.prompt), guess = depth(t, id, s.prompt);
      if (turn > 1500) {
        believed += guess;
        held += truth;
        wrong += std::abs(static_cast<double>(guess) - static_cast<double>(truth));
      }
      enter(t, id, s.prompt);
      const std::uint64_t last = s.prompt.blocks.back().key;
      const std::size_t answer = 1 + rng.below(4);
      s.prompt = chain_of(rng.next(), answer, s.prompt);
      exact.use(s.prompt);
      t.crowd(id, answer * 256, 0, last);
      s.turns = rng.below(60) == 0 ? 0 : s.turns + 1;
    }
    INFO("capacity ", capacity, " held ", held, " believed ", believed, " wrong ", wrong);
    CHECK(held > 0);
    // The engine finds its own answer in the next prompt, which the table cannot know.
    CHECK(std::abs(believed - held) <= 0.05 * held);
    CHECK(wrong <= 0.05 * held);
  }
}

// What is used again pushes nothing out, however often: a busy agent's context is entered at each turn's
// begin and end, six times the capacity while another session thinks.
TEST_CASE("prefix table: one busy context leaves the others where they are") {
  prefix_table t(16 * mib);
  const endpoint_id id{0, 0};
  t.adopt(id, 60000, 0);
  const prefix_chain thinking = chain_of(1, 60), busy = chain_of(2, 100);
  enter(t, id, thinking);
  for (int i = 0; i < 14; ++i) enter(t, id, busy);
  CHECK(depth(t, id, thinking) == 60);
  CHECK(depth(t, id, busy) == 100);
}

TEST_CASE("prefix table: what other requests took back returns at the first token") {
  prefix_table t(mib);
  const endpoint_id id{1, 0};
  t.adopt(id, 1 << 20, 0);
  const prefix_chain shared = chain_of(20, 10), mine = chain_of(21, 5, shared),
                     other = chain_of(22, 7, shared), third = chain_of(23, 3, shared);
  const held_blocks a = blocks_of(mine), b = blocks_of(other), c = blocks_of(third);
  for (const held_blocks* one : {&a, &b, &c}) t.enter(id, 0, one->keys, one->units, block_mark::pending);
  t.withdraw(id, 0, b.keys);  // its client left
  CHECK(depth(t, id, shared) == 10);
  t.withdraw(id, 0, c.keys);  // a word does not count: two of three are taken for all
  CHECK(depth(t, id, shared) == 0);
  t.confirm(id, 0, a.keys, a.units);
  CHECK(depth(t, id, mine) == 15);
  CHECK(depth(t, id, other) == 10);
  CHECK(t.believed_tokens(id) == 15 * 256);
  t.withdraw(id, 0, a.keys);  // confirmed: nobody can take it back
  CHECK(depth(t, id, mine) == 15);
}

TEST_CASE("prefix table: an entered prompt tells how far back its blocks were used") {
  prefix_table t(mib);
  const endpoint_id id{0, 0};
  t.adopt(id, 1000 * 256, 0);
  const prefix_chain c = chain_of(30, 20);
  const held_blocks h = blocks_of(c);
  CHECK(t.enter(id, 0, h.keys, h.units, block_mark::confirmed).evidence.ghost_blocks == 0);
  for (std::uint64_t i = 0; i < 50; ++i) enter(t, id, chain_of(100 + i, 10));
  const cache_evidence held = t.enter(id, 0, h.keys, h.units, block_mark::confirmed).evidence;
  CHECK(held.held_blocks == 20);
  CHECK(held.ghost_blocks == 20);
  CHECK_FALSE(held.in_flight);
  CHECK(held.held_distance > 480 * 256);
  CHECK(held.held_distance < 540 * 256);
  for (std::uint64_t i = 0; i < 150; ++i) enter(t, id, chain_of(300 + i, 10));
  const cache_evidence gone = t.enter(id, 0, h.keys, h.units, block_mark::pending).evidence;
  CHECK(gone.held_blocks == 0);
  CHECK(gone.ghost_blocks == 20);
  CHECK(gone.ghost_distance > 1450 * 256);
  CHECK(gone.ghost_distance < 1560 * 256);
  CHECK(t.enter(id, 0, h.keys, h.units, block_mark::pending).evidence.in_flight);
}

// An engine that holds a third of what its figures say, twice as much, or has no cache at all.
TEST_CASE("prefix table: cached_tokens correct a wrong capacity and end a vain trust") {
  constexpr std::uint64_t told = 400 * 256;
  for (const double truth : {0.33, 2.0, 0.0}) {
    prefix_table t(4 * mib);
    const endpoint_id id{0, 0};
    t.adopt(id, told, 0);
    exact_lru exact(static_cast<std::uint64_t>(truth * told));
    prng rng(5);
    std::vector<prefix_chain> prompts;
    for (std::uint64_t i = 0; i < 120; ++i) prompts.push_back(chain_of(i + 50, 10));
    double wrong = 0, all = 0;
    for (int i = 0; i < 4000; ++i) {
      const prefix_chain& c = prompts[rng.below(1 + rng.below(prompts.size()))];
      const held_blocks h = blocks_of(c);
      std::vector<prefix_probe> probe{{id, 0, 0}};
      t.longest(c.blocks, probe);
      const double guess = probe[0].depth * probe[0].trust / 100.0, is = exact.depth(c);
      if (i > 2000) wrong += std::abs(guess - is), all += 10;
      const cache_evidence e = t.enter(id, 0, h.keys, h.units, block_mark::confirmed).evidence;
      t.observe(id, {.held_tokens = e.held_blocks * std::uint64_t{256},
                     .ghost_tokens = e.ghost_blocks * std::uint64_t{256},
                     .held_distance = e.held_distance,
                     .ghost_distance = e.ghost_distance,
                     .cached = exact.depth(c) * std::uint64_t{256}});
      exact.use(c);
    }
    INFO("truth ", truth, " wrong ", wrong / all, " capacity ", t.capacity_tokens(id));
    CHECK(wrong / all < 0.05);
    if (truth > 0) CHECK(static_cast<double>(t.capacity_tokens(id)) > 0.8 * truth * told);
  }
}

// One prompt in ten finds nothing, as where an engine looked it up after others had pushed it out: the
// capacity that the engine tells is still right.
TEST_CASE("prefix table: misses that come by chance do not wear the belief down") {
  constexpr std::uint64_t told = 400 * 256;
  prefix_table t(4 * mib);
  const endpoint_id id{0, 0};
  t.adopt(id, told, 0);
  prng rng(6);
  std::vector<prefix_chain> prompts;
  for (std::uint64_t i = 0; i < 120; ++i) prompts.push_back(chain_of(i + 50, 10));
  double least = told;
  for (int i = 0; i < 4000; ++i) {
    const prefix_chain& c = prompts[rng.below(1 + rng.below(prompts.size()))];
    const held_blocks h = blocks_of(c);
    const cache_evidence e = t.enter(id, 0, h.keys, h.units, block_mark::confirmed).evidence;
    t.observe(id, {.held_tokens = e.held_blocks * std::uint64_t{256},
                   .ghost_tokens = e.ghost_blocks * std::uint64_t{256},
                   .held_distance = e.held_distance,
                   .ghost_distance = e.ghost_distance,
                   .cached = rng.unit() < 0.1 ? 0 : e.held_blocks * std::uint64_t{256}});
    least = std::min(least, static_cast<double>(t.capacity_tokens(id)));
  }
  CHECK(least > 0.9 * told);
}

TEST_CASE("prefix table: counters check the belief where answers tell nothing") {
  prefix_table t(mib);
  const endpoint_id id{0, 0};
  t.adopt(id, 1 << 20, 0);
  double hits = 1000, queries = 5000;
  t.check(id, hits, queries);  // the first reading only sets the mark
  for (int i = 0; i < 10; ++i) {
    t.expect(id, 30000, 40000);
    t.check(id, hits += 10000, queries += 40000);
    t.check(id, hits, queries);  // another worker brings the same reading
  }
  CHECK(t.capacity_tokens(id) < (1 << 20));
  CHECK(t.capacity_tokens(id) >= (1 << 18));  // never below a quarter of what the engine tells
  const std::uint64_t low = t.capacity_tokens(id);
  for (int i = 0; i < 4; ++i) {
    t.expect(id, 10000, 40000);
    t.check(id, hits += 30000, queries += 40000);
  }
  CHECK(t.capacity_tokens(id) > low);
  const std::uint64_t before = t.capacity_tokens(id);
  t.expect(id, 40000, 40000);
  t.check(id, hits, queries += 4000000);  // others' traffic says nothing of ours
  const double nan = std::numeric_limits<double>::quiet_NaN();
  t.check(id, nan, nan);
  t.check(id, -1, 1e300);
  t.check(id, 5, 10);  // started again
  CHECK(t.capacity_tokens(id) == before);
  t.adopt(id, 1 << 20, 0, true);  // the configuration's word is final
  for (int i = 0; i < 10; ++i) t.observe(id, {.held_tokens = 9000, .held_distance = 500000, .cached = 0});
  CHECK(t.capacity_tokens(id) == 1 << 20);
}

// Whoever knows the code finds keys that crowd one bucket, but not those of a process with its own placement.
TEST_CASE("prefix table: keys made to crowd one place do so in no other process") {
  const endpoint_id id{0, 0};
  const prefix_chain victim = chain_of(1, 1);
  const auto survives = [&](std::uint64_t placement, const std::vector<std::uint64_t>& keys) {
    prefix_table t(1, 1 << 30, placement);
    t.adopt(id, 0, 0);
    enter(t, id, victim);
    const std::vector<std::uint8_t> units(keys.size(), 16);
    t.enter(id, 0, keys, units, block_mark::confirmed);
    return depth(t, id, victim) == 1;
  };
  prng rng(3);
  std::vector<std::uint64_t> crowd;
  for (int i = 0; i < 20000; ++i) crowd.push_back(rng.next());
  // Bisect the random keys down to few that still push the victim out.
  for (std::size_t part = crowd.size() / 2; part > 0; part /= 2) {
    for (std::size_t at = 0; at + part <= crowd.size();) {
      std::vector<std::uint64_t> fewer(crowd);
      const auto from = fewer.begin() + static_cast<std::ptrdiff_t>(at);
      fewer.erase(from, from + static_cast<std::ptrdiff_t>(part));
      if (survives(0, fewer)) {
        at += part;
      } else {
        crowd = std::move(fewer);
      }
    }
  }
  REQUIRE_FALSE(survives(0, crowd));
  CHECK(crowd.size() <= 8);
  for (std::uint64_t process = 1; process <= 50; ++process)
    CHECK(survives(process * 0x9e3779b97f4a7c15ULL, crowd));
}

TEST_CASE("prefix table: sixteen threads at once") {
  prefix_table t(2 * mib);
  std::vector<prefix_chain> chains;
  for (std::uint64_t i = 0; i < 40; ++i) chains.push_back(chain_of(i, 30, chain_of(i % 3, 5)));
  for (std::uint16_t s = 0; s < 8; ++s) t.adopt({s, 0}, 100000, 1);
  std::vector<std::thread> threads;
  for (std::uint64_t n = 0; n < 16; ++n) {
    threads.emplace_back([&, n] {
      prng rng(n);
      for (int i = 0; i < 300; ++i) {
        const prefix_chain& c = chains[rng.below(chains.size())];
        const endpoint_id id{static_cast<std::uint16_t>(rng.below(8)), 0};
        switch (rng.below(11)) {
          case 8: t.confirm(id, 0, blocks_of(c).keys, blocks_of(c).units); break;
          case 9:
            t.observe(id,
                      {.held_tokens = 4000, .held_distance = rng.below(200000), .cached = rng.below(4000)});
            break;
          case 10:
            t.expect(id, 100, 200);
            t.check(id, i * 1e5, i * 2e5);
            break;
          case 0: t.withdraw(id, 0, blocks_of(c).keys); break;
          case 1: t.crowd(id, rng.below(5000)); break;
          case 2: t.adopt(id, 50000 + rng.below(100000), static_cast<double>(i)); break;
          case 3: enter(t, id, c, block_mark::pending); break;
          case 4: enter(t, id, c); break;
          default: CHECK(depth(t, id, c) <= c.blocks.size());
        }
      }
    });
  }
  for (std::thread& th : threads) th.join();
  // Afterwards one thread finds what it enters.
  t.drop({1, 0});
  enter(t, {1, 0}, chains[0]);
  CHECK(depth(t, {1, 0}, chains[0]) == chains[0].blocks.size());
}
