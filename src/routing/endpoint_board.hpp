// What every worker of the process knows of the work on every endpoint: one padded cell a slot, relaxed
// atomics, no locks.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "penstock/ids.hpp"
#include "penstock/time.hpp"
#include "routing/decode_cost.hpp"
#include "routing/prefill_speed.hpp"

namespace penstock::routing {

// One endpoint's figures at one moment. Read without a lock: the members may be a few nanoseconds apart.
struct endpoint_load {
  std::uint64_t prefill_tokens = 0;  // uncached prompt tokens of requests without a first token
  std::uint64_t decode_tokens = 0;   // context tokens of sequences that generate
  std::uint64_t sequences = 0;       // in flight: prompts x n
  std::uint64_t waiting = 0;         // requests without a first token
  instant finish{};                  // when the prefill work should be over; in the past when idle
  double speed = 0;                  // prefill tokens per second, learned; 0: not known
  instant suspect_until{};
};

// One request's work as it is booked. Tokens and sequences are given back exactly as they were taken.
struct booked_work {
  std::uint64_t prefill_tokens = 0;
  std::uint64_t decode_tokens = 0;  // context once the first token came
  std::uint32_t sequences = 1;
  duration expected{};  // prefill_tokens at the endpoint's speed
};

// A fixed array of max_endpoints cells that outlives every endpoint. Each count carries the generation it
// belongs to, in one word, so that a lease of an earlier owner of the slot can never touch the figures of
// the present one: the compare-exchange sees the other generation and gives up. A newer generation takes
// a count over at its first use; there is no reset to forget.
class endpoint_board {
 public:
  // Zeros when `id` is not the slot's owner.
  endpoint_load read(endpoint_id id) const;

  // Books a request: its tokens, its sequences and its place in the finish clock. False when `id` was
  // replaced by a newer generation: then nothing was booked.
  bool book(endpoint_id id, const booked_work& work, instant now);
  // The first token: prefill tokens become decode tokens.
  void begin_decode(endpoint_id id, const booked_work& work);
  // Gives back what is still booked. `decoding` tells whether begin_decode came before.
  void release(endpoint_id id, const booked_work& work, bool decoding);
  // Takes the expected work of a request that will not run out of the finish clock.
  void unwind(endpoint_id id, duration expected);
  // After a first token: the finish clock restarts from what is still outstanding at `speed`.
  void reanchor(endpoint_id id, instant now, double speed);

  // Of what is booked, `tokens` wait at the proxy for their turn, or nobody will see when they are done; and no
  // longer. Not part of read(), as most requests are neither.
  void hold(endpoint_id id, std::uint64_t tokens);
  void unhold(endpoint_id id, std::uint64_t tokens);
  std::uint64_t held_tokens(endpoint_id id) const;

  // Learns from the first token of a request that was dispatched at `dispatched`, had `tokens` to
  // compute, and whose engine took its requests in order. While another worker teaches the same endpoint the
  // lesson is lost.
  void teach(endpoint_id id, std::uint64_t tokens, instant dispatched, instant now);
  // Puts what somebody knows, in prefill tokens per second, in the place of what was learned so far; lost like a
  // lesson.
  void tell_speed(endpoint_id id, double speed);

  // Learns from an answer of `completion` tokens that took `secs` from its first token to its end, at
  // `sequences` in flight on the average. While another worker teaches the same endpoint the lesson is lost.
  void teach_decode(endpoint_id id, std::uint64_t completion, double secs, double sequences);
  // What one more sequence costs there. Not part of read(): it lies on a cache line of its own.
  decode_fit decode_of(endpoint_id id) const;

  // The endpoint refused or failed lately; decisions trust it less until then.
  void suspect(endpoint_id id, instant until);

 private:
  struct alignas(64) cell {
    std::atomic<std::uint64_t> prefill{0}, decode{0};  // generation 16 | count 48
    std::atomic<std::uint64_t> sequences{0};           // generation 16 | waiting 20 | sequences 28
    std::atomic<std::uint64_t> finish{0};              // generation 16 | microseconds 48
    std::atomic<std::uint64_t> suspect{0};             // generation 16 | microseconds 48
    std::atomic<std::uint64_t> learned{0};             // float tokens | float seconds
    std::atomic<std::uint64_t> learned_by{0};          // generation 16 | lessons 48
  };
  static_assert(sizeof(cell) == 64);
  struct alignas(64) decode_cell {
    std::atomic<std::uint64_t> fit{0};    // float base | float slope
    std::atomic<std::uint32_t> owner{0};  // generation + 1 of what was learned
    std::atomic<bool> teaching{false};
    std::atomic<std::uint64_t> held{0};   // generation 16 | prefill tokens 48
    decode_sums sums;  // of whoever set `teaching`
  };

  // What `learned` is made of, of whoever set `teaching`.
  struct alignas(64) speed_cell {
    std::atomic<bool> teaching{false};
    std::uint32_t owner = 0;  // generation + 1 of what was learned
    prefill_sums sums;
  };
  static_assert(sizeof(speed_cell) == 64);
  template <class Change>
  void change_speed(endpoint_id id, Change change);

  std::array<cell, max_endpoints> cells_;
  std::array<speed_cell, max_endpoints> speeds_;
  std::array<decode_cell, max_endpoints> decode_;
};

}  // namespace penstock::routing
