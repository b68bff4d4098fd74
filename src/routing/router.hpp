// The one door of the routing room: facts and a fleet go in, an ordered plan comes out, and what
// happened to the request is told back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "penstock/account_record.hpp"
#include "penstock/error.hpp"
#include "penstock/fleet_view.hpp"
#include "penstock/plan.hpp"
#include "penstock/random.hpp"
#include "penstock/request_facts.hpp"
#include "routing/endpoint_board.hpp"
#include "routing/hold_queue.hpp"
#include "routing/pair_book.hpp"
#include "routing/prefix_table.hpp"

namespace penstock::routing {

// What all workers of a process share. Lock-free; built once, outlives every router and every lease.
struct shared_state {
  // `placement` seeds where table entries stand: a random number of the process, so that nobody can make
  // prompts that crowd one place. Keys themselves are the same everywhere: replicas agree on them.
  explicit shared_state(const routing_config& settings, std::uint64_t placement = 0);
  routing_config settings;  // for fleets that carry no configuration
  endpoint_board board;
  prefix_table prefixes;
  prefix_table responses;  // response id -> endpoint: the same lossy structure, its own small memory
};

// Work on an endpoint that is not done yet. Owned by the request's flow; gives everything back to the
// board in its destructor, whatever happened. Movable, not copyable.
class work_lease {
 public:
  work_lease() noexcept;
  work_lease(work_lease&&) noexcept;
  work_lease& operator=(work_lease&&) noexcept;
  ~work_lease();

  explicit operator bool() const { return state_ != nullptr; }
  endpoint_id endpoint() const;
  // A decode leg's: requests waited for room at its engine when this one was booked, as the last scrape has
  // it.
  bool crowded() const;
  // Tokens of the prompt that its engine was believed to have computed before this was sent; 0 where that is
  // not sure, as of blocks whose request had no first token yet.
  std::uint64_t computed_before() const;

  // A reservation: the request waits at the proxy, in a queue that is to know this of it. `prompt` is its
  // telling block's key.
  held_work hold(std::uint64_t prompt);
  // Its turn has come: it is on its way to the engine.
  void send();
  // The first token came: prefill tokens become decode tokens, blocks are confirmed, speed is learned
  // (only where `teaches`: the first token of a stream, not the timer of a request without one).
  void first_token(instant now, bool teaches);
  // The answer ended well: its blocks are the engine's newest now, and the generated tokens of `usage`
  // took KV space of their own. The lease is over afterwards.
  void ended(instant now, const token_usage& usage);
  // The request ended before its first token, or failed: pending blocks are withdrawn.
  void withdraw();

 private:
  friend class router;
  struct state;
  explicit work_lease(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

// Decides for one worker. Not thread safe; several routers share one shared_state.
class router {
 public:
  explicit router(shared_state& shared);
  ~router();

  // Ranks the endpoints that may serve `facts`. Refusals: model_not_found (no pool matches),
  // response_not_found (previous_response_id that nobody here remembers, or whose engine is out),
  // no_endpoint. A draining replica decides as ever. What belongs to a fleet is kept by its version: a
  // fleet that changed anything but states and confidences needs a new one (0: never kept). The plan names
  // the best `most` candidates; where the pool splits requests, all.
  std::variant<plan, api_error> decide(const request_facts& facts, const fleet_view& fleet, instant now,
                                       prng& rng, std::size_t most = ~std::size_t{0});

  // The request was handed to `chosen`: books its work and enters its blocks as pending.
  work_lease dispatched(const request_facts& facts, const fleet_view& fleet, const candidate& chosen,
                        instant now);

  // Whether a request goes to the plan's first engine only when its turn comes: policy `prefix`, one place, a
  // busy engine, and the fleet's routing.hold is not 0.
  bool should_wait(const plan& p, const fleet_view& fleet) const;
  // Whether an engine has enough to do for now: what more it gets only waits there, first come, first served.
  // Only requests whose first token will be seen count, and none before its speed is known.
  bool has_enough(endpoint_id endpoint) const;
  // A request that waited for `chosen` goes, its work still booked: what is before it now.
  void turn_came(candidate& chosen) const;
  // Whether an engine is not what it was when somebody was sent to wait for it: gone, failing or leaving.
  bool doubts(endpoint_id endpoint, const fleet_view& fleet, instant now) const;
  // Books the work of a request that is to be dispatched later: for one that waits at the proxy, or until its
  // connection stands. The decision and the dispatch that follow need it gone.
  work_lease reserve(const request_facts& facts, const fleet_view& fleet, const candidate& chosen,
                     instant now);

  // When the prefill of this candidate's work should be over: for requests that are not streamed.
  duration predicted_prefill(const candidate& chosen) const;

  // An answer of `model` had so many completion tokens: what the next ones are expected to have.
  void answered(std::string_view model, const token_usage& usage);

  // A decode request came to its first token: `tokens` that another engine had computed took so long from the
  // request on; `crowded` is its lease's.
  void handed_over(endpoint_id prefill, endpoint_id decode, std::uint64_t tokens, duration took,
                   bool crowded = false);
  // The two could not hand over: not tried as a pair for a minute.
  void pair_failed(endpoint_id prefill, endpoint_id decode, instant now);

  // What this worker learned of pairs, and to begin with what others did.
  const pair_book& pairs() const;
  void learn_pairs(const pair_book& known);

  // `response_id` was answered by `endpoint`; lossy.
  void remember_response(std::string_view response_id, endpoint_id endpoint);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

// The plan in words, one line per candidate: for the debug header, the log and `penstock explain`.
std::string explain(const plan& p, const fleet_view& fleet);

}  // namespace penstock::routing
