// Quantiles, intervals, and the JSON that programs read.
#include "figures.hpp"

#include <doctest/doctest.h>
#include <simdjson.h>

#include <cmath>

using namespace penstock;
using namespace penstock::lab;

TEST_CASE("quantiles by nearest rank") {
  std::vector<float> v{4, 1, 3, 2};
  CHECK(quantile(v, 0.5) == 2);
  CHECK(quantile(v, 0.99) == 4);
  CHECK(quantile(v, 0) == 1);
  std::vector<float> none;
  CHECK(quantile(none, 0.5) == 0);
}

TEST_CASE("the histogram is right within its bins") {
  histogram h;
  for (int i = 1; i <= 10000; ++i) h.add(i * 1e-4);
  CHECK(h.quantile(0.5) == doctest::Approx(0.5).epsilon(0.011));
  CHECK(h.quantile(0.99) == doctest::Approx(0.99).epsilon(0.011));
  histogram twice = h;
  twice.merge(h);
  CHECK(twice.total() == 20000);
  CHECK(twice.quantile(0.5) == doctest::Approx(h.quantile(0.5)));
}

TEST_CASE("figures of a run") {
  run_result r;
  r.ttft_s = {1, 2, 3, 6};
  r.pace_s = {0.01F, 0.2F, 0.01F, -1};
  r.served = 4;
  r.failed = 1;
  r.split = 1;
  r.prompt_tokens = 100;
  r.cached_tokens = 25;
  r.computed = {30, 10};
  const figures f = figures_of(r, {std::chrono::seconds(2), std::chrono::milliseconds(50)});
  CHECK(f.mean == 3);
  CHECK(f.p50 == 2);
  CHECK(f.p99 == 6);
  CHECK(f.hit_rate == 0.25);
  CHECK(f.within_slo == doctest::Approx(0.4));  // a failure is no success
  CHECK(f.goodput == doctest::Approx(0.2));     // the second was soon enough and then too slow
  CHECK(f.split == 0.25);
  CHECK(f.imbalance == 1.5);
}

TEST_CASE("paired seeds tell a small steady gain from chance") {
  policy_runs slow{"sticky", {}}, fast{"prefix", {}};
  for (int i = 0; i < 8; ++i) {
    figures f;
    f.mean = 1 + 0.5 * i;
    slow.seeds.push_back(f);
    f.mean *= 0.97 + 0.002 * (i % 3);
    fast.seeds.push_back(f);
  }
  const interval r = paired_ratio(fast, slow, &figures::mean);
  CHECK(r.value == doctest::Approx(0.972).epsilon(0.002));
  CHECK(r.low < r.value);
  CHECK(r.high > r.value);
  CHECK(r.high < 0.98);
  CHECK(paired_ratio(fast, slow, &figures::mean).low == r.low);
}

TEST_CASE("the JSON holds one object a policy with the promised members") {
  figures f;
  f.mean = 0.5;
  f.requests = 10;
  const policy_runs all[] = {{"sticky", {f, f}}, {"prefix", {f, f}}};
  const std::string text = json_of(all);
  simdjson::dom::parser parser;
  simdjson::dom::array list;
  REQUIRE(parser.parse(text).get(list) == simdjson::SUCCESS);
  REQUIRE(list.size() == 2);
  for (const auto one : list) {
    for (const char* member :
         {"ttft_mean_s", "ttft_p50_s", "ttft_p90_s", "ttft_p99_s", "itl_p99_s", "hit_rate"}) {
      double value = -1;
      CHECK(one[member].get(value) == simdjson::SUCCESS);
    }
    std::uint64_t requests = 0;
    CHECK(one["requests"].get(requests) == simdjson::SUCCESS);
    CHECK(requests == 20);
  }
  CHECK(best_listed(all) == &all[0]);
}
