#include "proxy/worker/timer_wheel.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "penstock/random.hpp"

using namespace penstock;
using penstock::worker::timer_wheel;
using namespace std::chrono_literals;

namespace {

constexpr instant start{5000s};

struct fired_at {
  std::vector<instant> deadlines;
  void turn(timer_wheel& w, instant now) {
    w.turn(now, [&](timer_wheel::entry& e) {
      CHECK_FALSE(e.armed());
      deadlines.push_back(e.deadline());
    });
  }
};

}  // namespace

TEST_CASE("timer_wheel: nothing is due before its time, and all of it at next()") {
  timer_wheel w(start);
  CHECK(w.next() == never);
  timer_wheel::entry e;
  w.arm(e, start + 25ms);
  CHECK(e.armed());
  CHECK(w.armed() == 1);
  CHECK(w.next() >= start + 25ms);
  CHECK(w.next() <= start + 25ms + timer_wheel::tick);
  fired_at f;
  f.turn(w, start + 20ms);
  CHECK(f.deadlines.empty());
  f.turn(w, w.next());
  CHECK(f.deadlines == std::vector{start + 25ms});
  CHECK(w.next() == never);
  CHECK(w.armed() == 0);
}

TEST_CASE("timer_wheel: never is not armed, and arming again moves") {
  timer_wheel w(start);
  timer_wheel::entry e;
  w.arm(e, start + 1s);
  w.arm(e, start + 2s);
  CHECK(w.armed() == 1);
  fired_at f;
  f.turn(w, start + 1500ms);
  CHECK(f.deadlines.empty());
  w.arm(e, never);
  CHECK_FALSE(e.armed());
  f.turn(w, start + 1h);
  CHECK(f.deadlines.empty());
  CHECK(w.next() == never);
}

TEST_CASE("timer_wheel: an entry unlinks itself when it dies") {
  timer_wheel w(start);
  timer_wheel::entry stays;
  w.arm(stays, start + 10ms);
  {
    timer_wheel::entry a, b;
    w.arm(a, start + 10ms);
    w.arm(b, start + 10ms);
    CHECK(w.armed() == 3);
  }
  CHECK(w.armed() == 1);
  fired_at f;
  f.turn(w, start + 1s);
  CHECK(f.deadlines.size() == 1);
}

TEST_CASE("timer_wheel: deadlines beyond a turn wait for theirs") {
  timer_wheel w(start);
  timer_wheel::entry soon, far, farther;
  const duration turn = 4096 * timer_wheel::tick;
  w.arm(soon, start + 50ms);
  w.arm(far, start + 50ms + turn);  // the same slot
  w.arm(farther, start + 50ms + 10 * turn);
  fired_at f;
  instant now = start;
  int wakes = 0;
  while (w.next() != never) {
    CHECK(w.next() > now);
    now = w.next();
    f.turn(w, now);
    ++wakes;
  }
  REQUIRE(f.deadlines.size() == 3);
  CHECK(f.deadlines[1] == start + 50ms + turn);
  CHECK(f.deadlines[2] == start + 50ms + 10 * turn);
  CHECK(now <= start + 50ms + 10 * turn + timer_wheel::tick);
  CHECK(wakes <= 13);  // a far deadline wakes once a turn, not once a tick
}

TEST_CASE("timer_wheel: deadlines in the past fire within a tick") {
  timer_wheel w(start);
  timer_wheel::entry e;
  w.arm(e, start - 10s);
  CHECK(w.next() <= start + timer_wheel::tick);
  fired_at f;
  f.turn(w, w.next());
  CHECK(f.deadlines.size() == 1);
}

TEST_CASE("timer_wheel: a callback that arms anew in the past is called once a turn") {
  timer_wheel w(start);
  timer_wheel::entry e;
  w.arm(e, start + 5ms);
  int calls = 0;
  for (int turn = 1; turn <= 3; ++turn) {
    w.turn(start + turn * 20ms, [&](timer_wheel::entry& due) {
      ++calls;
      if (calls < 100) w.arm(due, start);
    });
    CHECK(calls == turn);
  }
}

TEST_CASE("timer_wheel: after a long sleep everything due fires once") {
  timer_wheel w(start);
  std::vector<std::unique_ptr<timer_wheel::entry>> all;
  for (int i = 0; i < 10'000; ++i) {
    all.push_back(std::make_unique<timer_wheel::entry>());
    w.arm(*all.back(), start + i * 7ms);
  }
  fired_at f;
  f.turn(w, start + 24h);
  CHECK(f.deadlines.size() == 10'000);
  CHECK(w.armed() == 0);
  timer_wheel::entry later;
  w.arm(later, start + 24h + 20ms);
  f.turn(w, w.next());
  CHECK(f.deadlines.size() == 10'001);
}

TEST_CASE("timer_wheel: a callback may arm, cancel and destroy any entry") {
  timer_wheel w(start);
  auto first = std::make_unique<timer_wheel::entry>();
  auto second = std::make_unique<timer_wheel::entry>();
  timer_wheel::entry again, cancelled;
  for (timer_wheel::entry* e : {first.get(), second.get()}) w.arm(*e, start + 10ms);
  w.arm(cancelled, start + 15ms);
  int calls = 0;
  w.turn(start + 100ms, [&](timer_wheel::entry&) {
    ++calls;
    first.reset();
    second.reset();
    cancelled.unlink();
    w.arm(again, start + 200ms);
  });
  CHECK(calls <= 2);  // the one of 15 ms may be looked at first
  CHECK(w.armed() == 1);
  CHECK(w.next() >= start + 200ms);
}

TEST_CASE("timer_wheel: agrees with a plain list, whatever happens") {
  prng rng(7);
  timer_wheel w(start);
  std::vector<std::unique_ptr<timer_wheel::entry>> all;
  for (int i = 0; i < 50; ++i) all.push_back(std::make_unique<timer_wheel::entry>());
  instant now = start;
  for (int step = 0; step < 5000; ++step) {
    timer_wheel::entry& e = *all[rng.below(all.size())];
    if (rng.below(4) == 0) {
      e.unlink();
    } else {
      w.arm(e, now + std::chrono::milliseconds(rng.below(rng.below(10) == 0 ? 100'000 : 300)));
    }
    now += std::chrono::microseconds(rng.below(20'000));
    w.turn(now, [&](timer_wheel::entry& due) { REQUIRE(due.deadline() <= now); });
    std::size_t armed = 0;
    for (const auto& each : all) {
      if (!each->armed()) continue;
      ++armed;
      REQUIRE(each->deadline() > now - timer_wheel::tick);
      REQUIRE(w.next() <= std::max(each->deadline(), now) + timer_wheel::tick);
    }
    REQUIRE(w.armed() == armed);
  }
}
