#include "world.hpp"

#include <algorithm>
#include <memory>
#include <queue>
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
constexpr std::uint32_t most_deaths = 2;     // engines that one request may lose
constexpr std::uint64_t attempts_an_id = 8;  // sequence id: request x this + attempt
constexpr std::uint64_t oracle_kv_tokens = std::uint64_t{1} << 28;
constexpr double oracle_sequence = 200;  // tokens that one more sequence is taken to cost

struct passenger {
  passage way;
  instant arrived{}, sent{}, last_token{};
  std::uint32_t attempt = 0, deaths = 0, cached = 0;
  bool has_token = false;
};

enum class alarm : std::uint8_t { arrival, presume, leave, incident, recover };

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
  explicit engine_place(const emulator::engine_settings& s) : model(s), prefill_us(s.prefill_us) {}
  emulator::engine_model model;
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
  bool submit(std::uint32_t index, const candidate& to, std::uint32_t engine);
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
  std::vector<float> ttft_;
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
      engines_(how_.engines.begin(), how_.engines.end()),
      proxy_(settings_for(how), *this),
      passengers_(load.requests.size()),
      followers_(load.requests.size()),
      ttft_(load.requests.size(), -1.0F),
      open_(load.requests.size()) {
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
  passengers_[index] = std::move(p);
  const request& r = load_.requests[index];
  if (r.patience > duration{}) schedule(now_ + r.patience, alarm::leave, index);
  try_engines(index);
}

// Asks the candidates of one decision in turn: those that refuse a connection cost nothing but the try.
void world::try_engines(std::uint32_t index) {
  passenger& p = *passengers_[index];
  proxy_.decide(p.way, load_.requests[index], now_);
  const std::vector<candidate> order = p.way.order;
  for (const candidate& c : order) {
    const std::uint32_t engine = proxy_.engine_of(c.endpoint);
    if (!reachable(engine)) {
      proxy_.unreachable(engine, now_);
      continue;
    }
    if (!submit(index, c, engine)) give_up(index);
    return;
  }
  give_up(index);
}

bool world::submit(std::uint32_t index, const candidate& to, std::uint32_t engine) {
  passenger& p = *passengers_[index];
  const request& r = load_.requests[index];
  engine_place& place = engines_[engine];
  emulator::sequence s;
  s.id = index * attempts_an_id + p.attempt;
  s.prompt_tokens = r.input_tokens();
  s.max_output_tokens = r.output_tokens;
  s.names = names_of(r, place.model.settings().block_tokens);
  p.way.imported = how_.policy.by == brain::oracle ? imported(r) : 0;
  s.imported_tokens = p.way.imported;
  proxy_.dispatch(p.way, to, now_);
  p.sent = now_;
  p.cached = s.imported_tokens;
  ++place.sequences;
  if (!place.model.submit(std::move(s), now_)) {  // longer than its memory: a client's mistake
    --place.sequences;
    return false;
  }
  if (!r.streamed) schedule(now_ + p.way.predicted_prefill, alarm::presume, index, p.attempt);
  return true;
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
  const auto index = static_cast<std::uint32_t>(e.sequence / attempts_an_id);
  passenger& p = *passengers_[index];
  switch (e.kind) {
    case engine_event_kind::started: p.cached = e.cached; break;
    case engine_event_kind::preempted:
    case engine_event_kind::load: break;  // no hand-offs here
    case engine_event_kind::first_token:
      p.has_token = true;
      p.last_token = e.at;
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
  if (p.way.counted) proxy_.withdrawn(p.way, now_);
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
  for (const std::uint64_t id : place.model.restart()) {
    const auto index = static_cast<std::uint32_t>(id / attempts_an_id);
    passenger& p = *passengers_[index];
    proxy_.withdrawn(p.way, now_);
    proxy_.cut(engine, p.sent, now_);
    ++p.attempt;
    if (p.has_token || ++p.deaths >= most_deaths) {
      give_up(index);
    } else {
      try_engines(index);
    }
  }
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
      if (p == nullptr) break;
      engines_[p->way.engine].model.cancel(a.index * attempts_an_id + p->attempt);
      --engines_[p->way.engine].sequences;
      proxy_.withdrawn(p->way, now_);
      ++result_.left;
      forget(a.index);
      break;
    case alarm::incident: {
      engine_incident& what = how_.incidents[a.index];
      happen(what);
      if (what.every > duration{} && open_ > 0) schedule(now_ + what.every, alarm::incident, a.index);
      break;
    }
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
}

run_result world::run() {
  while (open_ > 0) step();
  for (const float t : ttft_) {
    if (t >= 0) result_.ttft_s.push_back(t);
  }
  for (const engine_place& e : engines_) {
    const emulator::engine_counters c = e.model.counters();
    result_.computed.push_back(e.computed_before + c.computed_tokens);
    result_.preemptions += e.preempted_before + c.preemptions;
  }
  result_.lasted_s = seconds(now_ - first_arrival);
  return std::move(result_);
}

}  // namespace

run_result simulate(const workload& load, const run_settings& how) { return world(load, how).run(); }

}  // namespace penstock::lab
