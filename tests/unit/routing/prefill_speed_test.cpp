// The speed of an engine that computes many prompts in one step.
#include "routing/prefill_speed.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "penstock/random.hpp"

using namespace penstock;
using namespace penstock::routing;
using std::chrono::microseconds;

namespace {

constexpr instant begin{std::chrono::seconds(100)};

double speed(const prefill_sums& s) { return speed_of(fit_of(s)); }

// An engine of 10,000 tokens a second whose steps follow each other; a step's first tokens come 0.2 ms apart.
struct engine {
  instant at = begin;
  prefill_sums sums;
  double least = 1e9, most = 0;  // of the speed after a step

  void step(const std::vector<std::uint64_t>& prompts) {
    std::uint64_t tokens = 0;
    for (const std::uint64_t p : prompts) tokens += p;
    at += microseconds(100 * tokens);
    instant seen = at;
    for (const std::uint64_t p : prompts) learn_prefill(sums, p, begin, seen += microseconds(200));
    least = std::min(least, speed(sums));
    most = std::max(most, speed(sums));
  }
};

}  // namespace

TEST_CASE("prefill speed: however many prompts a step computes") {
  for (const std::size_t together : {1, 2, 5, 20, 60}) {
    CAPTURE(together);
    engine e;
    for (int i = 0; i < 30; ++i) e.step(std::vector<std::uint64_t>(together, 400));
    CHECK(e.least > 9500);
    CHECK(e.most < 10500);
  }
}

TEST_CASE("prefill speed: steps of all lengths, whichever comes last") {
  engine e;
  prng rng(3);
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::uint64_t> prompts(1 + rng.below(20));
    for (std::uint64_t& p : prompts) p = rng.below(8) == 0 ? 6000 : 50 + rng.below(600);
    e.step(prompts);
  }
  CHECK(e.least > 8500);
  CHECK(e.most < 11500);
}

TEST_CASE("prefill speed: a step's time runs from the first of its requests, whose token may be seen last") {
  prefill_sums s;
  for (int i = 0; i < 10; ++i) {
    const instant idle = begin + std::chrono::seconds(i);
    learn_prefill(s, 1000, idle + microseconds(90'000), idle + microseconds(200'000));
    learn_prefill(s, 1000, idle, idle + microseconds(200'100));
  }
  CHECK(speed(s) == doctest::Approx(10000).epsilon(0.01));
}

TEST_CASE("prefill speed: half of it is noticed within 20 requests, alone or together") {
  for (const std::size_t together : {1, 5, 20}) {
    CAPTURE(together);
    engine e;
    for (int i = 0; i < 30; ++i) e.step(std::vector<std::uint64_t>(together, 1000));
    for (std::size_t i = 0; i < 20 / together; ++i) {
      e.at += microseconds(100'000 * together);  // as long again
      e.step(std::vector<std::uint64_t>(together, 1000));
    }
    CHECK(speed(e.sums) < 10000 / 1.25);
  }
}

TEST_CASE("prefill speed: what says nothing of it") {
  prefill_sums s;
  CHECK(speed(s) == 0);
  for (int i = 0; i < 50; ++i) learn_prefill(s, 20, begin, begin + std::chrono::seconds(i));
  CHECK(speed(s) == 0);
  engine e;
  for (int i = 0; i < 20; ++i) e.step({2000});
  SUBCASE("short prompts alone") {
    for (int i = 0; i < 50; ++i) learn_prefill(e.sums, 20, begin, e.at += std::chrono::seconds(1));
    CHECK(speed(e.sums) == doctest::Approx(10000).epsilon(0.01));
  }
  SUBCASE("many short prompts that came behind one whose first token nobody saw") {
    for (int i = 0; i < 20; ++i) {
      e.at += std::chrono::seconds(2);
      for (int k = 0; k < 10; ++k) learn_prefill(e.sums, 60, begin, e.at + microseconds(k));
    }
    CHECK(speed(e.sums) == doctest::Approx(10000).epsilon(0.01));
  }
  SUBCASE("one that was held up for an hour") {
    learn_prefill(e.sums, 2000, begin, e.at + std::chrono::hours(1));
    CHECK(speed(e.sums) > 4000);
    // ... does not make the next hour's first tokens one step.
    for (int i = 1; i <= 20; ++i)
      learn_prefill(e.sums, 2000, begin, e.at + std::chrono::hours(1) + microseconds(200'000) * i);
    CHECK(speed(e.sums) == doctest::Approx(10000).epsilon(0.1));
  }
  SUBCASE("a clock that stands still or goes back") {
    for (int i = 0; i < 50; ++i) learn_prefill(e.sums, std::uint64_t{1} << 40, e.at, e.at - microseconds(i));
    CHECK(speed(e.sums) <= most_prefill_speed);
    CHECK(speed(e.sums) >= least_prefill_speed);
  }
}
