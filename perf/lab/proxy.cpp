#include "proxy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <variant>

#include "prompts.hpp"
#include "proxy/config/load.hpp"

namespace penstock::lab {
namespace {

constexpr double tokens_of_a_request = 2048;  // what turns our queue into a load that counts requests
constexpr duration suspicion = std::chrono::seconds(1);             // as proxy/worker has it
constexpr duration view_interval = std::chrono::milliseconds(100);  // as proxy/io has it

std::string disaggregation_of(std::int64_t split) {
  const std::string value = split == split_by_cost  ? "\"cost\""
                            : split == split_always ? "\"always\""
                            : split == split_never  ? "\"never\""
                                                    : fmt::format("{}", split);
  return fmt::format("[pool.disaggregation]\nconnector = \"nixl\"\nsplit = {}\n", value);
}

std::string_view role_name(endpoint_role role) {
  return role == endpoint_role::prefill ? "prefill" : role == endpoint_role::decode ? "decode" : "both";
}

std::shared_ptr<const config> settings_of(const proxy_settings& how) {
  std::string text = "[routing]\n";
  if (how.block_bytes != 0) text += fmt::format("block_bytes = {}\n", how.block_bytes);
  if (how.policy.lambda) text += fmt::format("lambda = {:.3f}\n", *how.policy.lambda);
  if (how.policy.sequence_cost) text += fmt::format("sequence_cost = {:.3f}\n", *how.policy.sequence_cost);
  if (how.policy.hold) text += fmt::format("hold = \"{:.0f}ms\"\n", *how.policy.hold * 1000);
  text += "[health]\n";
  if (how.scrape_interval != duration{})
    text += fmt::format("scrape_interval = \"{}ms\"\n", how.scrape_interval.count() / 1000000);
  text +=
      fmt::format("[[pool]]\nname = \"lab\"\nmodels = [\"*\"]\npolicy = \"{}\"\n", name(how.policy.route));
  if (!how.roles.empty()) text += disaggregation_of(how.policy.split.value_or(split_by_cost));
  for (std::uint32_t i = 0; i < how.engines; ++i) {
    text += fmt::format("[[pool.endpoint]]\nurl = \"http://127.0.0.1:{}\"\n", how.first_port + i);
    if (!how.roles.empty()) text += fmt::format("role = \"{}\"\n", role_name(how.roles[i]));
  }
  const conf::loaded got = conf::load(text, "lab", [](std::string_view) { return std::nullopt; });
  if (!got.value) throw std::invalid_argument(conf::to_string(got.errors.at(0)));
  return got.value;
}

}  // namespace

proxy::proxy(const proxy_settings& how, const engine_side& engines)
    : how_(how), engines_(engines), settings_(settings_of(how)), tracker_(how.seed), rng_(how.seed) {
  shared_ = std::make_unique<routing::shared_state>(settings_->routing);
  router_ = std::make_unique<routing::router>(*shared_);
  const bool bounded_by_total = how.policy.chosen != nullptr && how.policy.chosen->name == "cache_aware";
  // SMG keeps one tree of 67,108,864 characters a model; the others size an index by the engine.
  const std::uint64_t tokens = bounded_by_total ? 67108864 / 4 / how.engines : how.kv_tokens;
  for (std::uint32_t i = 0; i < how.engines; ++i) own_.push_back({prefix_lru(tokens)});
  told_token_.assign(how.engines, instant{});
}

std::uint32_t proxy::engine_of(endpoint_id id) const {
  for (std::size_t i = 0; i < fleet_->endpoints.size(); ++i) {
    if (fleet_->endpoints[i].id == id) return static_cast<std::uint32_t>(i);
  }
  return 0;
}

instant proxy::control(instant now) {
  if (!fleet_) {
    tracker_.apply(settings_, now);
    fleet_ = tracker_.build_view(now);
  }
  for (const health::task& t : tracker_.due(now)) {
    const std::uint32_t engine = engine_of(t.endpoint);
    const bool up = engines_.reachable(engine);
    switch (t.kind) {
      case health::task_kind::resolve:
        tracker_.resolved(t.endpoint, {{.kind = net_address::family::ipv4, .port = 1}}, now);
        break;
      case health::task_kind::probe:
        tracker_.probed(t.endpoint,
                        {up ? health::probe_outcome::ok : health::probe_outcome::connect_failed, now}, now);
        break;
      case health::task_kind::scrape:
        tracker_.scraped(t.endpoint, up ? engines_.scrape(engine, now) : std::nullopt, now);
        break;
      case health::task_kind::models:
        if (up) {
          tracker_.models_read(t.endpoint, std::vector<served_model>{{.id = model_name}}, now);
        } else {
          tracker_.models_read(t.endpoint, std::nullopt, now);
        }
        break;
      case health::task_kind::bootstrap: tracker_.bootstrap_read(t.endpoint, std::nullopt, now); break;
    }
  }
  refresh(now);
  return tracker_.next_due();
}

void proxy::refresh(instant now) {
  const health::view_change change = tracker_.changed(now);
  if (change == health::view_change::none) return;
  if (change == health::view_change::figures && now - viewed_ < view_interval) return;
  viewed_ = now;
  fleet_ = tracker_.build_view(now);
}

void proxy::decide(passage& p, const request& r, instant now) {
  refresh(now);
  if (p.facts.prompts.empty()) {
    p.facts = facts_of(r, block_bytes(), estimator_);
    if (how_.policy.hash_session) p.facts.affinity = fmt::format("session-{}", r.session);
  }
  for (std::uint32_t i = 0; how_.told_speeds && i < fleet_->endpoints.size(); ++i)
    shared_->board.tell_speed(fleet_->endpoints[i].id, engines_.true_speed(i));
  p.order.clear();
  auto found = router_->decide(p.facts, *fleet_, now, rng_);
  if (auto* plan = std::get_if<penstock::plan>(&found)) {
    p.should_wait = how_.policy.by == brain::router && router_->should_wait(*plan, *fleet_);
    p.order = std::move(plan->candidates);
    p.prefills = std::move(plan->prefills);
    p.telling = plan->telling_key;
  }
  if (p.order.empty() || how_.policy.by == brain::router) return;
  if (how_.policy.by == brain::oracle) {
    ask_oracle(p);
  } else {
    ask_rule(p, r);
  }
}

std::optional<instant> proxy::hold_back(passage& p, instant now) {
  if (p.waited || !p.should_wait) return {};
  const duration longest = settings_->routing.hold;
  const candidate& to = p.order.front();
  p.lease = router_->reserve(p.facts, *fleet_, to, now);
  p.turn.owner = &p;
  held_.add(p.turn, to.endpoint, p.lease.hold(p.telling), now, longest);
  return now + longest;
}

passage* proxy::next_turn(instant now) {
  if (held_.empty()) return nullptr;
  auto* const t = held_.next(now, [this](endpoint_id e) { return !router_->has_enough(e); });
  if (t == nullptr) return nullptr;
  auto* const p = static_cast<passage*>(t->owner);
  p->waited = true;
  if (router_->doubts(p->lease.endpoint(), *fleet_, now)) p->lease = {};
  p->lease.send();
  if (p->lease) router_->turn_came(p->order.front());
  return p;
}

void proxy::ask_rule(passage& p, const request& r) {
  std::vector<sight> sights;
  const std::vector<prefix_block>& chain = p.facts.prompts[0].blocks;
  for (const candidate& c : p.order) {
    sight s;
    s.engine = engine_of(c.endpoint);
    const own_state& own = own_[s.engine];
    s.served = own.served;
    if (how_.policy.ours) {
      s.queued = c.queue_tokens;
      s.requests = c.requests;
      s.load = c.queue_tokens / tokens_of_a_request;
      s.hit = c.hit_tokens;
    } else {
      s.queued = own.queued;
      s.load = s.requests = own.requests;
      s.hit = own.index.match(chain);
    }
    s.uncached = p.facts.prompt_tokens - std::min(p.facts.prompt_tokens, s.hit);
    sights.push_back(s);
  }
  // Engines come in the order of the router's ranking, which must not break a rule's ties.
  std::vector<std::size_t> place(sights.size());
  for (std::size_t i = 0; i < place.size(); ++i) place[i] = i;
  std::sort(place.begin(), place.end(),
            [&](std::size_t a, std::size_t b) { return sights[a].engine < sights[b].engine; });
  std::vector<sight> sorted;
  for (const std::size_t i : place) sorted.push_back(sights[i]);
  question q;
  q.engines = sorted;
  q.prompt_tokens = std::max<std::uint64_t>(p.facts.prompt_tokens, 1);
  q.user_key = r.segments[std::min<std::size_t>(r.user_segment, r.segments.size() - 1)].id;
  q.peak_rate = how_.peak_rate;
  q.parameter = how_.policy.parameter;
  const std::size_t chosen = place[how_.policy.chosen->choose(q, rng_)];
  p.booked = sights[chosen].uncached;
  std::rotate(p.order.begin(), p.order.begin() + static_cast<std::ptrdiff_t>(chosen),
              p.order.begin() + static_cast<std::ptrdiff_t>(chosen) + 1);
}

void proxy::ask_oracle(passage& p) {
  std::sort(p.order.begin(), p.order.end(), [&](const candidate& a, const candidate& b) {
    const std::uint32_t x = engine_of(a.endpoint), y = engine_of(b.endpoint);
    const double left = engines_.true_queue(x), right = engines_.true_queue(y);
    return left != right ? left < right : x < y;
  });
}

void proxy::dispatch_prefill(passage& p, const candidate& to, instant now) {
  const auto known = std::find_if(p.prefills.begin(), p.prefills.end(),
                                  [&to](const candidate& c) { return c.endpoint == to.prefill; });
  candidate from;
  from.endpoint = to.prefill;
  from.uncached_tokens = p.facts.prompt_tokens;
  if (known != p.prefills.end()) from = *known;
  p.prefill_lease = router_->dispatched(p.facts, *fleet_, from, now);
  p.prefill_engine = engine_of(to.prefill);
  p.target = to;
}

// As proxy/worker has it: the end of the prefill is what a first token tells elsewhere.
void proxy::prefilled(passage& p, instant now) {
  p.prefill_lease.first_token(now, true);
  p.prefill_lease.ended(now, {});
  p.prefill_lease = {};
  tracker_.traffic(p.target.prefill, health::traffic_outcome::ok, now, now);
}

void proxy::dispatch(passage& p, candidate to, instant now) {
  p.target = to;
  p.sent = now;
  // Behind a hand-off the last prompt token alone is computed.
  if (to.prefill) to.uncached_tokens = std::min<std::uint64_t>(to.uncached_tokens, 1);
  p.lease = {};
  p.lease = router_->dispatched(p.facts, *fleet_, to, now);
  p.predicted_prefill = router_->predicted_prefill(to);
  p.engine = engine_of(to.endpoint);
  own_state& own = own_[p.engine];
  own.queued += static_cast<double>(p.booked);
  own.requests += 1;
  ++own.served;
  p.counted = p.waiting = true;
  if (how_.policy.by == brain::rule && !how_.policy.ours) own.index.use(p.facts.prompts[0].blocks);
}

void proxy::first_token(passage& p, instant now) {
  if (!p.facts.stream) return;
  p.lease.first_token(now, true);
  if (p.target.prefill)
    router_->handed_over(p.target.prefill, p.target.endpoint, p.target.uncached_tokens, now - p.sent,
                         p.lease.crowded());
  own_state& own = own_[p.engine];
  if (p.waiting) own.queued -= static_cast<double>(p.booked);
  p.waiting = false;
  if (now - told_token_[p.engine] < std::chrono::seconds(1)) return;
  told_token_[p.engine] = now;
  tracker_.traffic(fleet_->endpoints[p.engine].id, health::traffic_outcome::token_seen, now, now);
}

void proxy::prefill_presumed(passage& p, instant now) { p.lease.first_token(now, false); }

void proxy::ended(passage& p, const token_usage& usage, instant now) {
  p.lease.ended(now, usage);
  p.lease = {};
  if (usage.known) estimator_.learn(p.facts, usage.prompt);
  router_->answered(p.facts.model, usage);
  tracker_.traffic(fleet_->endpoints[p.engine].id, health::traffic_outcome::ok, now, now);
  give_back(p);
}

void proxy::withdrawn(passage& p, instant) {
  p.prefill_lease.withdraw();
  p.prefill_lease = {};
  p.lease.withdraw();
  p.lease = {};
  give_back(p);
}

void proxy::give_back(passage& p) {
  own_state& own = own_[p.engine];
  if (p.counted) own.requests -= 1;
  if (p.counted && p.waiting) own.queued -= static_cast<double>(p.booked);
  p.counted = p.waiting = false;
}

void proxy::unreachable(std::uint32_t engine, instant now) {
  const endpoint_id id = fleet_->endpoints[engine].id;
  shared_->board.suspect(id, now + suspicion);
  tracker_.traffic(id, health::traffic_outcome::connect_failed, now, now);
}

void proxy::cut(std::uint32_t engine, instant began, instant now) {
  const endpoint_id id = fleet_->endpoints[engine].id;
  shared_->board.suspect(id, now + suspicion);
  tracker_.traffic(id, health::traffic_outcome::reset, began, now);
}

}  // namespace penstock::lab
