#include "health/restart_detector.hpp"

#include <doctest/doctest.h>

using namespace penstock;
using namespace penstock::health;
using namespace std::chrono_literals;

namespace {

const instant t0 = instant{} + 1000s;

engine_state figures(double start, double hits, double queries) {
  engine_state s;
  s.start_time_s = start;
  s.prefix_hits = hits;
  s.prefix_queries = queries;
  s.scraped_at = t0;
  return s;
}

}  // namespace

TEST_CASE("a restart shows in the start time or in a counter that went back") {
  restart_detector d;
  CHECK_FALSE(d.scraped(figures(1.7e9, 100, 1000)));
  CHECK_FALSE(d.scraped(figures(1.7e9, 100, 1000)));
  CHECK_FALSE(d.scraped(figures(1.7e9 + 0.9, 120, 1200)));  // a clock step of the host
  CHECK(d.scraped(figures(1.7e9 + 30, 120, 1200)));
  CHECK_FALSE(d.scraped(figures(1.7e9 + 30, 120, 1200)));
  CHECK(d.scraped(figures(1.7e9 + 30, 0, 1300)));
  CHECK(d.scraped(figures(1.7e9 + 30, 0, 10)));
  CHECK_FALSE(d.scraped(figures(1.7e9 + 30, 5, 20)));
}

TEST_CASE("figures that are missing or absurd for a while are no restart") {
  restart_detector d;
  CHECK_FALSE(d.scraped(figures(1.7e9, 100, 1000)));
  CHECK_FALSE(d.scraped(figures(0, -1, -1)));
  CHECK_FALSE(d.scraped(figures(1.7e9, 100, 1000)));
  CHECK_FALSE(d.scraped(figures(0, -1, 1001)));
  CHECK(d.scraped(figures(0, 99, 1002)));  // the last known figure is what counts
}

TEST_CASE("refused connections without a figure to compare are a restart once the engine answers") {
  restart_detector d;
  CHECK_FALSE(d.answered());
  d.gone();
  CHECK(d.answered());
  CHECK_FALSE(d.answered());
}

TEST_CASE("refused connections and a start time: the next scrape tells") {
  restart_detector d;
  CHECK_FALSE(d.scraped(figures(1.7e9, 100, 1000)));
  d.gone();
  CHECK_FALSE(d.answered());
  CHECK_FALSE(d.scraped(figures(1.7e9, 100, 1000)));  // the same process: only its listener was gone
  d.gone();
  CHECK(d.scraped(figures(1.7e9 + 100, 200, 2000)));
}

TEST_CASE("refused connections and only counters: a restart, however large the counters are now") {
  restart_detector d;
  CHECK_FALSE(d.scraped(figures(0, 100, 1000)));
  d.gone();
  CHECK(d.scraped(figures(0, 5000, 90000)));
  CHECK_FALSE(d.scraped(figures(0, 5000, 90000)));
}

TEST_CASE("refused connections and then no scrape any more") {
  restart_detector d;
  CHECK_FALSE(d.scraped(figures(1.7e9, 100, 1000)));
  CHECK_FALSE(d.scrapes_failed());
  d.gone();
  CHECK(d.scrapes_failed());
  CHECK_FALSE(d.scrapes_failed());
}

TEST_CASE("refused connections before the first figures: the first scrape may be of another process") {
  restart_detector with_start_time, with_counters;
  with_start_time.gone();
  CHECK(with_start_time.scraped(figures(1.7e9, 100, 1000)));
  CHECK_FALSE(with_start_time.answered());
  with_counters.gone();
  CHECK(with_counters.scraped(figures(0, 100, 1000)));
}
