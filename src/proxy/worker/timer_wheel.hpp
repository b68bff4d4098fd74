// Deadlines of many connections, compared at ticks: arming and cancelling cost a few instructions.
#pragma once

#include <array>
#include <cstdint>

#include "penstock/time.hpp"

namespace penstock::worker {

// A hashed wheel of one turn of 4,096 ticks of 10 ms; longer deadlines stay in their slot for more turns
// (after h2o's and nginx's coarse timers). Entries are members of what they time, so nothing is allocated.
class timer_wheel {
 public:
  static constexpr duration tick = std::chrono::milliseconds(10);

  // A member of the timed object. Unlinks itself when destroyed.
  class entry {
   public:
    entry() = default;
    entry(const entry&) = delete;
    entry& operator=(const entry&) = delete;
    ~entry() { unlink(); }

    bool armed() const { return wheel_ != nullptr; }
    instant deadline() const { return deadline_; }
    void unlink();
    void* owner = nullptr;  // set once by the owner; handed to the callback
    std::uint8_t kind = 0;  // what owner points to

   private:
    friend class timer_wheel;
    entry* prev_ = nullptr;
    entry* next_ = nullptr;
    timer_wheel* wheel_ = nullptr;
    instant deadline_ = never;
    std::uint32_t slot_ = 0;
  };

  explicit timer_wheel(instant start) : turned_to_(number(start)) {}

  // Arms or moves. A deadline in the past fires at the next turn().
  void arm(entry& e, instant deadline);

  // Calls fired(entry&) for each entry whose deadline is at or before `now`, unlinked before the call.
  // The callback may arm and destroy any entry.
  template <class Fired>
  void turn(instant now, Fired&& fired) {
    if (now < wake_) return;
    turning_ = now;
    while (entry* e = pop_due(now)) fired(*e);
    turning_ = instant::min();
    wake_ = find_wake(now);
  }

  // When turn() is worth calling next: no entry is due before; `never` when nothing is armed. On a tick,
  // so that deadlines near each other share one wake-up.
  instant next() const { return wake_; }
  std::size_t armed() const { return armed_; }

 private:
  static constexpr std::size_t slots = 4096;
  static std::int64_t number(instant t) { return t.time_since_epoch() / tick; }
  entry* pop_due(instant now);
  instant find_wake(instant now) const;

  std::array<entry*, slots> heads_{};
  instant wake_ = never;
  std::int64_t turned_to_;  // ticks before this one were looked at
  std::size_t armed_ = 0;
  instant turning_ = instant::min();  // the time of the turn under way
};

}  // namespace penstock::worker
