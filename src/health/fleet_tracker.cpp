#include "health/fleet_tracker.hpp"

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "health/pool_guard.hpp"

namespace penstock::health {
namespace {

using std::chrono::seconds;

constexpr std::size_t max_addresses = 64;  // of one name
constexpr std::size_t max_events = max_endpoints * 4;
constexpr std::uint32_t scrapes_until_given_up = 3;

// A question without an answer after this is asked again; the driver's own timeout is far shorter.
duration lost_after(const health_config& h) { return 2 * h.timeout + seconds(1); }

poll_timer::pace scrape_pace(const health_config& h) {
  return {h.scrape_interval, h.scrape_interval, 8 * h.scrape_interval, lost_after(h)};
}

poll_timer::pace models_pace(const health_config& h) {
  return {h.models_interval, std::min<duration>(h.models_interval, seconds(2)), h.models_interval,
          lost_after(h)};
}

// As often as a probe: a prefill engine that comes back has another id, and what is sent with the old one
// fails.
poll_timer::pace bootstrap_pace(const health_config& h, bool wanted) {
  if (!wanted) return {};
  return {h.interval, std::min<duration>(h.interval, seconds(1)), h.interval, lost_after(h)};
}

// Names are asked anew often enough to follow a moved engine; a unix path is never asked.
poll_timer::pace resolve_pace(const endpoint_address& address) {
  if (!address.unix_path.empty()) return {};
  return {seconds(30), seconds(1), seconds(30), seconds(60)};
}

net_address unix_address(const endpoint_address& address) {
  net_address a;
  a.kind = net_address::family::unix_path;
  a.path = address.unix_path;
  return a;
}

bool contains(const std::vector<net_address>& list, const net_address& a) {
  return std::find(list.begin(), list.end(), a) != list.end();
}

bool all_in(const std::vector<net_address>& part, const std::vector<net_address>& list) {
  return std::all_of(part.begin(), part.end(), [&](const net_address& a) { return contains(list, a); });
}

bool none_in(const std::vector<net_address>& part, const std::vector<net_address>& list) {
  return std::none_of(part.begin(), part.end(), [&](const net_address& a) { return contains(list, a); });
}

bool same_models(const std::vector<served_model>& a, const std::vector<served_model>& b) {
  const auto fields = [](const served_model& m) {
    return std::tie(m.id, m.root, m.parent, m.owned_by, m.max_model_len, m.created);
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](const served_model& x, const served_model& y) { return fields(x) == fields(y); });
}

// One bad scrape does not make an engine's size unknown.
void keep_capacity(engine_state& next, const engine_state& last) {
  if (next.block_tokens == 0) next.block_tokens = last.block_tokens;
  if (next.kv_blocks == 0) next.kv_blocks = last.kv_blocks;
  if (next.kv_tokens == 0) next.kv_tokens = last.kv_tokens;
  if (next.host_kv_tokens == 0) next.host_kv_tokens = last.host_kv_tokens;
}

}  // namespace

struct fleet_tracker::wanted {
  std::uint32_t pool = 0, twin = 0;
  std::string_view pool_name;
  const endpoint_config* settings = nullptr;
  bool asks_bootstrap = false;
};

std::optional<std::vector<fleet_tracker::wanted>> fleet_tracker::want(const config& settings) {
  std::vector<wanted> list;
  std::map<std::tuple<std::string_view, std::string_view, int>, std::uint32_t> twins;
  for (std::uint32_t p = 0; p < settings.pools.size(); ++p) {
    const auto& pool = settings.pools[p];
    for (const auto& e : pool.endpoints) {
      const bool located = !e.address.host.empty() || !e.address.unix_path.empty();
      if (!located || list.size() == max_endpoints) return std::nullopt;
      const auto twin = twins[{pool.name, e.url, e.data_parallel_rank}]++;
      const auto& how = pool.disaggregation;
      const bool asks = how.enabled && traits(how.connector).ranks_have_ids && e.bootstrap_port != 0;
      list.push_back({p, twin, pool.name, &e, asks});
    }
  }
  return list;
}

bool fleet_tracker::apply(std::shared_ptr<const config> settings, instant now) {
  const auto list = want(*settings);
  if (!list) return false;
  settings_ = std::move(settings);  // which `list` points into
  replace_endpoints(*list, now);
  index_slots();
  guard();
  touch(view_change::urgent);
  return true;
}

void fleet_tracker::replace_endpoints(const std::vector<wanted>& list, instant now) {
  using key = std::tuple<std::string_view, std::string_view, int, std::uint32_t>;
  std::map<key, std::size_t> next;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto& w = list[i];
    next[{w.pool_name, w.settings->url, w.settings->data_parallel_rank, w.twin}] = i;
  }
  std::vector<std::optional<std::size_t>> kept(list.size());
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    const auto& e = endpoints_[i];
    const auto found = next.find({e.pool_name, e.settings.url, e.settings.data_parallel_rank, e.twin});
    if (found != next.end()) {
      kept[found->second] = i;
      continue;
    }
    note(fleet_event::kind::removed, e, e.effective, life::down);
    slots_.give_back(e.id);
  }
  std::vector<tracked_endpoint> fresh;
  fresh.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (kept[i]) {
      keep(endpoints_[*kept[i]], list[i], now);
      fresh.push_back(std::move(endpoints_[*kept[i]]));
    } else if (const auto id = slots_.take()) {
      fresh.push_back(make(list[i], *id, now));
      note(fleet_event::kind::added, fresh.back(), life::starting, life::starting);
    }
  }
  endpoints_ = std::move(fresh);
}

void fleet_tracker::index_slots() {
  index_.fill(0);
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    index_[endpoints_[i].id.slot] = static_cast<std::uint16_t>(i + 1);
  }
}

tracked_endpoint fleet_tracker::make(const wanted& next, endpoint_id id, instant now) {
  const auto& h = settings_->health;
  tracked_endpoint e{.id = id,
                     .pool = next.pool,
                     .twin = next.twin,
                     .pool_name = std::string(next.pool_name),
                     .settings = *next.settings,
                     .addresses = {},
                     .health = endpoint_health(h, now, rng_),
                     .restarts = {},
                     .resolve = poll_timer(resolve_pace(next.settings->address), now),
                     .scrape = poll_timer(scrape_pace(h), now),
                     .models_fetch = poll_timer(models_pace(h), now),
                     .bootstrap = poll_timer(bootstrap_pace(h, next.asks_bootstrap), now),
                     .engine = {},
                     .models = {},
                     .added_at = now};
  if (!e.settings.address.unix_path.empty()) e.addresses.push_back(unix_address(e.settings.address));
  return e;
}

void fleet_tracker::keep(tracked_endpoint& known, const wanted& next, instant now) {
  const auto& h = settings_->health;
  const auto& s = *next.settings;
  if (known.settings.engine_label != s.engine_label) {
    // Other series: their counters are no continuation of the known ones.
    known.engine = {};
    known.restarts = {};
    known.scrape.hurry(now);
  }
  if (known.settings.api_key != s.api_key || known.settings.headers != s.headers) {
    known.health.hurry_probe(now);
    known.scrape.hurry(now);
    known.models_fetch.hurry(now);
  }
  const bool moved =
      known.settings.bootstrap_host != s.bootstrap_host || known.settings.bootstrap_port != s.bootstrap_port;
  known.pool = next.pool;
  known.settings = s;
  known.health.configure(h, now, rng_);
  known.scrape.configure(scrape_pace(h), now);
  known.models_fetch.configure(models_pace(h), now);
  known.bootstrap.configure(bootstrap_pace(h, next.asks_bootstrap), now);
  if (!moved) return;
  known.rank_ids.clear();
  known.bootstrap.hurry(now);
}

std::vector<task> fleet_tracker::due(instant now) {
  std::vector<task> out;
  for (auto& e : endpoints_) {
    feed(e, now, [&](endpoint_health& h) { h.tick(now); });
    const auto ask = [&](poll_timer& timer, task_kind kind) {
      if (timer.due_at() > now) return;
      timer.started(now);
      out.push_back({e.id, kind});
    };
    ask(e.resolve, task_kind::resolve);
    if (e.addresses.empty()) continue;
    if (e.health.next_probe_at() <= now) {
      e.health.probe_started(now);
      out.push_back({e.id, task_kind::probe});
    }
    if (!e.health.accepts_connections()) continue;
    ask(e.scrape, task_kind::scrape);
    ask(e.models_fetch, task_kind::models);
    ask(e.bootstrap, task_kind::bootstrap);
  }
  return out;
}

instant fleet_tracker::next_due() const {
  auto next = never;
  for (const auto& e : endpoints_) {
    next = std::min({next, e.resolve.due_at(), e.health.next_tick_at()});
    if (e.addresses.empty()) continue;
    next = std::min(next, e.health.next_probe_at());
    if (!e.health.accepts_connections()) continue;
    next = std::min({next, e.scrape.due_at(), e.models_fetch.due_at(), e.bootstrap.due_at()});
  }
  return next;
}

template <class F>
void fleet_tracker::feed(tracked_endpoint& of, instant now, F input) {
  const auto state = of.health.state();
  const bool accepted = of.health.accepts_connections();
  input(of.health);
  const bool accepts = of.health.accepts_connections();
  if (state == of.health.state() && accepted == accepts) return;
  if (accepted && !accepts) {
    if (of.health.proven()) of.restarts.gone();
    of.resolve.hurry(now);  // perhaps it moved
  }
  if ((!accepted && accepts) || (state == life::down && of.health.state() != life::down)) {
    of.scrape.hurry(now);
    of.models_fetch.hurry(now);
    of.bootstrap.hurry(now);
  }
  guard();
}

void fleet_tracker::resolved(endpoint_id endpoint, std::vector<net_address> addresses, instant now) {
  auto* e = lookup(endpoint);
  if (!e) return;
  e->resolve.answered(!addresses.empty(), now, rng_);
  if (addresses.empty()) {
    if (!e->addresses.empty()) return;
    return feed(*e, now, [&](endpoint_health& h) {
      h.on_probe({probe_outcome::resolve_failed, now}, now, rng_);
    });
  }
  if (addresses.size() > max_addresses) addresses.resize(max_addresses);
  // Name servers rotate their answers: the same set is no change.
  if (all_in(addresses, e->addresses) && all_in(e->addresses, addresses)) return;
  if (!e->addresses.empty() && none_in(addresses, e->addresses)) e->restarts.gone();
  e->addresses = std::move(addresses);
  e->health.hurry_probe(now);
  touch(view_change::urgent);
}

void fleet_tracker::probed(endpoint_id endpoint, const probe_result& result, instant now) {
  auto* e = lookup(endpoint);
  if (!e) return;
  feed(*e, now, [&](endpoint_health& h) { h.on_probe(result, now, rng_); });
  if (result.outcome == probe_outcome::ok && e->restarts.answered()) note_restart(*e, now);
}

void fleet_tracker::traffic(endpoint_id endpoint, traffic_outcome outcome, instant began, instant now) {
  auto* e = lookup(endpoint);
  if (!e) return;
  feed(*e, now, [&](endpoint_health& h) { h.on_traffic(outcome, began, now); });
  const bool good = outcome == traffic_outcome::ok || outcome == traffic_outcome::token_seen;
  if (good) e->served_at = std::max(e->served_at, now);
  if (good && e->health.accepts_connections() && e->restarts.answered()) note_restart(*e, now);
}

void fleet_tracker::scraped(endpoint_id endpoint, const std::optional<engine_state>& state, instant now) {
  auto* e = lookup(endpoint);
  if (!e) return;
  const bool good = state && state->scraped_at != instant{};
  e->scrape.answered(good, now, rng_);
  if (!good) {
    const bool given_up = e->scrape.failures() >= scrapes_until_given_up;
    if (given_up && e->health.accepts_connections() && e->restarts.scrapes_failed()) note_restart(*e, now);
    return touch(view_change::figures);
  }
  auto next = *state;
  next.scraped_at = now;
  const bool restarted = e->restarts.scraped(next);
  if (restarted) {
    note_restart(*e, now);
  } else {
    keep_capacity(next, e->engine);
  }
  note_late_reads(*e, next, restarted);
  e->engine = std::move(next);
  touch(view_change::figures);
}

void fleet_tracker::models_read(endpoint_id endpoint, std::optional<std::vector<served_model>> models,
                                instant now) {
  auto* e = lookup(endpoint);
  if (!e) return;
  e->models_fetch.answered(models.has_value(), now, rng_);
  if (!models || (e->models_known && same_models(*models, e->models))) return;
  e->models = std::move(*models);
  e->models_known = true;
  touch(view_change::urgent);
}

void fleet_tracker::bootstrap_read(endpoint_id endpoint, std::optional<std::vector<std::string>> rank_ids,
                                   instant now) {
  auto* e = lookup(endpoint);
  if (!e) return;
  e->bootstrap.answered(rank_ids.has_value(), now, rng_);
  if (!rank_ids || *rank_ids == e->rank_ids) return;
  e->rank_ids = std::move(*rank_ids);
  touch(view_change::urgent);
}

bool fleet_tracker::drain(endpoint_id endpoint, bool on) {
  auto* e = lookup(endpoint);
  if (!e) return false;
  e->draining = on;
  guard();
  return true;
}

void fleet_tracker::drain_all(bool on) {
  if (draining_ == on) return;
  draining_ = on;
  touch(view_change::urgent);
}

void fleet_tracker::guard() {
  std::vector<guard_member> members;
  for (std::size_t first = 0; first < endpoints_.size();) {
    members.clear();
    auto end = first;
    for (; end < endpoints_.size() && endpoints_[end].pool == endpoints_[first].pool; ++end) {
      const auto& e = endpoints_[end];
      members.push_back({.state = e.health.state(),
                         .role = e.settings.role,
                         .draining = e.draining,
                         .accepts_connections = e.health.accepts_connections(),
                         .proven = e.health.proven(),
                         .last_good = e.health.last_good()});
    }
    guard_pool(members);
    for (auto i = first; i < end; ++i) {
      auto& e = endpoints_[i];
      const auto before = std::exchange(e.effective, members[i - first].effective);
      if (before == e.effective) continue;
      note(fleet_event::kind::life_changed, e, before, e.effective);
      touch(view_change::urgent);
    }
    first = end;
  }
}

void fleet_tracker::note(fleet_event::kind what, const tracked_endpoint& of, life before, life after) {
  if (events_.size() >= max_events) events_.erase(events_.begin(), events_.begin() + max_events / 2);
  events_.push_back({what, of.id, of.settings.url, before, after});
}

void fleet_tracker::note_restart(tracked_endpoint& of, instant now) {
  ++of.epoch;
  of.models_fetch.hurry(now);
  of.bootstrap.hurry(now);
  note(fleet_event::kind::restarted, of, of.effective, of.effective);
  touch(view_change::urgent);
}

// What an engine had counted when it was first scraped is history.
void fleet_tracker::note_late_reads(tracked_endpoint& of, const engine_state& next, bool restarted) {
  const bool first = of.engine.scraped_at == instant{} && !restarted;
  if (restarted) of.read_late = 0;
  if (next.handoffs_late < 0) return;
  const double before = std::exchange(of.read_late, next.handoffs_late);
  if (first || next.handoffs_late <= before) return;
  note(fleet_event::kind::read_late, of, of.effective, of.effective);
  events_.back().count = static_cast<std::uint64_t>(next.handoffs_late - before);
}

std::vector<fleet_event> fleet_tracker::take_events() { return std::exchange(events_, {}); }

void fleet_tracker::touch(view_change how) { change_ = std::max(change_, how); }

tracked_endpoint* fleet_tracker::lookup(endpoint_id endpoint) {
  const auto* e = find(endpoint);
  return e ? &endpoints_[static_cast<std::size_t>(e - endpoints_.data())] : nullptr;
}

const tracked_endpoint* fleet_tracker::find(endpoint_id endpoint) const {
  if (endpoint.slot >= max_endpoints || index_[endpoint.slot] == 0) return nullptr;
  const auto& e = endpoints_[index_[endpoint.slot] - 1u];
  return e.id == endpoint ? &e : nullptr;
}

}  // namespace penstock::health
