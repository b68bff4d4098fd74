// All endpoints of the configuration with their machines: what to ask them when, and the fleet view that
// follows from their answers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "health/endpoint_health.hpp"
#include "health/poll_timer.hpp"
#include "health/restart_detector.hpp"
#include "health/slot_table.hpp"
#include "penstock/config.hpp"
#include "penstock/fleet_view.hpp"
#include "penstock/ids.hpp"
#include "penstock/random.hpp"
#include "penstock/time.hpp"

namespace penstock::health {

// Something to ask of an endpoint or, `resolve`, of the name service.
enum class task_kind : std::uint8_t { resolve, probe, scrape, models, bootstrap };
constexpr std::string_view name(task_kind v) {
  constexpr std::string_view names[] = {"resolve", "probe", "scrape", "models", "bootstrap"};
  return names[static_cast<std::size_t>(v)];
}
struct task {
  endpoint_id endpoint;
  task_kind kind = task_kind::probe;
  friend bool operator==(const task&, const task&) = default;
};

// Something worth a log line, or an action of the other rooms.
struct fleet_event {
  enum class kind : std::uint8_t {
    added,
    removed,
    life_changed,  // effective life, after the pool's guard: `before` -> `after`
    restarted,     // another process: what its cache held is gone, drop its share of the prefix table
    read_late,     // it saw `count` hand-offs read after their lease: answers made of them may be wrong
  };
  kind what = kind::added;
  endpoint_id endpoint;
  std::string url;
  life before = life::starting, after = life::starting;
  std::uint64_t count = 0;
};

// Why a new view should be posted to the workers.
enum class view_change : std::uint8_t {
  none,
  figures,  // scraped figures or confidence only: once in some 100 ms is enough
  urgent,   // life, membership, addresses, models or drain: at once
};

// What is known of one endpoint; valid until the next call of a non-const member.
struct tracked_endpoint {
  endpoint_id id;
  std::uint32_t pool = 0;  // index into the configuration's pools
  std::uint32_t twin = 0;  // counts equal (pool name, url, rank) within one configuration
  std::string pool_name;
  endpoint_config settings;
  std::vector<net_address> addresses;
  endpoint_health health;
  restart_detector restarts;
  poll_timer resolve, scrape, models_fetch, bootstrap;
  engine_state engine;
  double read_late = 0;  // hand-offs, as its counter was when it was last told
  std::vector<served_model> models;
  bool models_known = false;
  std::vector<std::string> rank_ids;  // as its bootstrap server told last
  bool draining = false;
  std::uint32_t epoch = 0;  // grows with every restart of the engine that was noticed
  instant added_at{};
  instant served_at{};  // last good word of its own traffic
  life effective = life::starting;
};

// Owned and driven by one thread. Inputs that name an endpoint which is gone are ignored. Times never go
// back. Bounded by max_endpoints.
class fleet_tracker {
 public:
  explicit fleet_tracker(std::uint64_t seed) : rng_(seed) {}

  // Takes a new configuration. An endpoint with the same pool name, url and data-parallel rank as before
  // keeps its id, machine and figures; its other settings are replaced. false: more than max_endpoints
  // or a url that cannot be read; nothing changed then.
  bool apply(std::shared_ptr<const config> settings, instant now);

  // What to ask now. Each is under way until its answer comes below (or is taken as lost), so it is given
  // out once. Nothing but `resolve` is asked of an endpoint without addresses, no figures of a refusing one.
  std::vector<task> due(instant now);
  // When due() has something new; `never` without endpoints.
  instant next_due() const;

  // Answers. Empty addresses: the name did not resolve; what was known before stays in use.
  void resolved(endpoint_id endpoint, std::vector<net_address> addresses, instant now);
  void probed(endpoint_id endpoint, const probe_result& result, instant now);
  // From read_metrics with the endpoint's engine_label; nullopt: the scrape failed.
  void scraped(endpoint_id endpoint, const std::optional<engine_state>& state, instant now);
  void models_read(endpoint_id endpoint, std::optional<std::vector<served_model>> models, instant now);

  // What the bootstrap server calls the ranks; nullopt: it did not answer, and what was known stays.
  void bootstrap_read(endpoint_id endpoint, std::optional<std::vector<std::string>> rank_ids, instant now);

  // What traffic told; `began`: when that request was sent to the endpoint.
  void traffic(endpoint_id endpoint, traffic_outcome outcome, instant began, instant now);

  // Drain marks: one endpoint (false: no such endpoint), or this process.
  bool drain(endpoint_id endpoint, bool on);
  void drain_all(bool on);

  // Whether the view of the last build_view() is out of date.
  view_change changed(instant now) const;
  std::shared_ptr<const fleet_view> build_view(instant now);

  // nullptr: gone.
  const tracked_endpoint* find(endpoint_id endpoint) const;
  std::size_t size() const { return endpoints_.size(); }
  // Since the last call; the oldest are dropped above max_endpoints * 4.
  std::vector<fleet_event> take_events();

 private:
  struct wanted;

  static std::optional<std::vector<wanted>> want(const config& settings);
  tracked_endpoint* lookup(endpoint_id endpoint);
  void keep(tracked_endpoint& known, const wanted& next, instant now);
  tracked_endpoint make(const wanted& next, endpoint_id id, instant now);
  void replace_endpoints(const std::vector<wanted>& list, instant now);
  void index_slots();
  // Calls `input` on the machine and draws the conclusions from what it changed.
  template <class F>
  void feed(tracked_endpoint& of, instant now, F input);
  void guard();
  void note(fleet_event::kind what, const tracked_endpoint& of, life before, life after);
  void note_restart(tracked_endpoint& of, instant now);
  void note_late_reads(tracked_endpoint& of, const engine_state& next, bool restarted);
  void touch(view_change how);
  endpoint_view view_of(const tracked_endpoint& of, instant now) const;
  double confidence(const tracked_endpoint& of, instant now) const;

  prng rng_;
  std::shared_ptr<const config> settings_;
  slot_table slots_;
  std::vector<tracked_endpoint> endpoints_;           // in the order of the configuration
  std::array<std::uint16_t, max_endpoints> index_{};  // slot -> index + 1; 0: free
  std::vector<double> shown_confidence_;              // of the last view
  std::vector<fleet_event> events_;
  std::uint64_t version_ = 0;
  bool draining_ = false;
  view_change change_ = view_change::urgent;
};

// How much old or failed scrapes leave of the trust in an endpoint: 1 down to 0.5, never less. `age` of
// the last good scrape, `failures` in a row; an interval of 0 (no scrapes) is 1.
double scrape_trust(duration age, std::uint32_t failures, duration interval);

}  // namespace penstock::health
