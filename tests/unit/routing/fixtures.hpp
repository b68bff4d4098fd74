// Small fleets and prompts for the tests of the routing room.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "penstock/fleet_view.hpp"
#include "penstock/random.hpp"
#include "penstock/request_facts.hpp"
#include "routing/router.hpp"

namespace penstock::routing::fixtures {

inline instant at_ms(std::int64_t ms) { return instant(std::chrono::milliseconds(ms)); }

inline routing_config settings() {
  routing_config s;
  s.table_bytes = std::uint64_t{4} << 20;
  s.block_bytes = 1024;
  s.lambda = 8;
  s.sequence_cost = 200;
  s.load_factor = 1.25;
  return s;
}

inline endpoint_view endpoint(std::uint16_t slot, std::uint32_t pool = 0, std::uint16_t generation = 0) {
  endpoint_view e;
  e.id = {slot, generation};
  e.pool = pool;
  e.settings.url = fmt::format("http://engine-{}:8000", slot);
  e.addresses.resize(1);
  e.state = life::up;
  return e;
}

// One pool that passes any model.
inline fleet_view fleet_of(std::size_t n, policy by = policy::prefix) {
  fleet_view f;
  f.version = 1;
  auto c = std::make_shared<config>();
  c->routing = settings();
  c->health.interval = std::chrono::seconds(3);
  f.settings = c;
  f.pools.push_back({"main", {"*"}, by, {}});
  for (std::size_t i = 0; i < n; ++i) {
    f.endpoints.push_back(endpoint(static_cast<std::uint16_t>(i)));
    f.pools[0].endpoints.push_back(static_cast<std::uint32_t>(i));
  }
  f.ready = true;
  return f;
}

// `blocks` blocks of 256 tokens that continue those of `before`; `name` tells prompts apart.
inline prefix_chain chain_of(std::uint64_t name, std::size_t blocks, const prefix_chain& before = {}) {
  prefix_chain c = before;
  prng keys(name * 7919 + 1);
  for (std::size_t i = 0; i < blocks; ++i) c.blocks.push_back({keys.next(), 256});
  c.tail_tokens = 20;
  return c;
}

inline request_facts request_of(prefix_chain chain, std::string model = "m") {
  request_facts f;
  f.model = std::move(model);
  f.stream = true;
  f.prompt_tokens = chain.tokens();
  f.prompts.push_back(std::move(chain));
  return f;
}

// A router with everything it needs.
struct bench {
  explicit bench(fleet_view f) : shared(settings()), route(shared), fleet(std::move(f)) {}

  plan decide(const request_facts& f, instant now = at_ms(1000)) {
    auto v = route.decide(f, fleet, now, rng);
    return std::holds_alternative<plan>(v) ? std::get<plan>(std::move(v)) : plan{};
  }
  api_error refusal(const request_facts& f, instant now = at_ms(1000)) {
    auto v = route.decide(f, fleet, now, rng);
    return std::holds_alternative<api_error>(v) ? std::get<api_error>(std::move(v)) : api_error{};
  }
  work_lease send(const request_facts& f, const candidate& to, instant now = at_ms(1000)) {
    return route.dispatched(f, fleet, to, now);
  }
  // To the first candidate, or to the one in `slot`.
  work_lease send(const request_facts& f, instant now = at_ms(1000)) {
    return send(f, decide(f, now).candidates.at(0), now);
  }
  work_lease send_to(std::uint16_t slot, const request_facts& f, instant now = at_ms(1000)) {
    const plan p = decide(f, now);
    for (const candidate& c : p.candidates) {
      if (c.endpoint.slot == slot) return send(f, c, now);
    }
    return {};
  }
  // Serves a whole request at `slot`, so that its blocks are held there.
  void serve_at(std::uint16_t slot, const request_facts& f, instant now = at_ms(1000)) {
    work_lease l = send_to(slot, f, now);
    l.first_token(now + std::chrono::milliseconds(100), true);
    l.ended(now + std::chrono::milliseconds(200), {});
  }
  std::uint16_t first(const request_facts& f, instant now = at_ms(1000)) {
    const plan p = decide(f, now);
    return p.candidates.empty() ? std::uint16_t{0xffff} : p.candidates[0].endpoint.slot;
  }

  shared_state shared;
  router route;
  fleet_view fleet;
  prng rng{42};
};

inline const candidate* find(const plan& p, std::uint16_t slot) {
  for (const candidate& c : p.candidates) {
    if (c.endpoint.slot == slot) return &c;
  }
  return nullptr;
}

}  // namespace penstock::routing::fixtures
