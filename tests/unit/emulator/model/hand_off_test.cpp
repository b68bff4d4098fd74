// Prefill for others and decode of others' prefill, in the scheduler.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "emulator/model/engine_model.hpp"
#include "emulator/model/text.hpp"

using namespace penstock;
using namespace penstock::emulator;
using namespace std::chrono_literals;

namespace {

instant us(double t) { return instant(duration(static_cast<std::int64_t>(t * 1000))); }

// 1 ms an iteration, 10 us a prompt token, 100 us a decoding sequence; 10 blocks.
engine_settings small() {
  engine_settings s;
  s.fixed_us = 1000;
  s.prefill_us = 10;
  s.decode_us = 100;
  s.kv_tokens = 160;
  return s;
}

sequence prefill(std::uint64_t id, std::uint32_t prompt) {
  sequence s{id, prompt, 1, {}};
  s.keep_kv = true;
  return s;
}

sequence decode(std::uint64_t id, std::uint32_t prompt, std::uint32_t output) {
  sequence s{id, prompt, output, {}};
  s.load_kv = true;
  return s;
}

std::vector<engine_event> run(engine_model& m) {
  std::vector<engine_event> events;
  while (m.next_time() != never) m.advance(m.next_time(), events);
  return events;
}

const engine_event* find(const std::vector<engine_event>& all, std::uint64_t id, engine_event_kind kind) {
  const auto e =
      std::find_if(all.begin(), all.end(), [&](auto& x) { return x.sequence == id && x.kind == kind; });
  return e == all.end() ? nullptr : &*e;
}

}  // namespace

TEST_CASE("a prefill for others leaves its blocks pinned") {
  engine_model m(small());
  REQUIRE(m.submit(prefill(1, 40), us(0)));
  const auto events = run(m);
  REQUIRE(find(events, 1, engine_event_kind::finished) != nullptr);
  CHECK(m.pinned(1).size() == 3);  // the last one is not full
  CHECK(m.counters().kv_blocks_used == 3);
  CHECK(m.counters().kv_blocks_pinned == 3);
  CHECK(m.unpin(1, us(5000)));
  CHECK_FALSE(m.unpin(1, us(5000)));
  CHECK(m.pinned(1).empty());
  CHECK(m.counters().kv_blocks_used == 0);
  CHECK(m.counters().kv_blocks_pinned == 0);
}

TEST_CASE("a cancelled prefill pins nothing") {
  engine_model m(small());
  REQUIRE(m.submit(prefill(1, 40), us(0)));
  std::vector<engine_event> events;
  m.advance(us(100), events);
  CHECK(m.cancel(1, us(100)));
  run(m);
  CHECK(m.counters().kv_blocks_used == 0);
}

TEST_CASE("pinned blocks keep others out until they are given back") {
  engine_model m(small());
  REQUIRE(m.submit(prefill(1, 96), us(0)));  // 6 of 10 blocks
  run(m);
  REQUIRE(m.submit({2, 80, 1, {}}, us(10000)));  // needs 5
  auto events = run(m);
  CHECK(find(events, 2, engine_event_kind::started) == nullptr);
  CHECK(m.counters().waiting == 1);
  CHECK(m.next_time() == never);  // nothing to do but wait
  m.unpin(1, us(20000));
  CHECK(m.next_time() == us(20000));
  events = run(m);
  REQUIRE(find(events, 2, engine_event_kind::started) != nullptr);
  CHECK(find(events, 2, engine_event_kind::started)->at == us(20000));
}

TEST_CASE("a decode of another's prefill computes its last prompt token alone") {
  engine_model m(small());
  REQUIRE(m.submit(decode(1, 40, 3), us(0)));
  auto events = run(m);
  const engine_event* load = find(events, 1, engine_event_kind::load);
  REQUIRE(load != nullptr);
  CHECK(load->tokens == 40);
  CHECK(find(events, 1, engine_event_kind::started)->cached == 0);
  CHECK(m.counters().kv_blocks_used == 3);  // it has its blocks
  CHECK(m.counters().loading == 1);
  CHECK(m.counters().waiting == 1);
  CHECK(m.counters().running == 0);
  REQUIRE(m.kv_loaded(1, 3, {}, us(7000)));
  events = run(m);
  REQUIRE(find(events, 1, engine_event_kind::first_token) != nullptr);
  CHECK(find(events, 1, engine_event_kind::first_token)->at == us(7000 + 1000 + 10));
  CHECK(find(events, 1, engine_event_kind::finished)->tokens == 3);
  CHECK(m.counters().computed_tokens == 1);
  CHECK(m.counters().loaded_tokens == 40);
  CHECK(m.counters().kv_blocks_used == 0);
}

TEST_CASE("what was loaded is cached afterwards, and what is cached is not loaded") {
  engine_model m(small());
  sequence s = decode(1, 40, 1);
  s.names = {11, 12};
  REQUIRE(m.submit(s, us(0)));
  run(m);
  REQUIRE(m.kv_loaded(1, 1, {11, 12}, us(5000)));
  run(m);
  s.id = 2;
  REQUIRE(m.submit(s, us(10000)));
  const auto events = run(m);
  REQUIRE(find(events, 2, engine_event_kind::load) != nullptr);
  CHECK(find(events, 2, engine_event_kind::load)->tokens == 8);
  CHECK(find(events, 2, engine_event_kind::load)->cached == 32);
}

TEST_CASE("others run while KV is loaded; KV that is lost is computed") {
  engine_model m(small());
  REQUIRE(m.submit(decode(1, 40, 1), us(0)));
  REQUIRE(m.submit({2, 16, 4, {}}, us(0)));
  auto events = run(m);
  CHECK(find(events, 2, engine_event_kind::finished) != nullptr);
  CHECK(find(events, 1, engine_event_kind::first_token) == nullptr);
  CHECK_FALSE(m.kv_lost(2, us(9000)));
  REQUIRE(m.kv_lost(1, us(9000)));
  events = run(m);
  REQUIRE(find(events, 1, engine_event_kind::first_token) != nullptr);
  CHECK(find(events, 1, engine_event_kind::first_token)->at == us(9000 + 1000 + 400));
  CHECK(m.counters().loaded_tokens == 0);
}

TEST_CASE("cancelling a load lets those in that waited for its memory") {
  engine_model m(small());
  REQUIRE(m.submit(decode(1, 128, 1), us(0)));  // 8 of 10 blocks
  run(m);
  REQUIRE(m.submit({2, 64, 1, {}}, us(1000)));
  CHECK(find(run(m), 2, engine_event_kind::started) == nullptr);
  CHECK(m.cancel(1, us(2000)));
  CHECK(m.counters().loading == 0);
  const auto events = run(m);
  REQUIRE(find(events, 2, engine_event_kind::started) != nullptr);
  CHECK(find(events, 2, engine_event_kind::started)->at == us(2000));
  CHECK_FALSE(m.kv_loaded(1, 1, {}, us(9000)));
}

TEST_CASE("a sequence that pinned blocks crowd out waits for them without spinning") {
  engine_settings s = small();
  s.fixed_us = s.prefill_us = s.decode_us = 0;
  engine_model m(s);
  REQUIRE(m.submit(prefill(1, 96), us(0)));
  REQUIRE(m.submit({2, 64, 40, {}}, us(0)));  // 4 blocks, and a fifth for its answer
  std::vector<engine_event> events;
  m.advance(us(1), events);
  CHECK(m.counters().preemptions == 1);
  CHECK(m.next_time() == never);
  m.unpin(1, us(5));
  events = run(m);
  CHECK(find(events, 2, engine_event_kind::finished) != nullptr);
}

TEST_CASE("loads and pins die with the process") {
  engine_model m(small());
  REQUIRE(m.submit(prefill(1, 32), us(0)));
  run(m);
  REQUIRE(m.submit(decode(2, 32, 1), us(5000)));
  run(m);
  CHECK(m.restart() == std::vector<std::uint64_t>{2});
  CHECK(m.counters().kv_blocks_used == 0);
  CHECK(m.counters().loading == 0);
  CHECK(m.pinned(1).empty());
}

TEST_CASE("foreign KV gives other text from the first word on, the same each time") {
  std::vector<token_id> prompt;
  append_tokens(prompt, "one two three four");
  answer_request wanted;
  wanted.max_tokens = 8;
  const answer right = make_answer(prompt, wanted);
  for (std::uint64_t foreign = 1; foreign < 500; ++foreign) {
    wanted.foreign_kv = foreign;
    const answer a = make_answer(prompt, wanted);
    CHECK(a.piece(0) != right.piece(0));
    CHECK(make_answer(prompt, wanted).text == a.text);
  }
  CHECK(content_of(prompt, 1) != content_of(prompt, 2));
  CHECK(content_of(prompt, 1) != 0);
}
