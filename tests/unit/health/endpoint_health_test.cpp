#include "health/endpoint_health.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace penstock;
using namespace penstock::health;
using namespace std::chrono_literals;

namespace {

const instant t0 = instant{} + 1000s;

health_config settings() {
  health_config h;
  h.interval = 4s;
  h.timeout = 2s;
  h.rise = 2;
  h.fall = 3;
  h.passive_failures = 3;
  h.suspect_for = 10s;
  h.token_grace = 5s;
  return h;
}

// A machine with its own clock; every step takes one second unless told otherwise.
struct bench {
  explicit bench(health_config h = settings()) : machine(h, t0, rng) {}

  void probe(probe_outcome o) {
    now += 1s;
    machine.probe_started(now);
    machine.on_probe({o, now}, now, rng);
  }
  void good() { probe(probe_outcome::ok); }
  void traffic(traffic_outcome o, duration ago = 0s) {
    now += 1s;
    machine.on_traffic(o, now - ago, now);
  }
  void go_up() {
    good();
    REQUIRE(machine.state() == life::up);
  }
  void go_down() {
    for (int i = 0; i < 3; ++i) probe(probe_outcome::timeout);
    REQUIRE(machine.state() == life::down);
  }

  prng rng{7};
  instant now = t0;
  endpoint_health machine;
};

// g good probe, f failed (timeout), b bad status, r refused, n no address; traffic: o ok, t token,
// C connect failed, R reset, G garbage, T timeout, E server error; . one second passes; w ten seconds.
void step(bench& b, char c) {
  switch (c) {
    case 'g': return b.good();
    case 'f': return b.probe(probe_outcome::timeout);
    case 'b': return b.probe(probe_outcome::bad_status);
    case 'r': return b.probe(probe_outcome::connect_failed);
    case 'n': return b.probe(probe_outcome::resolve_failed);
    case 'o': return b.traffic(traffic_outcome::ok);
    case 't': return b.traffic(traffic_outcome::token_seen);
    case 'C': return b.traffic(traffic_outcome::connect_failed);
    case 'R': return b.traffic(traffic_outcome::reset);
    case 'G': return b.traffic(traffic_outcome::garbage);
    case 'T': return b.traffic(traffic_outcome::timeout);
    case 'E': return b.traffic(traffic_outcome::server_error);
    case '.': b.now += 1s; return b.machine.tick(b.now);
    case 'w': b.now += 10s; return b.machine.tick(b.now);
    default: FAIL("unknown step");
  }
}

struct row {
  const char* steps;
  life state;
};

}  // namespace

TEST_CASE("transitions of an endpoint, from starting") {
  const row rows[] = {
      {"", life::starting},
      // One good sign is enough for an endpoint that nobody doubted.
      {"g", life::up},
      {"o", life::up},
      {"t", life::up},
      // Nobody listens: down at once. A server that is there but not healthy gets its chances.
      {"r", life::down},
      {"n", life::down},
      {"f", life::starting},
      {"bb", life::starting},
      {"bbb", life::down},
      {"C", life::suspect},
      {"Cr", life::down},
      {"Cf", life::suspect},
      {"Cw", life::starting},  // the doubt fades, but nothing good was ever seen
      {"EEE", life::suspect},
      // fall probes in a row, not fewer.
      {"gf", life::suspect},
      {"gff", life::suspect},
      {"gfff", life::down},
      {"gffgff", life::suspect},
      {"gffg", life::up},
      {"gfbr", life::down},
      {"gr", life::suspect},
      {"grrr", life::down},
      // Probes' doubt does not fade by itself.
      {"gfww", life::suspect},
      // rise probes in a row.
      {"gfffg", life::down},
      {"gfffgg", life::up},
      {"gfffgfg", life::down},
      {"gfffgfgg", life::up},
      // A connect failure: suspect at once, up by a good probe, by traffic, or with time.
      {"gC", life::suspect},
      {"gCg", life::up},
      {"gCo", life::up},
      {"gCt", life::up},
      {"gCw", life::up},
      {"gCfw", life::suspect},
      {"gCfff", life::down},
      // passive_failures in a row.
      {"gE", life::up},
      {"gEE", life::up},
      {"gEEE", life::suspect},
      {"gEGT", life::suspect},
      {"gRRR", life::suspect},
      {"gEEoEE", life::up},
      {"gEEtEE", life::up},
      {"gEEgE", life::suspect},  // a health page is no answer
      // Bad answers: a good health page does not lift the doubt before its time; good traffic does.
      {"gEEEg", life::suspect},
      {"gEEEo", life::up},
      {"gEEEw", life::up},
      {"gEEE........g", life::suspect},
      {"gEEE.........g", life::up},
      {"gRRRg", life::up},  // cut connections: the probe has shown that it accepts again
      // Traffic never takes an endpoint out.
      {"gCCCCCCCCCCCCCCCCCCCC", life::suspect},
      {"gEEEEEEEEEEEEEEEEEEEE", life::suspect},
      // A fresh token outranks failed probes.
      {"gtf", life::up},
      {"gtffff", life::up},
      {"gtbbbbb", life::up},
      {"gtffffff", life::suspect},  // the sixth comes after the grace
      {"gtffffffff", life::down},
      {"gtftftftftftft", life::up},
      {"gtr", life::suspect},  // streams go on, new connections fail
      {"gtrrrr", life::suspect},
      {"gtRf", life::suspect},  // the stream with that token was cut since
      {"gtRfff", life::down},
      // Down, but alive: what it still says counts.
      {"gffft", life::suspect},
      {"gffftt", life::up},
      {"gfffo", life::down},
      {"gfffoo", life::up},
      {"grrrt", life::suspect},
  };
  for (const auto& r : rows) {
    bench b;
    for (const char* c = r.steps; *c != '\0'; ++c) step(b, *c);
    CHECK_MESSAGE(b.machine.state() == r.state, std::string(r.steps), " gave ",
                  std::string(name(b.machine.state())));
  }
}

TEST_CASE("a good sign that began before the suspicion does not lift it") {
  bench b;
  b.go_up();
  const auto before = b.now;
  b.machine.probe_started(b.now);
  b.traffic(traffic_outcome::connect_failed);
  REQUIRE(b.machine.state() == life::suspect);

  SUBCASE("a probe") {
    b.machine.on_probe({probe_outcome::ok, before}, b.now, b.rng);
    CHECK(b.machine.state() == life::suspect);
    // It was the one under way: the next follows at once.
    CHECK(b.machine.next_probe_at() <= b.now + least_probe_gap);
  }
  SUBCASE("a probe whose start only the machine knows") {
    b.machine.on_probe({probe_outcome::ok, {}}, b.now, b.rng);
    CHECK(b.machine.state() == life::suspect);
  }
  SUBCASE("a stream") {
    b.traffic(traffic_outcome::token_seen, 60s);
    b.traffic(traffic_outcome::ok, 60s);
    CHECK(b.machine.state() == life::suspect);
    CHECK_FALSE(b.machine.accepts_connections());
  }
}

TEST_CASE("streams that outlive a refusing listener do not bring the endpoint back") {
  bench b;
  b.go_up();
  for (int i = 0; i < 3; ++i) b.probe(probe_outcome::connect_failed);
  REQUIRE(b.machine.state() == life::down);
  b.traffic(traffic_outcome::token_seen, 60s);
  b.traffic(traffic_outcome::ok, 60s);
  b.traffic(traffic_outcome::ok, 60s);
  CHECK(b.machine.state() == life::down);
  CHECK_FALSE(b.machine.accepts_connections());
}

TEST_CASE("tokens of an old stream do not break a row of failures") {
  bench b;
  b.go_up();
  for (int i = 0; i < 3; ++i) {
    b.traffic(traffic_outcome::server_error);
    b.traffic(traffic_outcome::token_seen, 60s);
  }
  CHECK(b.machine.state() == life::suspect);
}

TEST_CASE("the token grace ends exactly when it says") {
  bench b;
  b.go_up();
  b.traffic(traffic_outcome::token_seen);
  b.machine.on_probe({probe_outcome::timeout, b.now}, b.now + 5s, b.rng);
  CHECK(b.machine.state() == life::up);
  b.machine.on_probe({probe_outcome::timeout, b.now}, b.now + 5s + 1ns, b.rng);
  CHECK(b.machine.state() == life::suspect);
}

TEST_CASE("which failures mean that no connection is accepted") {
  const auto accepts_after = [](probe_outcome o) {
    bench b;
    b.go_up();
    b.probe(o);
    return b.machine.accepts_connections();
  };
  CHECK(accepts_after(probe_outcome::ok));
  CHECK_FALSE(accepts_after(probe_outcome::resolve_failed));
  CHECK_FALSE(accepts_after(probe_outcome::connect_failed));
  CHECK_FALSE(accepts_after(probe_outcome::connect_timeout));
  CHECK(accepts_after(probe_outcome::timeout));
  CHECK(accepts_after(probe_outcome::reset));
  CHECK(accepts_after(probe_outcome::garbage));
  CHECK(accepts_after(probe_outcome::bad_status));

  bench b;
  b.go_up();
  b.traffic(traffic_outcome::connect_failed);
  CHECK_FALSE(b.machine.accepts_connections());
  b.traffic(traffic_outcome::ok);
  CHECK(b.machine.accepts_connections());
}

TEST_CASE("suspect_until is set by traffic's suspicion and cleared with it") {
  bench b;
  b.go_up();
  CHECK(b.machine.suspect_until() == instant{});
  CHECK(b.machine.next_tick_at() == never);
  b.traffic(traffic_outcome::connect_failed);
  CHECK(b.machine.suspect_until() == b.now + 10s);
  CHECK(b.machine.next_tick_at() == b.now + 10s);
  b.machine.tick(b.now + 10s - 1ns);
  CHECK(b.machine.state() == life::suspect);
  b.machine.tick(b.now + 10s);
  CHECK(b.machine.state() == life::up);
  CHECK(b.machine.suspect_until() == instant{});
}

TEST_CASE("jitter stays within a fifth and uses the whole of it") {
  prng rng{1};
  duration least = 1h, most = 0s;
  for (int i = 0; i < 2000; ++i) {
    const auto d = jittered(10s, rng);
    least = std::min(least, d);
    most = std::max(most, d);
  }
  CHECK(least >= 8s);
  CHECK(most < 12s);
  CHECK(least < 8200ms);
  CHECK(most > 11800ms);
  CHECK(jittered(0s, rng) == 0s);
  CHECK(jittered(1ns, rng) == 1ns);
}

TEST_CASE("probe times: the first soon, the interval when up, fast in doubt, slower when down") {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    prng rng{seed};
    endpoint_health m(settings(), t0, rng);
    CHECK(m.next_probe_at() >= t0);
    CHECK(m.next_probe_at() < t0 + first_probe_spread);
    const auto wait = [&](probe_outcome o) {
      m.probe_started(t0 + 1s);
      m.on_probe({o, t0 + 1s}, t0 + 1s, rng);
      return m.next_probe_at() - (t0 + 1s);
    };
    const auto about = [](duration d, duration of) { return d >= of * 4 / 5 && d < of * 6 / 5; };
    CHECK(about(wait(probe_outcome::ok), 4s));
    CHECK(about(wait(probe_outcome::timeout), 500ms));
    CHECK(about(wait(probe_outcome::timeout), 500ms));
    CHECK(about(wait(probe_outcome::timeout), 500ms));
    REQUIRE(m.state() == life::down);
    CHECK(about(wait(probe_outcome::timeout), 1s));
    CHECK(about(wait(probe_outcome::timeout), 2s));
    CHECK(about(wait(probe_outcome::timeout), 4s));
    CHECK(about(wait(probe_outcome::timeout), 4s));
    CHECK(about(wait(probe_outcome::ok), 500ms));  // on its way up: no need to wait
    CHECK(about(wait(probe_outcome::ok), 4s));
    CHECK(m.state() == life::up);
  }
}

TEST_CASE("fast probes are bounded both ways and never slower than the interval") {
  CHECK(fast_probe_interval(8s) == 1s);
  CHECK(fast_probe_interval(60s) == 1s);
  CHECK(fast_probe_interval(2s) == 250ms);
  CHECK(fast_probe_interval(400ms) == 100ms);
  CHECK(fast_probe_interval(50ms) == 50ms);
}

TEST_CASE("a connect failure asks for a probe at once, a storm of them for no more than one a gap") {
  bench b;
  b.go_up();
  b.traffic(traffic_outcome::connect_failed);
  CHECK(b.machine.next_probe_at() == b.now);
  b.machine.probe_started(b.now);
  const auto lost = b.machine.next_probe_at();
  CHECK(lost == b.now + 2 * 2s + 1s);
  for (int i = 0; i < 1000; ++i) b.machine.on_traffic(traffic_outcome::connect_failed, b.now, b.now);
  CHECK(b.machine.next_probe_at() == lost);  // one is under way
  b.machine.on_probe({probe_outcome::connect_failed, b.now}, b.now, b.rng);
  CHECK(b.machine.next_probe_at() == b.now + least_probe_gap);
}

TEST_CASE("a single reset asks for a probe, although it is no suspicion yet") {
  bench b;
  b.go_up();
  b.traffic(traffic_outcome::reset);
  CHECK(b.machine.state() == life::up);
  CHECK(b.machine.next_probe_at() == b.now);
}

TEST_CASE("settings of zero: counts are one, no interval means no probes, no limit means no marks") {
  health_config h = settings();
  h.rise = h.fall = 0;
  bench b(h);
  b.go_up();
  b.probe(probe_outcome::timeout);
  CHECK(b.machine.state() == life::down);
  b.good();
  CHECK(b.machine.state() == life::up);

  h.interval = 0s;
  h.passive_failures = 0;
  bench quiet(h);
  CHECK(quiet.machine.next_probe_at() == never);
  for (int i = 0; i < 50; ++i) quiet.traffic(traffic_outcome::server_error);
  CHECK(quiet.machine.state() == life::starting);
  quiet.traffic(traffic_outcome::connect_failed);
  CHECK(quiet.machine.state() == life::suspect);
  CHECK(quiet.machine.next_probe_at() == never);
}

TEST_CASE("new settings keep the state and bring the next probe forward, never back") {
  bench b;
  b.go_up();
  const auto next = b.machine.next_probe_at();
  health_config slower = settings();
  slower.interval = 60s;
  b.machine.configure(slower, b.now, b.rng);
  CHECK(b.machine.state() == life::up);
  CHECK(b.machine.next_probe_at() == next);
  health_config faster = settings();
  faster.interval = 1s;
  b.machine.configure(faster, b.now, b.rng);
  CHECK(b.machine.next_probe_at() < b.now + 1200ms);
  faster.interval = 0s;
  b.machine.configure(faster, b.now, b.rng);
  CHECK(b.machine.next_probe_at() == never);
}

TEST_CASE("trust by life") {
  CHECK(life_confidence(life::up) == 1);
  CHECK(life_confidence(life::starting) < life_confidence(life::up));
  CHECK(life_confidence(life::suspect) < life_confidence(life::starting));
  CHECK(life_confidence(life::down) == 0);
  CHECK(life_confidence(life::draining) == 0);
}
