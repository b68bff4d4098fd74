// Iterations, chunked prefill, prefix cache, preemption.
#include "emulator/model/engine_model.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "penstock/random.hpp"

using namespace penstock;
using namespace penstock::emulator;

namespace {

instant us(double t) { return instant(duration(static_cast<std::int64_t>(t * 1000))); }

engine_settings round_costs() {
  engine_settings s;
  s.fixed_us = 1000;
  s.prefill_us = 10;
  s.decode_us = 100;
  s.kv_tokens = 16 * 1024;
  return s;
}

// Names of `tokens` / 16 whole blocks of a prompt that shares its first `shared` blocks with all others of
// the same family.
std::vector<std::uint64_t> names(std::uint32_t tokens, std::uint64_t own, std::uint32_t shared = 0) {
  std::vector<std::uint64_t> n;
  for (std::uint32_t i = 0; i < tokens / 16; ++i) n.push_back(i < shared ? 1000 + i : own * 100000 + i);
  return n;
}

sequence seq(std::uint64_t id, std::uint32_t prompt, std::uint32_t output,
             std::vector<std::uint64_t> n = {}) {
  return {id, prompt, output, std::move(n)};
}

std::vector<engine_event> run(engine_model& m) {
  std::vector<engine_event> events;
  while (m.next_time() != never) m.advance(m.next_time(), events);
  return events;
}

std::vector<engine_event> of(const std::vector<engine_event>& all, std::uint64_t id, engine_event_kind kind) {
  std::vector<engine_event> some;
  std::copy_if(all.begin(), all.end(), std::back_inserter(some),
               [&](auto& e) { return e.sequence == id && e.kind == kind; });
  return some;
}

std::uint32_t cached(const std::vector<engine_event>& all, std::uint64_t id) {
  return of(all, id, engine_event_kind::started).at(0).cached;
}

}  // namespace

TEST_CASE("times of one sequence follow the formula") {
  engine_model m(round_costs());
  REQUIRE(m.submit(seq(1, 100, 3), us(500)));
  CHECK(m.next_time() == us(500));
  const auto events = run(m);
  // 500 + (1000 + 100 x 10), then 1000 + 100 for each further token.
  CHECK(of(events, 1, engine_event_kind::first_token).at(0).at == us(2500));
  const auto tokens = of(events, 1, engine_event_kind::token);
  REQUIRE(tokens.size() == 2);
  CHECK(tokens[0].at == us(3600));
  CHECK(tokens[1].at == us(4700));
  CHECK(tokens[1].tokens == 3);
  CHECK(of(events, 1, engine_event_kind::finished).at(0).at == us(4700));
  CHECK(m.next_time() == never);
  CHECK(m.counters().kv_blocks_used == 0);
}

TEST_CASE("a class gives its published step time, speed divides it") {
  const engine_class* c = find_engine_class("llama-3.3-70b-instruct/H100/tp4");
  REQUIRE(c != nullptr);
  engine_settings s = engine_settings::of(*c);
  s.speed = 2;
  engine_model m(s);
  REQUIRE(m.submit(seq(1, 1000, 1), us(0)));
  CHECK(of(run(m), 1, engine_event_kind::first_token).at(0).at == us((12601.3 + 1000 * 76.42) / 2));
  CHECK(c->kv_tokens == 128273 * 16);
  CHECK(find_engine_class("llama-3.3-70b/H100/tp4") == nullptr);
  CHECK(unknown_class_message("llama-3.3-70b/H100/tp4")
            .find("did you mean \"llama-3.3-70b-instruct/H100/tp4\"") != std::string::npos);
}

TEST_CASE("a long prompt is computed in chunks while others decode") {
  engine_settings s = round_costs();
  s.max_batched_tokens = 512;
  engine_model m(s);
  std::vector<engine_event> events;
  REQUIRE(m.submit(seq(1, 16, 100), us(0)));
  m.advance(us(1160), events);  // prefill of 1 is done, it decodes
  REQUIRE(m.submit(seq(2, 1200, 1), us(1160)));
  const auto rest = run(m);
  // 2 gets 511 + 511 + 178 tokens beside the one of 1, from the iteration after the one under way.
  const double start = 1160 + 1100;
  const double end = start + 3 * (1000 + 100) + 1200 * 10;
  CHECK(of(rest, 2, engine_event_kind::first_token).at(0).at == us(end));
  const auto beside = of(rest, 1, engine_event_kind::token);
  CHECK(beside.at(0).at == us(start));
  CHECK(beside.at(1).at == us(start + 1100 + 5110));
  CHECK(beside.at(2).at == us(start + 2 * (1100 + 5110)));
}

TEST_CASE("cached tokens: whole blocks, and never the last token") {
  struct {
    std::uint32_t tokens, cached;
  } cases[] = {{361, 352}, {352, 336}, {353, 352}, {16, 0}, {17, 16}, {15, 0}, {1, 0}};
  for (const auto& c : cases) {
    CAPTURE(c.tokens);
    engine_model m(round_costs());
    REQUIRE(m.submit(seq(1, c.tokens, 2, names(c.tokens, 1)), us(0)));
    CHECK(cached(run(m), 1) == 0);
    REQUIRE(m.submit(seq(2, c.tokens, 2, names(c.tokens, 1)), us(1e6)));
    CHECK(cached(run(m), 2) == c.cached);
    CHECK(m.counters().prefix_queries == 2 * c.tokens);
    CHECK(m.counters().prefix_hits == c.cached);
  }
}

TEST_CASE("a shared head is a hit, other names are not, and a hit shortens the prefill") {
  engine_model m(round_costs());
  REQUIRE(m.submit(seq(1, 320, 1, names(320, 1, 10)), us(0)));
  run(m);
  REQUIRE(m.submit(seq(2, 320, 1, names(320, 2, 10)), us(1e6)));
  const auto events = run(m);
  CHECK(cached(events, 2) == 160);
  CHECK(of(events, 2, engine_event_kind::first_token).at(0).at == us(1e6 + 1000 + 160 * 10));
  REQUIRE(m.submit(seq(3, 320, 1, names(320, 3)), us(2e6)));
  CHECK(cached(run(m), 3) == 0);
}

TEST_CASE("sequences of one iteration share what the first of them computes") {
  engine_model m(round_costs());
  REQUIRE(m.submit(seq(1, 160, 4, names(160, 1)), us(0)));
  REQUIRE(m.submit(seq(2, 160, 4, names(160, 1)), us(0)));
  std::vector<engine_event> events;
  m.advance(us(0), events);
  CHECK(m.counters().kv_blocks_used == 10 + 1);  // nine shared, the last block twice
  const auto rest = run(m);
  events.insert(events.end(), rest.begin(), rest.end());
  CHECK(cached(events, 2) == 144);
}

TEST_CASE("generated blocks that have names are found by the next turn") {
  engine_model m(round_costs());
  REQUIRE(m.submit(seq(1, 20, 45, names(64, 1)), us(0)));  // KV of 64 tokens is stored: 4 blocks
  run(m);
  REQUIRE(m.submit(seq(2, 100, 1, names(100, 1)), us(1e6)));
  CHECK(cached(run(m), 2) == 64);
}

TEST_CASE("the cache forgets the longest unused prefix, and its tail first") {
  engine_settings s = round_costs();
  s.kv_tokens = 16 * 20;
  engine_model m(s);
  REQUIRE(m.submit(seq(1, 128, 1, names(128, 1)), us(0)));  // 8 blocks
  run(m);
  REQUIRE(m.submit(seq(2, 128, 1, names(128, 2)), us(1e6)));
  run(m);
  REQUIRE(m.submit(seq(3, 128, 1, names(128, 3)), us(2e6)));  // 4 free blocks, 4 of the tail of 1
  run(m);
  REQUIRE(m.submit(seq(4, 128, 1, names(128, 1)), us(3e6)));
  CHECK(cached(run(m), 4) == 64);
}

TEST_CASE("KV memory is full: the youngest is preempted, computed again, and nothing is lost") {
  engine_settings s = round_costs();
  s.kv_tokens = 16 * 8;
  engine_model m(s);
  REQUIRE(m.submit(seq(1, 48, 40), us(0)));
  REQUIRE(m.submit(seq(2, 48, 40), us(0)));
  const auto events = run(m);
  const auto out = of(events, 2, engine_event_kind::preempted);
  REQUIRE(!out.empty());
  CHECK(of(events, 1, engine_event_kind::preempted).empty());
  CHECK(m.counters().preemptions == out.size());
  for (const std::uint64_t id : {1, 2}) {
    auto tokens = of(events, id, engine_event_kind::token);
    REQUIRE(tokens.size() == 39);
    for (std::uint32_t i = 0; i < tokens.size(); ++i) CHECK(tokens[i].tokens == i + 2);
    CHECK(of(events, id, engine_event_kind::finished).size() == 1);
  }
  CHECK(m.counters().kv_blocks_used == 0);
  CHECK(m.counters().computed_tokens > 96);  // the recomputation
}

TEST_CASE("first come, first served, up to max_num_seqs") {
  engine_settings s = round_costs();
  s.max_num_seqs = 2;
  engine_model m(s);
  for (std::uint64_t id = 1; id <= 4; ++id) REQUIRE(m.submit(seq(id, 16, 5), us(0)));
  std::vector<engine_event> events;
  m.advance(us(0), events);
  CHECK(m.counters().running == 2);
  CHECK(m.counters().waiting == 2);
  const auto rest = run(m);
  events.insert(events.end(), rest.begin(), rest.end());
  CHECK(of(events, 2, engine_event_kind::finished).at(0).at <=
        of(events, 3, engine_event_kind::started).at(0).at);
}

TEST_CASE("cancelled sequences leave at once, in every state") {
  engine_settings s = round_costs();
  s.max_num_seqs = 1;
  engine_model m(s);
  REQUIRE(m.submit(seq(1, 64, 100), us(0)));
  REQUIRE(m.submit(seq(2, 64, 2), us(0)));
  std::vector<engine_event> events;
  m.advance(us(5000), events);
  CHECK(m.counters().running == 1);
  CHECK(m.cancel(1));
  CHECK_FALSE(m.cancel(1));
  CHECK(m.counters().running == 0);
  CHECK(m.counters().kv_blocks_used == 0);
  CHECK(m.cancel(2));
  CHECK(m.counters().waiting == 0);
  events = run(m);
  CHECK(events.empty());
  CHECK(m.counters().cancelled == 2);
  REQUIRE(m.submit(seq(1, 64, 1), us(9e6)));  // the id is free again
  CHECK(of(run(m), 1, engine_event_kind::finished).size() == 1);
}

TEST_CASE("what cannot be served is refused or cut, never stuck") {
  engine_settings s = round_costs();
  s.kv_tokens = 16 * 4;
  engine_model m(s);
  CHECK_FALSE(m.submit(seq(1, 0, 1), us(0)));
  CHECK_FALSE(m.submit(seq(1, 65, 1), us(0)));
  REQUIRE(m.submit(seq(1, 60, 1000), us(0)));
  CHECK_FALSE(m.submit(seq(1, 4, 1), us(0)));  // the id is taken
  CHECK(of(run(m), 1, engine_event_kind::finished).at(0).tokens == 5);
  REQUIRE(m.submit(seq(2, 64, 0), us(1e6)));  // prefill alone
  const auto events = run(m);
  CHECK(of(events, 2, engine_event_kind::finished).at(0).tokens == 0);
  CHECK(of(events, 2, engine_event_kind::first_token).empty());
}

TEST_CASE("a limit of iterations leaves the rest for the next call") {
  engine_model m(round_costs());
  REQUIRE(m.submit(seq(1, 16, 10), us(0)));
  std::vector<engine_event> events;
  m.advance(us(1e6), events, 3);
  CHECK(of(events, 1, engine_event_kind::token).size() == 2);
  CHECK(m.next_time() <= us(1e6));
  m.advance(us(1e6), events);
  CHECK(of(events, 1, engine_event_kind::finished).size() == 1);
}

TEST_CASE("stall and restart") {
  engine_model m(round_costs());
  REQUIRE(m.submit(seq(1, 16, 3, names(16, 1)), us(0)));
  std::vector<engine_event> events;
  m.advance(us(100), events);
  m.stall(us(50000));
  CHECK(m.next_time() == us(50000));
  m.advance(us(50000), events);
  CHECK(of(events, 1, engine_event_kind::first_token).at(0).at == us(50000));
  CHECK(m.restart() == std::vector<std::uint64_t>{1});
  CHECK(m.next_time() == never);
  CHECK(m.counters().prefix_queries == 0);
  REQUIRE(m.submit(seq(2, 32, 1, names(32, 1)), us(1e6)));
  CHECK(cached(run(m), 2) == 0);
}

namespace {

// A random load on a small engine; every event in order.
std::vector<engine_event> history(std::uint64_t seed) {
  prng random(seed);
  engine_settings s = round_costs();
  s.kv_tokens = 16 * 100;
  s.max_num_seqs = 8;
  s.max_batched_tokens = 256;
  engine_model m(s);
  std::vector<engine_event> events;
  double at = 0;
  for (std::uint64_t id = 1; id <= 400; ++id) {
    at += static_cast<double>(random.below(4000));
    m.advance(us(at), events);
    const auto prompt = static_cast<std::uint32_t>(1 + random.below(600));
    const auto shared = static_cast<std::uint32_t>(random.below(20));
    REQUIRE(m.submit(
        seq(id, prompt, static_cast<std::uint32_t>(random.below(60)), names(prompt + 60, id, shared)),
        us(at)));
    if (random.below(10) == 0) m.cancel(1 + random.below(id));
    const engine_counters c = m.counters();
    REQUIRE(c.kv_blocks_used <= c.kv_blocks);
    REQUIRE(c.running <= 8);
  }
  const auto rest = run(m);
  events.insert(events.end(), rest.begin(), rest.end());
  const engine_counters c = m.counters();
  CHECK(c.kv_blocks_used == 0);
  CHECK(c.running + c.waiting == 0);
  CHECK(c.finished + c.cancelled == 400);
  return events;
}

}  // namespace

TEST_CASE("random loads: all end, memory is given back, and a seed gives the same events twice") {
  std::uint64_t preempted = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    const auto once = history(seed), twice = history(seed);
    REQUIRE(once.size() == twice.size());
    for (std::size_t i = 0; i < once.size(); ++i) {
      REQUIRE(once[i].at == twice[i].at);
      REQUIRE(once[i].sequence == twice[i].sequence);
      REQUIRE(once[i].kind == twice[i].kind);
    }
    std::map<std::uint64_t, std::uint32_t> last;
    for (const engine_event& e : once) {
      if (e.kind == engine_event_kind::preempted) ++preempted;
      if (e.kind != engine_event_kind::token && e.kind != engine_event_kind::first_token) continue;
      REQUIRE(e.tokens == ++last[e.sequence]);
    }
    REQUIRE(std::is_sorted(once.begin(), once.end(), [](auto& a, auto& b) { return a.at < b.at; }));
  }
  CHECK(preempted > 0);
}

TEST_CASE("imported tokens take memory and no work, and can be found afterwards") {
  engine_model m(round_costs());
  sequence s = seq(1, 1000, 2, names(1000, 1));
  s.imported_tokens = 500;  // 31 whole blocks
  REQUIRE(m.submit(std::move(s), us(0)));
  std::vector<engine_event> all = run(m);
  CHECK(cached(all, 1) == 496);
  CHECK(of(all, 1, engine_event_kind::first_token).at(0).at == us(1000 + 10 * (1000 - 496)));
  REQUIRE(m.submit(seq(2, 1000, 1, names(1000, 1)), us(1e6)));
  all = run(m);
  CHECK(cached(all, 2) == 992);
  CHECK(m.counters().kv_blocks_used == 0);

  // The last token is computed, whatever came with the prompt.
  sequence whole = seq(3, 64, 1);
  whole.imported_tokens = 64;
  REQUIRE(m.submit(std::move(whole), us(2e6)));
  CHECK(cached(run(m), 3) == 48);
}
