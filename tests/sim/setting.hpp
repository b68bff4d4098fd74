// Settings, fleets and clients of a run, drawn from its seed.
#pragma once

#include <fmt/format.h>

#include <cstdlib>
#include <memory>

#include "penstock/config.hpp"
#include "penstock/fleet_view.hpp"
#include "penstock/random.hpp"
#include "sim/client_actor.hpp"

namespace sim {

inline std::shared_ptr<penstock::config> settings_of(penstock::prng& rng) {
  using namespace std::chrono_literals;
  auto c = std::make_shared<penstock::config>();
  c->limits = {.head_bytes = 32768,
               .head_fields = 100,
               .body_bytes = 1 << 20,
               .body_memory = rng.below(4) == 0 ? 64u * 1024 : 64u << 20,
               .stream_buffer = rng.below(2) == 0 ? 512u : 65536u,
               .buffer_memory = rng.below(4) == 0 ? 2048u : 64u << 20,
               .held_bytes = 16384,
               .event_bytes = rng.below(4) == 0 ? 150u : 1u << 20,
               .connections = 1000,
               .idle_per_endpoint = 16,
               .retry_budget = 0.5};
  c->timeouts = {.connect = 50ms,
                 .request_head = 2s,
                 .request_body = 10s,
                 .memory_wait = 1s,
                 .body_rate = 1024,
                 .first_token = 3s,
                 .between_events = 1s,
                 .total = 60s,
                 .client_idle = 5s,
                 .engine_idle = 1s,
                 .client_stall = 5s,
                 .sse_keepalive = rng.below(2) == 0 ? penstock::duration(20ms) : penstock::duration{}};
  c->routing = {
      .table_bytes = 1 << 16, .block_bytes = 1024, .lambda = 8, .sequence_cost = 200, .load_factor = 1.25};
  c->server.half_close =
      rng.below(4) == 0 ? penstock::half_close_mode::tolerate : penstock::half_close_mode::abort;
  c->server.usage = rng.below(4) == 0 ? penstock::usage_mode::observe : penstock::usage_mode::inject;
  penstock::prng apart = rng;
  c->routing.hold = apart.below(3) == 0 ? 0ms : apart.below(2) == 0 ? 30ms : 2000ms;
  return c;
}

inline std::shared_ptr<const penstock::fleet_view> fleet_of(std::shared_ptr<const penstock::config> settings,
                                                            std::size_t engines) {
  auto fleet = std::make_shared<penstock::fleet_view>();
  fleet->version = 1;
  fleet->settings = std::move(settings);
  fleet->ready = true;
  fleet->pools.push_back({.name = "main", .models = {"*"}});
  for (std::size_t i = 0; i < engines; ++i) {
    penstock::endpoint_view e;
    e.id = {static_cast<std::uint16_t>(i), 1};
    e.settings.url = fmt::format("http://engine-{}", i);
    e.authority = fmt::format("engine-{}", i);
    e.addresses = {{.kind = penstock::net_address::family::ipv4, .port = static_cast<std::uint16_t>(i + 1)}};
    e.state = penstock::life::up;
    fleet->endpoints.push_back(e);
    fleet->pools[0].endpoints.push_back(static_cast<std::uint32_t>(i));
  }
  return fleet;
}

inline client_behaviour behaviour_of(penstock::prng& rng) {
  client_behaviour how;
  how.requests = static_cast<int>(1 + rng.below(4));
  how.pipelined = rng.below(4) == 0;
  how.stream = rng.below(5) != 0;
  how.wants_usage = rng.below(3) == 0;
  how.reads_slowly = rng.below(5) == 0;
  how.leave_chance = rng.below(3) == 0 ? 0.5 : 0;
  how.leaves_with_reset = rng.below(2) == 0;
  how.huge_body = rng.below(6) == 0;
  how.one_byte_pieces = rng.below(8) == 0;
  how.poison = rng.below(100) == 0;
  if (how.poison) how.requests = 1;
  return how;
}

inline std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace sim
