#include "world.hpp"

#include <algorithm>
#include <memory>
#include <queue>
#include <string>
#include <unordered_set>
#include <utility>

#include "prompts.hpp"
#include "proxy.hpp"

namespace penstock::lab {
namespace {

using emulator::engine_event;
using emulator::engine_event_kind;

// Health needs a moment to find the engines; clients come after that.
constexpr instant world_begin{std::chrono::seconds(1000)};
constexpr instant first_arrival = world_begin + std::chrono::seconds(10);
constexpr std::uint32_t most_deaths = 2;  // engines that one request may lose
constexpr std::uint64_t attempts_an_id =
    8;  // sequence id: request x this + 2 x attempt, + 1 for a prefill leg
constexpr std::uint64_t oracle_kv_tokens = std::uint64_t{1} << 28;
constexpr double oracle_sequence = 200;  // tokens that one more sequence is taken to cost

std::uint64_t id_of(std::uint32_t index, std::uint32_t attempt, bool prefill_leg) {
  return index * attempts_an_id + 2 * attempt + (prefill_leg ? 1 : 0);
}
std::uint32_t index_of(std::uint64_t id) { return static_cast<std::uint32_t>(id / attempts_an_id); }
bool is_prefill_leg(std::uint64_t id) { return id % 2 == 1; }

struct passenger {
  passage way;
  instant arrived{}, sent{}, began{}, last_token{};
  std::uint32_t attempt = 0, deaths = 0, cached = 0;
  bool has_token = false;
  bool pinned = false;      // its prompt's KV waits at the prefill engine
  std::uint32_t loads = 0;  // tokens of it that the decode engine fetches
};

enum class alarm : std::uint8_t { arrival, presume, leave, incident, recover, contact, loaded, turn };

struct alarm_entry {
  instant at;
  std::uint64_t order;  // first come, first served among equals
  alarm what;
  std::uint32_t index, attempt;
  friend bool operator>(const alarm_entry& a, const alarm_entry& b) {
    return a.at != b.at ? a.at > b.at : a.order > b.order;
  }
};

struct engine_place {
  engine_place(const emulator::engine_settings& s, const emulator::transfer_settings& t)
      : model(s), link(t), prefill_us(s.prefill_us) {}
  emulator::engine_model model;
  emulator::kv_link link;
  double prefill_us;
  instant away_until{}, blind_until{}, started_at = world_begin - std::chrono::seconds(500);
  std::uint64_t sequences = 0;                              // in flight: for the oracle
  std::uint64_t computed_before = 0, preempted_before = 0;  // by processes that died
};

class world final : public engine_side {
 public:
  world(const workload& load, const run_settings& how);
  run_result run();

  bool reachable(std::uint32_t e) const override { return engines_[e].away_until <= now_; }
  std::optional<engine_state> scrape(std::uint32_t e, instant now) const override;
  double true_queue(std::uint32_t e) const override;
  double true_speed(std::uint32_t e) const override {
    const emulator::engine_settings& s = engines_[e].model.settings();
    return s.prefill_us > 0 ? 1e6 / s.prefill_us * s.speed : 1e6;
  }

 private:
  void schedule(instant at, alarm what, std::uint32_t index, std::uint32_t attempt = 0);
  void ring(const alarm_entry& a);
  void arrive(std::uint32_t index);
  void try_engines(std::uint32_t index);
  void ask(std::uint32_t index);
  bool submit(std::uint32_t index, const candidate& to, std::uint32_t engine);
  bool submit_prefill(std::uint32_t index, const candidate& to);
  bool enter(std::uint32_t index, std::uint32_t engine, bool prefill_leg);
  void handle_prefill(std::uint32_t index, const engine_event& e);
  void load(std::uint32_t index, std::uint32_t tokens);
  void loaded(std::uint32_t index);
  void unpin(std::uint32_t index);
  void leave(std::uint32_t index);
  void retry(std::uint32_t index);
  void handle(const engine_event& e);
  void finish(std::uint32_t index, const engine_event& e);
  void forget(std::uint32_t index);
  void give_up(std::uint32_t index);
  void happen(engine_incident& what);
  void go_away(std::uint32_t engine, duration lasts);
  std::uint32_t imported(const request& r);
  void step();

  const workload& load_;
  run_settings how_;
  std::vector<engine_place> engines_;
  proxy proxy_;
  std::vector<std::unique_ptr<passenger>> passengers_;
  std::vector<std::vector<std::uint32_t>> followers_;
  std::vector<float> ttft_, pace_;
  std::priority_queue<alarm_entry, std::vector<alarm_entry>, std::greater<>> alarms_;
  std::unordered_set<std::uint64_t> known_;  // the oracle's shared cache
  std::vector<engine_event> events_;
  std::uint64_t orders_ = 0;
  std::size_t open_ = 0;
  std::uint32_t turn_ = 0;
  instant now_ = world_begin, control_at_ = world_begin;
  run_result result_;
};

proxy_settings settings_for(const run_settings& how) {
  proxy_settings p;
  p.policy = how.policy;
  p.engines = static_cast<std::uint32_t>(how.engines.size());
  p.block_bytes = how.block_bytes;
  p.scrape_interval = how.scrape_interval;
  p.seed = how.seed;
  p.roles = how.roles;
  p.first_port = how.first_port;
  p.told_speeds = how.told_speeds;
  p.kv_tokens = how.engines[0].kv_tokens;
  p.peak_rate = how.engines[0].prefill_us > 0 ? 1e6 / how.engines[0].prefill_us : 1e6;
  return p;
}

// The oracle's engines find everything in one cache, which is no part of their own memory.
run_settings with_shared_cache(run_settings how) {
  if (how.policy.by != brain::oracle) return how;
  for (emulator::engine_settings& e : how.engines) e.kv_tokens = std::max(e.kv_tokens, oracle_kv_tokens);
  return how;
}

world::world(const workload& load, const run_settings& how)
    : load_(load),
      how_(with_shared_cache(how)),
      proxy_(settings_for(how), *this),
      passengers_(load.requests.size()),
      followers_(load.requests.size()),
      ttft_(load.requests.size(), -1.0F),
      pace_(load.requests.size(), -1.0F),
      open_(load.requests.size()) {
  for (const emulator::engine_settings& e : how_.engines) engines_.emplace_back(e, how_.transfer);
  for (std::uint32_t i = 0; i < load.requests.size(); ++i) {
    const request& r = load.requests[i];
    if (r.follows == nobody) {
      schedule(first_arrival + r.at, alarm::arrival, i);
    } else {
      followers_[r.follows].push_back(i);
    }
  }
  for (std::uint32_t i = 0; i < how_.incidents.size(); ++i) {
    const engine_incident& what = how_.incidents[i];
    if (what.kind == event_kind::join) {
      engines_[what.engine % engines_.size()].away_until = first_arrival + what.at;
    } else {
      schedule(first_arrival + what.at, alarm::incident, i);
    }
  }
}

void world::schedule(instant at, alarm what, std::uint32_t index, std::uint32_t attempt) {
  alarms_.push({at, orders_++, what, index, attempt});
}

std::optional<engine_state> world::scrape(std::uint32_t e, instant now) const {
  const engine_place& place = engines_[e];
  if (place.blind_until > now) return std::nullopt;
  const emulator::engine_counters c = place.model.counters();
  engine_state s;
  s.running = static_cast<double>(c.running);
  s.waiting = static_cast<double>(c.waiting);
  s.without_room = static_cast<double>(c.waiting - c.loading);
  s.kv_use = c.kv_blocks == 0 ? 0 : static_cast<double>(c.kv_blocks_used) / c.kv_blocks;
  s.block_tokens = place.model.settings().block_tokens;
  s.kv_blocks = c.kv_blocks;
  s.kv_tokens = s.kv_blocks * s.block_tokens;
  s.prefix_hits = static_cast<double>(c.prefix_hits);
  s.prefix_queries = static_cast<double>(c.prefix_queries);
  s.start_time_s = seconds(place.started_at.time_since_epoch());
  s.scraped_at = now;
  return s;
}

double world::true_queue(std::uint32_t e) const {
  const engine_place& place = engines_[e];
  const double tokens = static_cast<double>(place.model.prefill_left()) +
                        oracle_sequence * static_cast<double>(place.sequences);
  return tokens * place.prefill_us / place.model.settings().speed;
}

void world::arrive(std::uint32_t index) {
  auto p = std::make_unique<passenger>();
  p->arrived = now_;
  p->way.index = index;
  passengers_[index] = std::move(p);
  const request& r = load_.requests[index];
  if (r.patience > duration{}) schedule(now_ + r.patience, alarm::leave, index);
  try_engines(index);
}

// Asks the candidates of one decision in turn: those that refuse a connection cost nothing but the try.
void world::try_engines(std::uint32_t index) {
  passenger& p = *passengers_[index];
  proxy_.decide(p.way, load_.requests[index], now_);
  if (const std::optional<instant> until = proxy_.hold_back(p.way, now_)) {
    schedule(*until, alarm::turn, index);  // what wakes us; who goes then is looked up
    return;
  }
  ask(index);
}

void world::ask(std::uint32_t index) {
  passenger& p = *passengers_[index];
  const std::vector<candidate> order = p.way.order;
  for (const candidate& c : order) {
    const std::uint32_t engine = proxy_.engine_of(c.endpoint);
    const std::uint32_t first = c.prefill ? proxy_.engine_of(c.prefill) : engine;
    if (!reachable(first)) {
      proxy_.unreachable(first, now_);
      continue;
    }
    if (c.prefill) {
      if (!submit_prefill(index, c)) give_up(index);
      return;
    }
    if (!reachable(engine)) {
      proxy_.unreachable(engine, now_);
      continue;
    }
    if (!submit(index, c, engine)) give_up(index);
    return;
  }
  give_up(index);
}

// Puts a request or one of its legs into the engine's queue.
bool world::enter(std::uint32_t index, std::uint32_t engine, bool prefill_leg) {
  passenger& p = *passengers_[index];
  const request& r = load_.requests[index];
  engine_place& place = engines_[engine];
  emulator::sequence s;
  s.id = id_of(index, p.attempt, prefill_leg);
  s.prompt_tokens = r.input_tokens();
  s.max_output_tokens = prefill_leg ? 1 : r.output_tokens;
  s.names = names_of(r, place.model.settings().block_tokens);
  s.imported_tokens = p.way.imported;
  s.keep_kv = prefill_leg;
  s.load_kv = !prefill_leg && p.way.target.prefill;
  p.sent = now_;
  const bool fits = place.model.submit(std::move(s), now_);
  if (fits) ++place.sequences;
  return fits;  // else it is longer than the engine's memory: a client's mistake
}

bool world::submit(std::uint32_t index, const candidate& to, std::uint32_t engine) {
  passenger& p = *passengers_[index];
  const request& r = load_.requests[index];
  p.way.imported = how_.policy.by == brain::oracle ? imported(r) : 0;
  if (!to.prefill) p.cached = p.way.imported;
  proxy_.dispatch(p.way, to, now_);
  if (!enter(index, engine, false)) return false;
  if (!r.streamed) schedule(now_ + p.way.predicted_prefill, alarm::presume, index, p.attempt);
  return true;
}

bool world::submit_prefill(std::uint32_t index, const candidate& to) {
  passenger& p = *passengers_[index];
  proxy_.dispatch_prefill(p.way, to, now_);
  return enter(index, p.way.prefill_engine, true);
}

// The decode leg follows when the prefill leg has ended.
void world::handle_prefill(std::uint32_t index, const engine_event& e) {
  passenger& p = *passengers_[index];
  if (e.kind == engine_event_kind::started) p.cached = e.cached;
  if (e.kind != engine_event_kind::finished) return;
  --engines_[p.way.prefill_engine].sequences;
  p.pinned = true;
  proxy_.prefilled(p.way, e.at);
  const candidate to = p.way.target;
  const std::uint32_t engine = proxy_.engine_of(to.endpoint);
  if (!reachable(engine)) {
    proxy_.unreachable(engine, now_);
    return retry(index);
  }
  if (!submit(index, to, engine)) give_up(index);
}

// The decode engine has room for the KV: it speaks to the prefill engine, and then the bytes come.
void world::load(std::uint32_t index, std::uint32_t tokens) {
  passenger& p = *passengers_[index];
  p.loads = tokens;
  const std::string name = std::to_string(p.way.prefill_engine);
  schedule(engines_[p.way.engine].link.meet(name, now_), alarm::contact, index, p.attempt);
}

void world::loaded(std::uint32_t index) {
  passenger& p = *passengers_[index];
  const request& r = load_.requests[index];
  engine_place& to = engines_[p.way.engine];
  const std::uint64_t id = id_of(index, p.attempt, false);
  if (p.pinned) {
    unpin(index);
    to.model.kv_loaded(id, r.output_tokens, names_of(r, to.model.settings().block_tokens), now_);
  } else {
    to.model.kv_lost(id, now_);  // the prefill engine died: computed here after all
  }
}

void world::unpin(std::uint32_t index) {
  passenger& p = *passengers_[index];
  if (!std::exchange(p.pinned, false)) return;
  engines_[p.way.prefill_engine].model.unpin(id_of(index, p.attempt, true), now_);
}

// What of the prompt anybody has sent before, and notes the rest.
std::uint32_t world::imported(const request& r) {
  std::uint32_t tokens = 0;
  bool held = true;
  for (const segment& s : r.segments) {
    held = held && known_.count(s.id) > 0;
    if (held) tokens += s.tokens;
    known_.insert(s.id);
  }
  return tokens;
}

void world::handle(const engine_event& e) {
  const std::uint32_t index = index_of(e.sequence);
  if (is_prefill_leg(e.sequence)) return handle_prefill(index, e);
  passenger& p = *passengers_[index];
  switch (e.kind) {
    case engine_event_kind::started:
      if (!p.way.target.prefill) p.cached = e.cached;
      break;
    case engine_event_kind::preempted: break;
    case engine_event_kind::load: load(index, e.tokens); break;
    case engine_event_kind::first_token:
      p.has_token = true;
      p.began = p.last_token = e.at;
      ttft_[index] = static_cast<float>(seconds(e.at - p.arrived));
      result_.prompt_tokens += load_.requests[index].input_tokens();
      result_.cached_tokens += p.cached;
      proxy_.first_token(p.way, e.at);
      break;
    case engine_event_kind::token:
      result_.gaps.add(seconds(e.at - p.last_token));
      p.last_token = e.at;
      break;
    case engine_event_kind::finished: finish(index, e); break;
  }
}

void world::finish(std::uint32_t index, const engine_event& e) {
  passenger& p = *passengers_[index];
  const request& r = load_.requests[index];
  token_usage usage;
  usage.prompt = r.input_tokens();
  usage.completion = e.tokens;
  usage.known = true;
  usage.cached_known = r.tells_cached;
  usage.cached = r.tells_cached ? p.cached : 0;
  pace_[index] = e.tokens > 1 ? static_cast<float>(seconds(e.at - p.began) / (e.tokens - 1)) : 0.0F;
  if (p.way.target.prefill) ++result_.split;
  --engines_[p.way.engine].sequences;
  if (r.output_id != 0) known_.insert(r.output_id);
  proxy_.ended(p.way, usage, e.at);
  ++result_.served;
  forget(index);
}

// The request is over, for better or worse: who waited for its end comes now.
void world::forget(std::uint32_t index) {
  passengers_[index].reset();
  --open_;
  for (const std::uint32_t next : followers_[index])
    schedule(now_ + load_.requests[next].at, alarm::arrival, next);
}

void world::give_up(std::uint32_t index) {
  passenger& p = *passengers_[index];
  unpin(index);
  proxy_.withdrawn(p.way, now_);
  ++result_.failed;
  forget(index);
}

void world::go_away(std::uint32_t engine, duration lasts) {
  engine_place& place = engines_[engine];
  const emulator::engine_counters c = place.model.counters();
  place.computed_before += c.computed_tokens;
  place.preempted_before += c.preemptions;
  place.away_until = place.started_at = now_ + lasts;
  place.sequences = 0;
  // What was pinned there is lost with it.
  for (std::uint32_t i = 0; i < passengers_.size(); ++i) {
    if (passengers_[i] != nullptr && passengers_[i]->way.prefill_engine == engine)
      passengers_[i]->pinned = false;
  }
  for (engine_place& other : engines_) other.link.forget(std::to_string(engine));
  for (const std::uint64_t id : place.model.restart()) {
    proxy_.cut(engine, passengers_[index_of(id)]->sent, now_);
    retry(index_of(id));
  }
}

// An engine died under the request.
void world::retry(std::uint32_t index) {
  passenger& p = *passengers_[index];
  unpin(index);
  proxy_.withdrawn(p.way, now_);
  ++p.attempt;
  if (p.has_token || ++p.deaths >= most_deaths) {
    give_up(index);
  } else {
    try_engines(index);
  }
}

void world::leave(std::uint32_t index) {
  passenger& p = *passengers_[index];
  for (const bool prefill_leg : {false, true}) {
    const std::uint32_t engine = prefill_leg ? p.way.prefill_engine : p.way.engine;
    if (engine >= engines_.size()) continue;
    if (engines_[engine].model.cancel(id_of(index, p.attempt, prefill_leg), now_))
      --engines_[engine].sequences;
  }
  unpin(index);
  proxy_.withdrawn(p.way, now_);
  ++result_.left;
  forget(index);
}

void world::happen(engine_incident& what) {
  const auto count = static_cast<std::uint32_t>(engines_.size());
  const std::uint32_t engine = what.engine == nobody ? turn_++ % count : what.engine % count;
  engine_place& place = engines_[engine];
  switch (what.kind) {
    case event_kind::slow:
      place.model.set_speed(what.value);
      if (what.lasts > duration{}) schedule(now_ + what.lasts, alarm::recover, engine);
      break;
    case event_kind::stall: place.model.stall(now_ + what.lasts); break;
    case event_kind::restart: go_away(engine, what.lasts); break;
    case event_kind::blind: place.blind_until = what.lasts > duration{} ? now_ + what.lasts : never; break;
    case event_kind::join: break;
  }
}

void world::ring(const alarm_entry& a) {
  passenger* p = a.index < passengers_.size() ? passengers_[a.index].get() : nullptr;
  switch (a.what) {
    case alarm::arrival: arrive(a.index); break;
    case alarm::presume:
      if (p != nullptr && p->attempt == a.attempt) proxy_.prefill_presumed(p->way, now_);
      break;
    case alarm::leave:
      if (p != nullptr) leave(a.index);
      break;
    case alarm::contact:
      if (p == nullptr || p->attempt != a.attempt) break;
      schedule(engines_[p->way.engine].link.transfer(p->loads, now_), alarm::loaded, a.index, a.attempt);
      break;
    case alarm::loaded:
      if (p != nullptr && p->attempt == a.attempt) loaded(a.index);
      break;
    case alarm::incident: {
      engine_incident& what = how_.incidents[a.index];
      happen(what);
      if (what.every > duration{} && open_ > 0) schedule(now_ + what.every, alarm::incident, a.index);
      break;
    }
    case alarm::turn: break;
    case alarm::recover: engines_[a.index].model.set_speed(how_.engines[a.index].speed); break;
  }
}

void world::step() {
  instant next = control_at_;
  std::size_t engine = engines_.size();
  if (!alarms_.empty()) next = std::min(next, alarms_.top().at);
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    const instant at = engines_[i].model.next_time();
    if (at > next) continue;
    if (at == next && engine < engines_.size()) continue;
    next = at;
    engine = i;
  }
  now_ = std::max(now_, next);
  if (engine < engines_.size()) {
    events_.clear();
    engines_[engine].model.advance(next, events_, 1);
    for (const engine_event& e : events_) handle(e);
  } else if (control_at_ <= next) {
    control_at_ = proxy_.control(now_);
  } else {
    const alarm_entry a = alarms_.top();
    alarms_.pop();
    ring(a);
  }
  while (passage* const p = proxy_.next_turn(now_)) p->lease ? ask(p->index) : try_engines(p->index);
}

run_result world::run() {
  while (open_ > 0) step();
  for (std::size_t i = 0; i < ttft_.size(); ++i) {
    if (ttft_[i] < 0) continue;
    result_.ttft_s.push_back(ttft_[i]);
    result_.pace_s.push_back(pace_[i]);
  }
  for (const engine_place& e : engines_) {
    const emulator::engine_counters c = e.model.counters();
    result_.computed.push_back(e.computed_before + c.computed_tokens);
    result_.preemptions += e.preempted_before + c.preemptions;
    result_.pinned_blocks += c.kv_blocks_pinned;
  }
  result_.lasted_s = seconds(now_ - first_arrival);
  return std::move(result_);
}

}  // namespace

run_result simulate(const workload& load, const run_settings& how) { return world(load, how).run(); }

}  // namespace penstock::lab
