#include <doctest/doctest.h>

#include <vector>

#include "health/fleet_tracker.hpp"
#include "unit/health/tracker_bench.hpp"

using namespace penstock;
using namespace penstock::health;
using namespace penstock::health::test;

TEST_CASE("the first view: pools, endpoints, authorities, ids") {
  auto c = fleet({pool("a", {"http://h1:8000/v", "unix:/run/e.sock"}), pool("b", {"http://h2"})});
  c.pools[1].route = policy::random;
  bench b(c);
  const auto& v = *b.view;
  REQUIRE(v.pools.size() == 2);
  CHECK(v.pools[0].name == "a");
  CHECK(v.pools[0].endpoints == std::vector<std::uint32_t>{0, 1});
  CHECK(v.pools[1].endpoints == std::vector<std::uint32_t>{2});
  CHECK(v.pools[1].route == policy::random);
  REQUIRE(v.endpoints.size() == 3);
  CHECK(v.endpoints[0].authority == "h1:8000");
  CHECK(v.endpoints[0].path_prefix == "/v");
  CHECK(v.endpoints[0].addresses.empty());
  REQUIRE(v.endpoints[1].addresses.size() == 1);
  CHECK(v.endpoints[1].addresses[0].kind == net_address::family::unix_path);
  CHECK(v.endpoints[1].addresses[0].path == "/run/e.sock");
  CHECK(v.endpoints[2].pool == 1);
  for (const auto& e : v.endpoints) {
    CHECK(e.state == life::starting);
    CHECK(e.confidence == doctest::Approx(0.8));
  }
  CHECK(v.ready);
  CHECK(v.settings->pools.size() == 2);
  CHECK(v.version == 1);
  CHECK(b.count(fleet_event::kind::added) == 3);
}

TEST_CASE("without a configuration there is a view, and it is not ready") {
  fleet_tracker tracker(1);
  CHECK(tracker.changed(t0) == view_change::urgent);
  const auto v = tracker.build_view(t0);
  CHECK_FALSE(v->ready);
  CHECK(v->endpoints.empty());
  CHECK(tracker.due(t0).empty());
  CHECK(tracker.next_due() == never);
  CHECK(tracker.changed(t0 + 1h) == view_change::none);
}

TEST_CASE("trust in scrapes falls with age and failures, to a half and no further") {
  CHECK(scrape_trust(0s, 0, 1s) == 1);
  CHECK(scrape_trust(3s, 0, 1s) == 1);
  CHECK(scrape_trust(6500ms, 0, 1s) == doctest::Approx(0.75));
  CHECK(scrape_trust(10s, 0, 1s) == 0.5);
  CHECK(scrape_trust(1000h, 0, 1s) == 0.5);
  CHECK(scrape_trust(0s, 1, 1s) == doctest::Approx(0.9));
  CHECK(scrape_trust(0s, 3, 1s) == doctest::Approx(0.7));
  CHECK(scrape_trust(0s, 30, 1s) == 0.5);
  CHECK(scrape_trust(1000h, 30, 1s) == 0.5);
  CHECK(scrape_trust(1000h, 30, 0s) == 1);
}

TEST_CASE("failed scrapes lower the confidence, keep the figures and never take an endpoint out") {
  bench b(fleet({pool("a", {"unix:/s"})}));
  b.probe(0, probe_outcome::ok);
  b.tracker.scraped(b.id(0), figures(1.7e9), b.now);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].confidence == 1);
  auto last = 1.0;
  for (int i = 0; i < 50; ++i) {
    b.tracker.scraped(b.id(0), std::nullopt, b.now);
    const auto v = b.tracker.build_view(b.now);
    CHECK(v->endpoints[0].confidence <= last);
    CHECK(v->endpoints[0].confidence >= 0.5);
    CHECK(v->endpoints[0].state == life::up);
    CHECK(v->endpoints[0].engine.kv_tokens == 8192);
    last = v->endpoints[0].confidence;
  }
  CHECK(last == 0.5);
  // A page without known figures is a failed scrape too.
  b.tracker.scraped(b.id(0), figures(1.7e9), b.now);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].confidence == 1);
  b.tracker.scraped(b.id(0), engine_state{}, b.now);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].confidence == doctest::Approx(0.9));
  CHECK(b.tracker.build_view(b.now)->endpoints[0].engine.running == 1);
  // Answers of its own say more than metrics do, as long as they are fresh.
  b.tracker.traffic(b.id(0), traffic_outcome::reset, b.now, b.now);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].confidence == doctest::Approx(0.9));
  b.tracker.traffic(b.id(0), traffic_outcome::token_seen, b.now, b.now);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].confidence == 1);
  CHECK(b.tracker.build_view(b.now + 3s)->endpoints[0].confidence == 1);
  CHECK(b.tracker.build_view(b.now + 4s)->endpoints[0].confidence == doctest::Approx(0.9));
}

TEST_CASE("confidence that fades by age alone asks for a view") {
  bench b(fleet({pool("a", {"unix:/s"})}));
  b.probe(0, probe_outcome::ok);
  b.tracker.scraped(b.id(0), figures(1.7e9), b.now);
  CHECK(b.tracker.changed(b.now) == view_change::figures);
  b.tracker.build_view(b.now);
  CHECK(b.tracker.changed(b.now + 3s) == view_change::none);
  CHECK(b.tracker.changed(b.now + 5s) == view_change::figures);
  CHECK(b.tracker.build_view(b.now + 5s)->endpoints[0].confidence < 1);
  CHECK(b.tracker.changed(b.now + 5s) == view_change::none);
  b.tracker.scraped(b.id(0), figures(1.7e9), b.now + 5s);
  CHECK(b.tracker.changed(b.now + 5s) == view_change::figures);
}

TEST_CASE("a scrape that lacks the capacity does not forget it") {
  bench b(fleet({pool("a", {"unix:/s"})}));
  b.tracker.scraped(b.id(0), figures(1.7e9), b.now);
  auto partial = figures(1.7e9, 200);
  partial.kv_tokens = 0;
  b.tracker.scraped(b.id(0), partial, b.now);
  const auto v = b.tracker.build_view(b.now);
  CHECK(v->endpoints[0].engine.kv_tokens == 8192);
  CHECK(v->endpoints[0].engine.prefix_queries == 200);
}

TEST_CASE("addresses: a failed resolution keeps the known ones, rotation is no change, a move is") {
  bench b(fleet({pool("a", {"http://h"})}));
  const auto id = b.id(0);
  b.tracker.resolved(id, {}, b.now);
  CHECK(b.state(0) == life::down);
  b.tracker.resolved(id, {address(1), address(2)}, b.now);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].addresses.size() == 2);
  b.probe(0, probe_outcome::ok, 2);
  CHECK(b.state(0) == life::up);
  b.tracker.resolved(id, {}, b.now);
  CHECK(b.state(0) == life::up);
  b.tracker.build_view(b.now);
  b.tracker.resolved(id, {address(2), address(1)}, b.now);
  CHECK(b.tracker.changed(b.now) == view_change::none);
  b.tracker.take_events();
  b.tracker.resolved(id, {address(9)}, b.now);
  CHECK(b.tracker.changed(b.now) == view_change::urgent);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].addresses == std::vector<net_address>{address(9)});
  b.probe(0, probe_outcome::ok);
  CHECK(b.count(fleet_event::kind::restarted) == 1);  // no address in common: another machine
  b.tracker.resolved(id, std::vector<net_address>(5000, address(9)), b.now);
  CHECK(b.tracker.find(id)->addresses.size() <= 64);
}

TEST_CASE("drain marks") {
  bench b(fleet({pool("a", {"unix:/s", "unix:/t"})}));
  b.probe(0, probe_outcome::ok);
  b.probe(1, probe_outcome::ok);
  CHECK(b.tracker.drain(b.id(0), true));
  CHECK(b.state(0) == life::draining);
  CHECK(b.state(1) == life::up);
  CHECK(b.tracker.build_view(b.now)->ready);
  b.apply(b.settings);  // a reload keeps the mark
  CHECK(b.state(0) == life::draining);
  CHECK(b.tracker.drain(b.id(1), true));
  CHECK_FALSE(b.tracker.build_view(b.now)->ready);
  CHECK(b.tracker.drain(b.id(0), false));
  CHECK(b.state(0) == life::up);
  CHECK(b.tracker.build_view(b.now)->ready);
  CHECK_FALSE(b.tracker.drain({17, 3}, true));

  b.tracker.drain_all(true);
  CHECK(b.tracker.changed(b.now) == view_change::urgent);
  const auto v = b.tracker.build_view(b.now);
  CHECK(v->draining);
  CHECK_FALSE(v->ready);
  CHECK(v->endpoints[0].state == life::up);
}

TEST_CASE("models: a failed fetch keeps the list, the same list is no change") {
  bench b(fleet({pool("a", {"unix:/s"})}));
  const std::vector<served_model> list = {{"m", "m", "", "vllm", 4096, 1}};
  b.tracker.models_read(b.id(0), list, b.now);
  CHECK(b.tracker.changed(b.now) == view_change::urgent);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].models_known);
  b.tracker.models_read(b.id(0), list, b.now);
  b.tracker.models_read(b.id(0), std::nullopt, b.now);
  CHECK(b.tracker.changed(b.now) == view_change::none);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].models.size() == 1);
  auto changed = list;
  changed[0].max_model_len = 1;
  b.tracker.models_read(b.id(0), changed, b.now);
  CHECK(b.tracker.changed(b.now) == view_change::urgent);
}

TEST_CASE("another engine label drops the figures without crying restart") {
  auto c = fleet({pool("a", {"unix:/s"})});
  bench b(c);
  b.tracker.scraped(b.id(0), figures(1.7e9, 1000), b.now);
  b.tracker.take_events();
  c.pools[0].endpoints[0].engine_label = "1";
  b.apply(c);
  CHECK(b.view->endpoints[0].engine.kv_tokens == 0);
  b.tracker.scraped(b.id(0), figures(1.7e9, 5), b.now);
  CHECK(b.count(fleet_event::kind::restarted) == 0);
}
