#include "health/poll_timer.hpp"

#include <doctest/doctest.h>

using namespace penstock;
using namespace penstock::health;
using namespace std::chrono_literals;

namespace {

const instant t0 = instant{} + 1000s;

}  // namespace

TEST_CASE("a poll timer asks once, backs off after failures and finds lost answers") {
  prng rng{5};
  const poll_timer::pace pace{8s, 1s, 4s, 20s};
  poll_timer timer(pace, t0);
  CHECK(timer.due_at() == t0);
  timer.started(t0);
  CHECK(timer.due_at() == t0 + 20s);
  const auto wait = [&](bool ok) {
    timer.answered(ok, t0, rng);
    return timer.due_at() - t0;
  };
  const auto about = [](duration d, duration of) { return d >= of * 4 / 5 && d < of * 6 / 5; };
  CHECK(about(wait(true), 8s));
  CHECK(about(wait(false), 1s));
  CHECK(about(wait(false), 2s));
  CHECK(about(wait(false), 4s));
  for (int i = 0; i < 100; ++i) CHECK(about(wait(false), 4s));
  CHECK(timer.failures() == 30);
  CHECK(about(wait(true), 8s));
  CHECK(timer.failures() == 0);
}

TEST_CASE("a hurried poll timer is due now, or right after the present question") {
  prng rng{5};
  poll_timer timer({8s, 1s, 4s, 20s}, t0);
  timer.started(t0);
  timer.answered(true, t0, rng);
  timer.hurry(t0 + 1s);
  CHECK(timer.due_at() == t0 + 1s);
  timer.started(t0 + 1s);
  timer.hurry(t0 + 1s);
  CHECK(timer.due_at() == t0 + 21s);
  timer.answered(false, t0 + 2s, rng);
  CHECK(timer.due_at() == t0 + 2s);
  timer.started(t0 + 2s);
  timer.answered(true, t0 + 2s, rng);
  CHECK(timer.due_at() > t0 + 8s);
}

TEST_CASE("a poll timer without an interval never asks") {
  prng rng{5};
  poll_timer off({}, t0);
  CHECK(off.due_at() == never);
  off.hurry(t0);
  CHECK(off.due_at() == never);
  off.answered(true, t0, rng);
  CHECK(off.due_at() == never);
  off.configure({8s, 1s, 8s, 20s}, t0);
  CHECK(off.due_at() == t0 + 8s);
  off.configure({}, t0);
  CHECK(off.due_at() == never);
  CHECK(poll_timer().due_at() == never);
}
