#include "routing/endpoint_board.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <thread>
#include <vector>

#include "penstock/random.hpp"
#include "unit/routing/fixtures.hpp"

using namespace penstock;
using namespace penstock::routing;
using fixtures::at_ms;
using std::chrono::milliseconds;

namespace {

booked_work work_of(std::uint64_t prefill, std::uint64_t decode, duration expected = milliseconds(100)) {
  return {prefill, decode, 1, expected};
}
bool idle(const endpoint_load& l) {
  return l.prefill_tokens == 0 && l.decode_tokens == 0 && l.sequences == 0 && l.waiting == 0;
}

}  // namespace

TEST_CASE("board: what waits at the proxy is part of what is booked") {
  auto board = std::make_unique<endpoint_board>();
  const endpoint_id id{7, 3}, next{7, 4};
  REQUIRE(board->book(id, work_of(1000, 0), at_ms(0)));
  board->hold(id, 1000);
  CHECK(board->held_tokens(id) == 1000);
  CHECK(board->held_tokens(next) == 0);
  board->hold(next, 300);
  board->unhold(id, 1000);  // of a generation that is gone
  CHECK(board->held_tokens(next) == 300);
  board->unhold(next, 300);
  CHECK(board->held_tokens(next) == 0);
}

TEST_CASE("board: a request is booked, decodes and is given back") {
  auto board = std::make_unique<endpoint_board>();
  const endpoint_id id{7, 3};
  const booked_work w = work_of(1000, 1200);
  REQUIRE(board->book(id, w, at_ms(500)));
  endpoint_load l = board->read(id);
  CHECK(l.prefill_tokens == 1000);
  CHECK(l.decode_tokens == 0);
  CHECK(l.sequences == 1);
  CHECK(l.waiting == 1);
  CHECK(l.finish == at_ms(600));
  board->begin_decode(id, w);
  l = board->read(id);
  CHECK(l.prefill_tokens == 0);
  CHECK(l.sequences == 1);
  CHECK(l.waiting == 0);
  CHECK(l.decode_tokens == 1200);
  board->release(id, w, true);
  CHECK(idle(board->read(id)));
}

TEST_CASE("board: the finish clock adds up while busy and starts at now when idle") {
  auto board = std::make_unique<endpoint_board>();
  const endpoint_id id{0, 0};
  board->book(id, work_of(100, 100), at_ms(1000));
  board->book(id, work_of(100, 100), at_ms(1000));
  CHECK(board->read(id).finish == at_ms(1200));
  board->unwind(id, milliseconds(100));
  CHECK(board->read(id).finish == at_ms(1100));
  board->book(id, work_of(100, 100), at_ms(5000));
  CHECK(board->read(id).finish == at_ms(5100));
  board->reanchor(id, at_ms(5050), 1000);  // 300 tokens are outstanding
  CHECK(board->read(id).finish == at_ms(5350));
}

TEST_CASE("board: a lease of an older generation leaves the new owner alone") {
  auto board = std::make_unique<endpoint_board>();
  const endpoint_id older{5, 65535}, newer{5, 0};  // generations wrap
  const booked_work w = work_of(1000, 1000);
  REQUIRE(board->book(older, w, at_ms(0)));
  REQUIRE(board->book(newer, work_of(10, 10), at_ms(0)));
  CHECK(board->read(newer).prefill_tokens == 10);
  CHECK(board->read(older).prefill_tokens == 0);
  board->begin_decode(older, w);
  board->unwind(older, milliseconds(100));
  board->teach(older, 5000, at_ms(0), at_ms(100));
  board->suspect(older, at_ms(9999));
  board->release(older, w, true);
  const endpoint_load l = board->read(newer);
  CHECK(l.prefill_tokens == 10);
  CHECK(l.decode_tokens == 0);
  CHECK(l.sequences == 1);
  CHECK(l.suspect_until == instant{});
  CHECK(l.speed == 0);
  CHECK_FALSE(board->book(older, w, at_ms(1)));
  CHECK(board->read(newer).sequences == 1);
}

TEST_CASE("board: ids outside the board are ignored") {
  auto board = std::make_unique<endpoint_board>();
  const endpoint_id nobody{};
  CHECK_FALSE(board->book(nobody, work_of(1, 1), at_ms(0)));
  board->release(nobody, work_of(1, 1), false);
  board->teach(nobody, 1000, at_ms(0), at_ms(1));
  CHECK(idle(board->read(nobody)));
}

TEST_CASE("board: speed is learned from first tokens, in order and in batches") {
  auto board = std::make_unique<endpoint_board>();
  const endpoint_id id{1, 1};
  CHECK(board->read(id).speed == 0);
  SUBCASE("one at a time") {
    for (int i = 0; i < 20; ++i) board->teach(id, 2000, at_ms(i * 1000), at_ms(i * 1000 + 200));
    CHECK(board->read(id).speed == doctest::Approx(10000).epsilon(0.02));
  }
  SUBCASE("queued: each begins when the one before is done") {
    for (int i = 0; i < 20; ++i) board->teach(id, 2000, at_ms(0), at_ms((i + 1) * 200));
    CHECK(board->read(id).speed == doctest::Approx(10000).epsilon(0.02));
  }
  SUBCASE("four that come out of one step") {
    for (int i = 0; i < 80; ++i) board->teach(id, 500, at_ms(i / 4 * 1000), at_ms(i / 4 * 1000 + 200));
    CHECK(board->read(id).speed == doctest::Approx(10000).epsilon(0.02));
  }
  SUBCASE("an outlier moves little, a lasting change is noticed within 20 requests") {
    for (int i = 0; i < 20; ++i) board->teach(id, 2000, at_ms(i * 1000), at_ms(i * 1000 + 200));
    board->teach(id, 2000, at_ms(30000), at_ms(30000 + 900000));
    CHECK(board->read(id).speed > 4000);
    for (int i = 0; i < 20; ++i)
      board->teach(id, 2000, at_ms(1000000 + i * 1000), at_ms(1000000 + i * 1000 + 400));
    CHECK(board->read(id).speed == doctest::Approx(5000).epsilon(0.15));
  }
  SUBCASE("tiny requests and clocks that stand still teach nothing absurd") {
    board->teach(id, 10, at_ms(0), at_ms(1));
    CHECK(board->read(id).speed == 0);
    for (int i = 0; i < 50; ++i) board->teach(id, std::uint64_t{1} << 40, at_ms(0), at_ms(0));
    CHECK(board->read(id).speed <= 1e7);
    CHECK(board->read(id).speed > 0);
  }
}

TEST_CASE("board: eight threads book and give back, and nothing is left") {
  auto board = std::make_unique<endpoint_board>();
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&board, t] {
      prng rng(t);
      for (int i = 0; i < 3000; ++i) {
        // Generations move on under the leases' feet.
        const endpoint_id id{static_cast<std::uint16_t>(rng.below(3)), static_cast<std::uint16_t>(i / 500)};
        const booked_work w = work_of(rng.below(5000), rng.below(5000));
        if (!board->book(id, w, at_ms(i))) continue;
        const bool decodes = rng.below(2) == 0;
        if (decodes) {
          board->begin_decode(id, w);
          board->teach(id, w.prefill_tokens, at_ms(i), at_ms(i + 10));
          board->reanchor(id, at_ms(i + 10), board->read(id).speed);
        }
        board->release(id, w, decodes);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (std::uint16_t slot = 0; slot < 3; ++slot) {
    for (std::uint16_t g = 0; g < 6; ++g) CHECK(idle(board->read({slot, g})));
  }
}

TEST_CASE("board: a speed that is told takes the place of what was learned") {
  const auto board = std::make_unique<endpoint_board>();
  const endpoint_id id{3, 2};
  board->tell_speed(id, 5000);
  CHECK(board->read(id).speed == doctest::Approx(5000));
  board->tell_speed(id, -1);
  board->tell_speed(id, 1e300);
  CHECK(board->read(id).speed == doctest::Approx(5000));
  CHECK(board->read({3, 3}).speed == 0);
  board->tell_speed({3, 1}, 7000);  // an earlier owner of the slot
  CHECK(board->read(id).speed == doctest::Approx(5000));
}
