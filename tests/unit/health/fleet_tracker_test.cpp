#include <doctest/doctest.h>

#include <set>
#include <string>
#include <vector>

#include "health/fleet_tracker.hpp"
#include "unit/health/tracker_bench.hpp"

using namespace penstock;
using namespace penstock::health;
using namespace penstock::health::test;

TEST_CASE("a new configuration keeps the ids, lives and figures of endpoints that stay") {
  bench b(fleet({pool("a", {"http://h1", "http://h2", "http://h3"})}));
  b.resolve_all();
  b.probe(1, probe_outcome::ok);
  b.tracker.scraped(b.id(1), figures(1.7e9), b.now);
  b.tracker.models_read(b.id(1), std::vector<served_model>{{"m", "m", "", "", 0, 0}}, b.now);
  const auto h1 = b.id(0), h2 = b.id(1), h3 = b.id(2);
  b.tracker.take_events();

  // h1 goes, h4 comes, another pool moves in front, h2 gets labels and a role.
  auto next = fleet({pool("z", {"http://h2"}), pool("a", {"http://h3", "http://h4", "http://h2"})});
  next.pools[1].endpoints[2].role = endpoint_role::decode;
  next.pools[1].endpoints[2].group = "g";
  b.apply(next);
  const auto& v = *b.view;
  REQUIRE(v.endpoints.size() == 4);
  CHECK(v.endpoints[1].id == h3);
  CHECK(v.endpoints[3].id == h2);
  CHECK(v.endpoints[3].state == life::up);
  CHECK(v.endpoints[3].engine.kv_tokens == 8192);
  CHECK(v.endpoints[3].models.size() == 1);
  CHECK(v.endpoints[3].addresses.size() == 1);
  CHECK(v.endpoints[3].settings.role == endpoint_role::decode);
  CHECK(v.endpoints[3].settings.group == "g");
  CHECK(v.endpoints[3].pool == 1);
  // The same url in another pool is another endpoint.
  CHECK(v.endpoints[0].id != h2);
  CHECK(v.endpoints[0].state == life::starting);
  CHECK(b.tracker.find(h1) == nullptr);
  CHECK(b.tracker.find(h2) != nullptr);
  const auto events = b.tracker.take_events();
  REQUIRE(events.size() == 3);
  CHECK(events[0].what == fleet_event::kind::removed);
  CHECK(events[0].endpoint == h1);
  CHECK(events[0].url == "http://h1");
}

TEST_CASE("data-parallel ranks and twins of one url are endpoints of their own") {
  auto c = fleet({pool("a", {"http://h", "http://h", "http://h", "http://h"})});
  c.pools[0].endpoints[0].data_parallel_rank = 0;
  c.pools[0].endpoints[1].data_parallel_rank = 1;
  bench b(c);
  std::vector<endpoint_id> ids;
  for (std::size_t i = 0; i < 4; ++i) ids.push_back(b.id(i));
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t k = 0; k < i; ++k) CHECK(ids[i] != ids[k]);
  }
  std::swap(c.pools[0].endpoints[0], c.pools[0].endpoints[1]);
  c.pools[0].endpoints.pop_back();
  b.apply(c);
  CHECK(b.id(0) == ids[1]);
  CHECK(b.id(1) == ids[0]);
  CHECK(b.id(2) == ids[2]);
}

TEST_CASE("a removed endpoint that comes back is a new one, in a slot never used before") {
  const auto two = fleet({pool("a", {"http://h1", "http://h2"})});
  const auto one = fleet({pool("a", {"http://h2"})});
  bench b(two);
  const auto first = b.id(0);
  b.apply(one);
  b.apply(two);
  CHECK(b.id(0).slot != first.slot);
  // Over and over: every slot is used once before the first is used again, a generation later.
  std::set<std::uint16_t> slots{first.slot, b.id(0).slot, b.id(1).slot};
  while (slots.size() < max_endpoints) {
    b.apply(one);
    b.apply(two);
    CHECK(b.id(0).generation == 0);
    REQUIRE(slots.insert(b.id(0).slot).second);
  }
  b.apply(one);
  b.apply(two);
  CHECK(b.id(0) == endpoint_id{first.slot, static_cast<std::uint16_t>(first.generation + 1)});
  CHECK(b.tracker.find(first) == nullptr);
}

TEST_CASE("a fleet of the most endpoints can be replaced as a whole; one more is refused") {
  std::vector<std::string> some, others;
  for (std::size_t i = 0; i < max_endpoints; ++i) {
    some.push_back("http://a" + std::to_string(i));
    others.push_back("http://b" + std::to_string(i));
  }
  bench b(fleet({pool("p", some)}));
  b.apply(fleet({pool("p", others)}));
  CHECK(b.tracker.size() == max_endpoints);
  CHECK(b.view->endpoints[5].settings.url == "http://b5");
  CHECK(b.view->endpoints[5].id.generation == 1);
  others.push_back("http://c");
  const auto version = b.view->version;
  CHECK_FALSE(b.tracker.apply(share(fleet({pool("p", others)})), b.now));
  CHECK_FALSE(b.tracker.apply(share(fleet({pool("p", {"https://tls"})})), b.now));
  CHECK(b.tracker.changed(b.now) == view_change::none);
  CHECK(b.tracker.build_view(b.now)->version == version + 1);
  CHECK(b.tracker.size() == max_endpoints);
  CHECK(b.tracker.take_events().size() <= max_endpoints * 4);
}

TEST_CASE("tasks: names first, then everything, each given out once") {
  bench b(fleet({pool("a", {"http://h1", "unix:/s"})}));
  const auto named = b.id(0), local = b.id(1);
  auto tasks = b.tracker.due(b.now);
  CHECK(asks(tasks, named, task_kind::resolve));
  CHECK_FALSE(asks(tasks, local, task_kind::resolve));
  CHECK_FALSE(asks(tasks, named, task_kind::scrape));
  CHECK(asks(tasks, local, task_kind::scrape));
  CHECK(asks(tasks, local, task_kind::models));
  b.now += first_probe_spread;
  tasks = b.tracker.due(b.now);
  CHECK(tasks == std::vector<task>{{local, task_kind::probe}});
  b.tracker.resolved(named, {address(1)}, b.now);
  b.now += least_probe_gap;
  tasks = b.tracker.due(b.now);
  CHECK(tasks.size() == 3);
  CHECK(asks(tasks, named, task_kind::probe));
  CHECK(asks(tasks, named, task_kind::scrape));
  CHECK(asks(tasks, named, task_kind::models));
  CHECK(b.tracker.due(b.now).empty());
  CHECK(b.tracker.next_due() > b.now);
}

TEST_CASE("an answer that never comes is asked for again") {
  bench b(fleet({pool("a", {"unix:/s"})}));
  b.now += 200ms;
  CHECK(b.tracker.due(b.now).size() == 3);
  CHECK(b.tracker.next_due() == b.now + 3s);
  b.now += 3s;
  CHECK(b.tracker.due(b.now).size() == 3);
}

TEST_CASE("next_due is when due has something, through a long random life") {
  auto c = fleet({pool("a", {"http://h1", "http://h2", "unix:/s"})});
  c.pools[0].disaggregation = {.enabled = true, .connector = connector_kind::mooncake};
  c.pools[0].endpoints[1].bootstrap_port = 8998;
  bench b(c);
  prng rng{9};
  std::size_t asked = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto next = b.tracker.next_due();
    REQUIRE(next != never);
    if (next > b.now) {
      CHECK(b.tracker.due(next - 1ns).empty());
      b.now = next;
    }
    const auto tasks = b.tracker.due(b.now);
    asked += tasks.size();
    REQUIRE(b.tracker.next_due() > b.now);
    for (const auto& t : tasks) {
      if (rng.below(50) == 0) continue;  // lost
      const bool good = rng.below(3) > 0;
      b.now += std::chrono::milliseconds(rng.below(20));
      switch (t.kind) {
        case task_kind::resolve:
          b.tracker.resolved(t.endpoint,
                             good ? std::vector<net_address>{address(1)} : std::vector<net_address>{}, b.now);
          break;
        case task_kind::probe:
          b.tracker.probed(t.endpoint,
                           {good ? probe_outcome::ok : static_cast<probe_outcome>(1 + rng.below(7)), b.now},
                           b.now);
          break;
        case task_kind::scrape:
          b.tracker.scraped(t.endpoint, good ? std::optional(figures(1.7e9)) : std::nullopt, b.now);
          break;
        case task_kind::models:
          b.tracker.models_read(t.endpoint,
                                good ? std::optional<std::vector<served_model>>{std::in_place} : std::nullopt,
                                b.now);
          break;
        case task_kind::bootstrap:
          b.tracker.bootstrap_read(t.endpoint,
                                   good ? std::optional(std::vector<std::string>{"e"}) : std::nullopt, b.now);
          break;
      }
    }
    if (rng.below(4) == 0) {
      const auto id = b.id(rng.below(3));
      b.tracker.traffic(id, static_cast<traffic_outcome>(rng.below(7)), b.now, b.now);
    }
    const auto v = b.tracker.build_view(b.now);
    for (const auto& e : v->endpoints) CHECK((e.confidence >= 0 && e.confidence <= 1));
  }
  CHECK(asked > 5000);
  // Bounded asking: on average not more than a few tasks a second and endpoint.
  CHECK(static_cast<double>(asked) / penstock::seconds(b.now - t0) < 3 * 8);
}

TEST_CASE("a refusing endpoint is only probed; when it is back everything is asked at once") {
  bench b(fleet({pool("a", {"http://h1", "http://h2"})}));
  b.resolve_all();
  b.now += 1s;
  for (const auto& t : b.tracker.due(b.now)) {
    if (t.kind == task_kind::scrape) b.tracker.scraped(t.endpoint, figures(1.7e9), b.now);
    if (t.kind == task_kind::models) b.tracker.models_read(t.endpoint, std::vector<served_model>{}, b.now);
  }
  b.probe(0, probe_outcome::ok);
  b.probe(0, probe_outcome::connect_failed, 2);
  CHECK(b.state(0) == life::down);
  b.now += 20s;
  auto tasks = b.tracker.due(b.now);
  CHECK(asks(tasks, b.id(0), task_kind::probe));
  CHECK(asks(tasks, b.id(0), task_kind::resolve));
  CHECK_FALSE(asks(tasks, b.id(0), task_kind::scrape));
  CHECK_FALSE(asks(tasks, b.id(0), task_kind::models));
  b.probe(0, probe_outcome::ok);
  tasks = b.tracker.due(b.now);
  CHECK(asks(tasks, b.id(0), task_kind::scrape));
  CHECK(asks(tasks, b.id(0), task_kind::models));
}

TEST_CASE("the guard: probes never take out the last endpoint nor more than half, refusals may") {
  bench b(fleet({pool("a", {"http://h1", "http://h2", "http://h3"}), pool("b", {"http://h4"})}));
  b.resolve_all();
  for (std::size_t i = 0; i < 4; ++i) b.probe(i, probe_outcome::ok);
  for (std::size_t i = 0; i < 4; ++i) b.probe(i, probe_outcome::timeout, 5);
  CHECK(b.state(0) == life::down);
  CHECK(b.state(1) == life::suspect);
  CHECK(b.state(2) == life::suspect);
  CHECK(b.state(3) == life::suspect);
  CHECK(b.tracker.build_view(b.now)->ready);
  for (std::size_t i = 1; i < 4; ++i) b.probe(i, probe_outcome::connect_failed);
  CHECK(b.state(0) == life::suspect);  // now it is the last that accepts
  for (std::size_t i = 1; i < 4; ++i) CHECK(b.state(i) == life::down);
  CHECK(b.tracker.build_view(b.now)->ready);
  b.probe(0, probe_outcome::connect_failed);
  CHECK_FALSE(b.tracker.build_view(b.now)->ready);
}

TEST_CASE("outliers never take an endpoint out") {
  bench b(fleet({pool("a", {"http://h1", "http://h2"})}));
  b.resolve_all();
  for (std::size_t i = 0; i < 2; ++i) {
    b.probe(i, probe_outcome::ok);
    for (int k = 0; k < 100; ++k) b.tracker.traffic(b.id(i), traffic_outcome::server_error, b.now, b.now);
    CHECK(b.state(i) == life::suspect);
  }
  b.now += 10s;
  b.tracker.due(b.now);
  CHECK(b.state(0) == life::up);
  CHECK(b.state(1) == life::up);
}

TEST_CASE("life changes are told once, with before and after") {
  bench b(fleet({pool("a", {"http://h1", "http://h2"})}));
  b.resolve_all();
  b.tracker.take_events();
  b.probe(0, probe_outcome::ok, 3);
  const auto events = b.tracker.take_events();
  REQUIRE(events.size() == 1);
  CHECK(events[0].what == fleet_event::kind::life_changed);
  CHECK(events[0].before == life::starting);
  CHECK(events[0].after == life::up);
  CHECK(events[0].endpoint == b.id(0));
  CHECK(events[0].url == "http://h1");
}

TEST_CASE("a restart is told, counted, and asks for the models again") {
  bench b(fleet({pool("a", {"unix:/s", "unix:/t"})}));
  b.now += 1s;
  for (const auto& t : b.tracker.due(b.now)) {
    if (t.kind == task_kind::models) b.tracker.models_read(t.endpoint, std::vector<served_model>{}, b.now);
  }
  b.probe(0, probe_outcome::ok);
  b.tracker.scraped(b.id(0), figures(1.7e9), b.now);
  b.tracker.take_events();
  b.tracker.scraped(b.id(0), figures(1.7e9), b.now);
  CHECK(b.count(fleet_event::kind::restarted) == 0);
  b.tracker.build_view(b.now);
  auto other = figures(1.7e9 + 50, 3);
  other.kv_tokens = 0;  // not measured yet
  b.tracker.scraped(b.id(0), other, b.now);
  CHECK(b.tracker.changed(b.now) == view_change::urgent);
  CHECK(b.count(fleet_event::kind::restarted) == 1);
  const auto v = b.tracker.build_view(b.now);
  CHECK(v->endpoints[0].epoch == 1);
  CHECK(v->endpoints[0].engine.kv_tokens == 0);  // the new process may have another size
  CHECK(v->endpoints[1].epoch == 0);
  CHECK(asks(b.tracker.due(b.now), b.id(0), task_kind::models));
}

TEST_CASE("hand-offs that an engine saw read after their lease are told, each once") {
  bench b(fleet({pool("a", {"unix:/s"})}));
  b.probe(0, probe_outcome::ok);
  const auto told = [&b](double late, double start = 1.7e9) {
    engine_state s = figures(start);
    s.handoffs_late = late;
    b.now += 1s;
    b.tracker.scraped(b.id(0), s, b.now);
    std::uint64_t sum = 0;
    for (const fleet_event& e : b.tracker.take_events())
      if (e.what == fleet_event::kind::read_late) sum += e.count;
    return sum;
  };
  CHECK(told(4) == 0);  // before our time
  CHECK(told(4) == 0);
  CHECK(told(6) == 2);
  CHECK(told(-1) == 0);  // not told, or absurd
  CHECK(told(7) == 1);
  CHECK(told(2, 1.7e9 + 50) == 2);  // another process
  CHECK(told(3, 1.7e9 + 50) == 1);

  bench other(fleet({pool("a", {"unix:/s"})}));
  other.tracker.scraped(other.id(0), figures(1.7e9), other.now);  // has no such counter until it counts
  engine_state s = figures(1.7e9);
  s.handoffs_late = 1;
  other.tracker.scraped(other.id(0), s, other.now);
  CHECK(other.count(fleet_event::kind::read_late) == 1);
}

TEST_CASE("an engine without figures that refused connections counts as restarted when it is back") {
  bench b(fleet({pool("a", {"unix:/s"})}));
  b.probe(0, probe_outcome::ok);
  b.tracker.take_events();
  b.probe(0, probe_outcome::connect_failed);
  CHECK(b.count(fleet_event::kind::restarted) == 0);
  b.probe(0, probe_outcome::ok);
  CHECK(b.count(fleet_event::kind::restarted) == 1);

  // The same seen by traffic alone.
  b.tracker.traffic(b.id(0), traffic_outcome::connect_failed, b.now, b.now);
  b.now += 1s;
  b.tracker.traffic(b.id(0), traffic_outcome::ok, b.now, b.now);
  CHECK(b.count(fleet_event::kind::restarted) == 1);
}

TEST_CASE("an engine that was back without its metrics counts as restarted after some failed scrapes") {
  bench b(fleet({pool("a", {"unix:/s"})}));
  b.probe(0, probe_outcome::ok);
  b.tracker.scraped(b.id(0), figures(1.7e9), b.now);
  b.probe(0, probe_outcome::connect_failed);
  b.probe(0, probe_outcome::ok);
  b.tracker.take_events();
  b.tracker.scraped(b.id(0), std::nullopt, b.now);
  b.tracker.scraped(b.id(0), std::nullopt, b.now);
  CHECK(b.count(fleet_event::kind::restarted) == 0);
  b.tracker.scraped(b.id(0), std::nullopt, b.now);
  b.tracker.scraped(b.id(0), std::nullopt, b.now);
  CHECK(b.count(fleet_event::kind::restarted) == 1);
}

TEST_CASE("inputs for endpoints that are gone are ignored") {
  bench b(fleet({pool("a", {"unix:/s"})}));
  const auto gone = b.id(0);
  b.apply(fleet({pool("a", {"unix:/t"})}));
  for (const auto id : {gone, endpoint_id{}, endpoint_id{0xfffe, 0}, endpoint_id{b.id(0).slot, 99}}) {
    b.tracker.resolved(id, {address(1)}, b.now);
    b.tracker.probed(id, {probe_outcome::ok, b.now}, b.now);
    b.tracker.scraped(id, figures(1), b.now);
    b.tracker.models_read(id, std::vector<served_model>{}, b.now);
    b.tracker.traffic(id, traffic_outcome::ok, b.now, b.now);
    CHECK(b.tracker.find(id) == nullptr);
  }
  CHECK(b.tracker.changed(b.now) == view_change::none);
  CHECK(b.state(0) == life::starting);
}

TEST_CASE("events that nobody takes are bounded") {
  bench b(fleet({pool("a", {"unix:/s"})}));
  for (int i = 0; i < 20000; ++i) b.tracker.drain(b.id(0), i % 2 == 0);
  const auto events = b.tracker.take_events();
  CHECK(events.size() <= max_endpoints * 4);
  CHECK(events.back().after == life::starting);
}

TEST_CASE("another key or other headers: everything is asked again at once, the state stays") {
  auto c = fleet({pool("a", {"unix:/s"})});
  bench b(c);
  b.now += 1s;
  for (const auto& t : b.tracker.due(b.now)) {
    if (t.kind == task_kind::scrape) b.tracker.scraped(t.endpoint, figures(1.7e9), b.now);
    if (t.kind == task_kind::models) b.tracker.models_read(t.endpoint, std::vector<served_model>{}, b.now);
    if (t.kind == task_kind::probe) b.tracker.probed(t.endpoint, {probe_outcome::ok, b.now}, b.now);
  }
  b.now += least_probe_gap;
  b.apply(c);
  CHECK(b.tracker.due(b.now).empty());
  c.pools[0].endpoints[0].api_key = "new";
  b.apply(c);
  CHECK(b.tracker.due(b.now).size() == 3);
  CHECK(b.state(0) == life::up);
}

TEST_CASE("new health settings reach the endpoints that stay") {
  auto c = fleet({pool("a", {"unix:/s"})});
  c.health.interval = c.health.scrape_interval = c.health.models_interval = 100s;
  bench b(c);
  b.now += 1s;
  for (const auto& t : b.tracker.due(b.now)) {
    if (t.kind == task_kind::scrape) b.tracker.scraped(t.endpoint, figures(1.7e9), b.now);
    if (t.kind == task_kind::models) b.tracker.models_read(t.endpoint, std::vector<served_model>{}, b.now);
    if (t.kind == task_kind::probe) b.tracker.probed(t.endpoint, {probe_outcome::ok, b.now}, b.now);
  }
  b.now += 5s;
  CHECK(b.tracker.due(b.now).empty());
  SUBCASE("probes") { c.health.interval = 1s; }
  SUBCASE("scrapes") { c.health.scrape_interval = 1s; }
  SUBCASE("models") { c.health.models_interval = 1s; }
  b.apply(c);
  b.now += 3s;
  CHECK(b.tracker.due(b.now).size() == 1);
}

TEST_CASE("an engine that comes up after the proxy is no restart") {
  bench b(fleet({pool("a", {"unix:/s"})}));
  b.probe(0, probe_outcome::connect_failed, 3);
  CHECK(b.state(0) == life::down);
  b.probe(0, probe_outcome::ok, 2);
  b.tracker.scraped(b.id(0), figures(1.7e9), b.now);
  CHECK(b.state(0) == life::up);
  CHECK(b.count(fleet_event::kind::restarted) == 0);
}

TEST_CASE("the bootstrap server of a prefill engine is asked as often as the engine is probed") {
  auto c = fleet({pool("a", {"unix:/p", "unix:/d"})});
  c.pools[0].disaggregation = {.enabled = true, .connector = connector_kind::mooncake};
  c.pools[0].endpoints[0].bootstrap_host = "b";
  c.pools[0].endpoints[0].bootstrap_port = 8998;
  bench b(c);
  const auto ask = [&b](std::size_t i) { return asks(b.tracker.due(b.now), b.id(i), task_kind::bootstrap); };
  CHECK_FALSE(asks(b.tracker.due(b.now), b.id(1), task_kind::bootstrap));
  b.tracker.probed(b.id(0), {probe_outcome::ok, b.now}, b.now);
  b.tracker.bootstrap_read(b.id(0), std::vector<std::string>{"one"}, b.now);
  CHECK(b.tracker.changed(b.now) == view_change::urgent);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].rank_ids == std::vector<std::string>{"one"});
  // No answer is no other answer; another engine behind the address is.
  b.now += 2 * c.health.interval;
  CHECK(ask(0));
  b.tracker.bootstrap_read(b.id(0), std::nullopt, b.now);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].rank_ids.size() == 1);
  b.now += 2 * c.health.interval;
  CHECK(ask(0));
  b.tracker.bootstrap_read(b.id(0), std::vector<std::string>{"two"}, b.now);
  CHECK(b.tracker.build_view(b.now)->endpoints[0].rank_ids[0] == "two");
  c.pools[0].endpoints[0].bootstrap_port = 8999;
  b.apply(c);
  CHECK(b.view->endpoints[0].rank_ids.empty());
  CHECK(ask(0));
}
