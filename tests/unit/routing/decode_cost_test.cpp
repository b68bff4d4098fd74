#include "routing/decode_cost.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>

#include "penstock/random.hpp"
#include "routing/cost_model.hpp"
#include "routing/output_lengths.hpp"
#include "unit/routing/fixtures.hpp"

using namespace penstock;
using namespace penstock::routing;
using fixtures::at_ms;

namespace {

// A factor around 1 with a tail, as measured times have.
double noise(prng& rng) { return 0.8 + 0.4 * rng.unit() + (rng.below(20) == 0 ? 3 * rng.unit() : 0); }

}  // namespace

TEST_CASE("decode cost: base and slope of a noisy stream of answers") {
  prng rng(7);
  decode_sums sums;
  for (int i = 0; i < 300; ++i) {
    const double batch = 1 + static_cast<double>(rng.below(60));
    const double tokens = 20 + static_cast<double>(rng.below(500));
    learn_decode(sums, tokens, (0.008 + 0.0003 * batch) * noise(rng) * (tokens - 1), batch);
  }
  const decode_fit f = fit_of(sums);
  CHECK(static_cast<double>(f.base) == doctest::Approx(0.009).epsilon(0.35));
  CHECK(static_cast<double>(f.slope) == doctest::Approx(0.00032).epsilon(0.35));
}

TEST_CASE("decode cost: an engine at half speed is known for it after 100 answers, most of it after 40") {
  prng rng(8);
  decode_sums sums;
  const auto answers = [&](int n, double factor) {
    for (int i = 0; i < n; ++i) {
      const double batch = 1 + static_cast<double>(rng.below(40));
      learn_decode(sums, 200, factor * (0.010 + 0.0002 * batch) * 199, batch);
    }
    const decode_fit f = fit_of(sums);
    return static_cast<double>(f.base) + 20 * static_cast<double>(f.slope);
  };
  CHECK(answers(200, 1) == doctest::Approx(0.014).epsilon(0.05));
  CHECK(answers(40, 2) > 0.021);
  CHECK(answers(60, 2) == doctest::Approx(0.028).epsilon(0.2));
}

TEST_CASE("decode cost: steady load tells no slope; absurd samples tell nothing") {
  decode_sums sums;
  for (int i = 0; i < 50; ++i) learn_decode(sums, 100, 0.99, 10);
  CHECK(fit_of(sums).slope == 0);
  CHECK(static_cast<double>(fit_of(sums).base) == doctest::Approx(0.01).epsilon(0.01));
  const decode_fit before = fit_of(sums);
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const double bad : {nan, inf, -1.0, 0.0, 1e300}) {
    learn_decode(sums, bad, 1, 10);
    learn_decode(sums, 100, bad, 10);
    learn_decode(sums, 100, 1, bad);
  }
  learn_decode(sums, 2, 60, 10);  // one gap is no speed
  CHECK(fit_of(sums).base == before.base);
  // The load falls as the answers slow down: no negative cost.
  for (int i = 0; i < 200; ++i) learn_decode(sums, 100, 10.0 / (1 + i % 10), 1 + i % 10);
  CHECK(fit_of(sums).slope >= 0);
  CHECK(fit_of(sums).base >= 0);
}

TEST_CASE("board: decode costs belong to a generation") {
  auto board = std::make_unique<endpoint_board>();
  const endpoint_id older{3, 65535}, newer{3, 0};
  for (int i = 0; i < 20; ++i) board->teach_decode(older, 100, 1 + i % 5, 10 + i % 5 * 10);
  CHECK(board->decode_of(older).slope > 0);
  CHECK(board->decode_of(newer).base == 0);
  board->teach_decode(newer, 100, 5, 10);
  CHECK(static_cast<double>(board->decode_of(newer).base) == doctest::Approx(5.0 / 99));
  board->teach_decode(older, 100, 50, 10);  // a late answer of the removed one
  CHECK(static_cast<double>(board->decode_of(newer).base) == doctest::Approx(5.0 / 99));
  CHECK(board->decode_of(older).base == 0);
  board->teach_decode({}, 100, 1, 1);
  CHECK(board->decode_of({}).base == 0);
}

TEST_CASE("cost: one more sequence costs slope x expected output x prefill speed, once all three are known") {
  CHECK(learned_sequence_cost({0.01F, 0.0001F}, 300, 8000, 200) == doctest::Approx(240));
  CHECK(learned_sequence_cost({0.01F, 0}, 300, 8000, 200) == 200);
  CHECK(learned_sequence_cost({0.01F, 0.0001F}, 0, 8000, 200) == 200);
  CHECK(learned_sequence_cost({1, 50}, 1e6, 1e7, 200) <= 1e6);
}

TEST_CASE(
    "output lengths: means by model, no endless answer counts in full, 100,000 models take no more room") {
  output_lengths o;
  CHECK(o.expected(1) == 0);
  for (int i = 0; i < 100; ++i) o.learn(1, 190 + static_cast<std::uint64_t>(i % 21));
  CHECK(o.expected(1) == doctest::Approx(200).epsilon(0.05));
  o.learn(1, std::numeric_limits<std::uint64_t>::max());
  CHECK(o.expected(1) < 240);
  for (std::uint64_t m = 0; m < 100000; ++m) o.learn(m * 0x9e3779b97f4a7c15ULL, 5);
  CHECK(o.expected(12345) == 0);
}

TEST_CASE("queue: an engine that stopped is left within its first-token bound, whatever it holds") {
  // 10,000 tokens are held there and nowhere else; a request for them waits without a first token.
  endpoint_load stalled;
  stalled.prefill_tokens = 200;
  stalled.finish = at_ms(100);
  const double speed = 8000, elsewhere = 9 * 10000;
  CHECK(queue_tokens(stalled, speed, at_ms(0)) == 200);
  CHECK(queue_tokens(stalled, speed, at_ms(1000)) == 200);
  CHECK(queue_tokens(stalled, speed, at_ms(2000)) == 200);
  CHECK(queue_tokens(stalled, speed, at_ms(20000)) > elsewhere);
  // One with much to compute is given its time.
  stalled.prefill_tokens = 100000;
  CHECK(queue_tokens(stalled, speed, at_ms(30000)) == 100000);
  stalled.prefill_tokens = 0;
  CHECK(queue_tokens(stalled, speed, at_ms(30000)) == 0);
}

TEST_CASE("board: half speed is noticed within 20 noisy requests, in every one of 50 streams") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    auto board = std::make_unique<endpoint_board>();
    prng rng(seed);
    const endpoint_id id{1, 0};
    std::int64_t at = 0;
    const auto requests = [&](int n, double speed) {
      for (int i = 0; i < n; ++i) {
        const std::uint64_t tokens = 500 + rng.below(4000);
        at += 1000000;
        const double ms = static_cast<double>(tokens) / speed * 1000 * (0.75 + 0.5 * rng.unit());
        board->teach(id, tokens, at_ms(at), at_ms(at + static_cast<std::int64_t>(ms)));
      }
      return board->read(id).speed;
    };
    CHECK(requests(100, 10000) == doctest::Approx(10000).epsilon(0.2));
    CHECK(requests(20, 5000) < 6700);
  }
}
