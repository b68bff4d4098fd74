// Penstock without sockets: the routing and health libraries of the binary, driven by the events that a
// worker would give them. The published rules live here too, with state of their own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "health/fleet_tracker.hpp"
#include "penstock/account_record.hpp"
#include "penstock/random.hpp"
#include "prefix_lru.hpp"
#include "routing/router.hpp"
#include "rules.hpp"
#include "tokenizer/token_estimator.hpp"
#include "workload.hpp"

namespace penstock::lab {

// What an engine answers to a probe or a scrape at this moment.
class engine_side {
 public:
  virtual ~engine_side() = default;
  virtual bool reachable(std::uint32_t engine) const = 0;
  // Its /metrics as health reads them; nullopt when it does not answer.
  virtual std::optional<engine_state> scrape(std::uint32_t engine, instant now) const = 0;
  // Prefill tokens per second at this moment: for runs in which speeds are told.
  virtual double true_speed(std::uint32_t engine) const = 0;
  // For the oracle alone: uncached tokens and sequences that are really there.
  virtual double true_queue(std::uint32_t engine) const = 0;
};

struct proxy_settings {
  policy_spec policy;
  std::uint32_t engines = 1;
  double peak_rate = 8000;        // prefill tokens per second: what an operator measures for `sticky`
  std::uint64_t kv_tokens = 0;    // of one engine: what an operator sizes a rule's index by
  std::uint32_t block_bytes = 0;  // 0: the default
  duration scrape_interval{};     // 0: the default
  bool told_speeds = false;
  std::vector<endpoint_role> roles;  // empty: engines do all themselves
  std::uint32_t first_port = 20000;
  std::uint64_t seed = 1;
};

// One request on its way. Owned by the world; `lease` must not outlive the proxy.
struct passage {
  request_facts facts;
  std::vector<candidate> order;     // of a decision: whom to ask, best first
  std::vector<candidate> prefills;  // ... and figures of the prefill engines they name
  routing::work_lease lease, prefill_lease;
  std::uint32_t engine = 0;
  std::uint32_t prefill_engine = nobody;  // of a split request
  candidate target;                       // where it was sent
  instant sent{};                         // ... or its decode leg
  std::uint64_t booked = 0;               // by the rule's own count
  bool counted = false, waiting = false;
  std::uint32_t imported = 0;  // the oracle's: tokens that came from the shared cache
  duration predicted_prefill{};
  std::uint32_t index = 0;   // of the request
  std::uint64_t telling = 0;  // key of a decision's telling block
  bool should_wait = false;  // of a decision: it is to be held back
  bool waited = false;       // ... once
  routing::hold_queue::ticket turn;
};

class proxy {
 public:
  proxy(const proxy_settings& settings, const engine_side& engines);

  // Probes, scrapes and whatever else is due; when to call again.
  instant control(instant now);

  // Ranks the engines for a request; empty: nobody can be asked.
  void decide(passage& p, const request& r, instant now);
  // As proxy/worker has it: whether the request waits for its turn, until then at the latest.
  std::optional<instant> hold_back(passage& p, instant now);
  // Whose turn has come; null: nobody's. Without a lease it is to be decided anew.
  passage* next_turn(instant now);
  // The first leg of a split request is sent, and has ended.
  void dispatch_prefill(passage& p, const candidate& to, instant now);
  void prefilled(passage& p, instant now);
  // The request, or its decode leg, is sent to the candidate.
  void dispatch(passage& p, candidate to, instant now);
  void first_token(passage& p, instant now);
  // A request that is not streamed reached the time at which its prefill should be over.
  void prefill_presumed(passage& p, instant now);
  void ended(passage& p, const token_usage& usage, instant now);
  // The client left or the engine died.
  void withdrawn(passage& p, instant now);
  void unreachable(std::uint32_t engine, instant now);
  void cut(std::uint32_t engine, instant began, instant now);

  std::uint32_t engine_of(endpoint_id id) const;
  std::uint32_t block_bytes() const { return settings_->routing.block_bytes; }

 private:
  struct own_state {  // what a published rule keeps of one engine
    prefix_lru index;
    double queued = 0, requests = 0;
    std::uint64_t served = 0;
  };
  void refresh(instant now);
  void ask_rule(passage& p, const request& r);
  void ask_oracle(passage& p);
  void give_back(passage& p);

  proxy_settings how_;
  const engine_side& engines_;
  std::shared_ptr<const config> settings_;
  health::fleet_tracker tracker_;
  std::shared_ptr<const fleet_view> fleet_;
  std::unique_ptr<routing::shared_state> shared_;
  std::unique_ptr<routing::router> router_;
  routing::hold_queue held_;
  tokenizer::token_estimator estimator_;
  prng rng_;
  std::vector<own_state> own_;
  std::vector<instant> told_token_;
  instant viewed_{};
};

}  // namespace penstock::lab
