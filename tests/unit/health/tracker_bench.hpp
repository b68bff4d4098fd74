// A fleet tracker with a clock of its own, for the tests of its parts.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "health/fleet_tracker.hpp"

namespace penstock::health::test {

using namespace std::chrono_literals;

inline const instant t0 = instant{} + 1000s;

inline pool_config pool(const std::string& name, const std::vector<std::string>& urls) {
  pool_config p;
  p.name = name;
  p.models = {"*"};
  for (const auto& url : urls) {
    endpoint_config e;
    e.url = url;
    // As src/proxy/config takes it apart.
    if (url.starts_with("unix:")) {
      e.address = {.unix_path = url.substr(5), .authority = "localhost"};
    } else if (url.starts_with("http://")) {
      const std::string rest = url.substr(7);
      const auto slash = std::min(rest.find('/'), rest.size()), colon = rest.find(':');
      const auto port = colon < slash ? std::stoi(rest.substr(colon + 1)) : 80;
      e.address = {.host = rest.substr(0, std::min(colon, slash)),
                   .port = static_cast<std::uint16_t>(port),
                   .prefix = rest.substr(slash),
                   .authority = rest.substr(0, slash)};
    }
    p.endpoints.push_back(e);
  }
  return p;
}

inline config fleet(std::vector<pool_config> pools) {
  config c;
  c.health.interval = 4s;
  c.health.timeout = 1s;
  c.health.rise = 2;
  c.health.fall = 2;
  c.health.passive_failures = 3;
  c.health.suspect_for = 10s;
  c.health.token_grace = 5s;
  c.health.scrape_interval = 1s;
  c.health.models_interval = 30s;
  c.pools = std::move(pools);
  return c;
}

inline std::shared_ptr<const config> share(config c) { return std::make_shared<const config>(std::move(c)); }

inline net_address address(std::uint8_t last) {
  net_address a;
  a.kind = net_address::family::ipv4;
  a.ip = {10, 0, 0, last};
  a.port = 8000;
  return a;
}

inline engine_state figures(double start, double queries = 100) {
  engine_state s;
  s.running = 1;
  s.kv_tokens = 8192;
  s.start_time_s = start;
  s.prefix_queries = queries;
  s.scraped_at = t0;
  return s;
}

// A tracker with its clock and the endpoints in the order of the configuration.
struct bench {
  explicit bench(config c) : settings(std::move(c)) { apply(settings); }

  void apply(const config& c) {
    REQUIRE(tracker.apply(share(c), now));
    view = tracker.build_view(now);
  }
  endpoint_id id(std::size_t i) { return tracker.build_view(now)->endpoints.at(i).id; }
  void resolve_all() {
    const auto fresh = tracker.build_view(now);
    for (const auto& e : fresh->endpoints) {
      tracker.resolved(e.id, {address(static_cast<std::uint8_t>(e.id.slot + 1))}, now);
    }
  }
  void probe(std::size_t i, probe_outcome o, int times = 1) {
    for (; times > 0; --times) {
      now += 1s;
      tracker.probed(id(i), {o, now}, now);
    }
  }
  life state(std::size_t i) { return tracker.build_view(now)->endpoints.at(i).state; }
  std::size_t count(fleet_event::kind what) {
    const auto events = tracker.take_events();
    return static_cast<std::size_t>(
        std::count_if(events.begin(), events.end(), [&](const fleet_event& e) { return e.what == what; }));
  }

  config settings;
  instant now = t0;
  fleet_tracker tracker{42};
  std::shared_ptr<const fleet_view> view;
};

inline bool asks(const std::vector<task>& tasks, endpoint_id id, task_kind kind) {
  return std::find(tasks.begin(), tasks.end(), task{id, kind}) != tasks.end();
}

}  // namespace penstock::health::test
