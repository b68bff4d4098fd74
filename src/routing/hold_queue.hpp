// Requests that the proxy holds back while the engine they want has enough to do: who goes next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <utility>

#include "penstock/ids.hpp"
#include "penstock/time.hpp"

namespace penstock::routing {

// What a request asks of its engine.
struct held_work {
  duration takes{};         // to compute its prompt
  bool builds_on = false;   // ... once another request has computed what they share
  std::uint64_t prompt = 0;  // names what those requests share; 0: nothing does
};

// Of one worker; not thread safe. Outlives its tickets.
class hold_queue {
  // Equal times are told apart by the order in which they came.
  using place = std::pair<instant, std::uint64_t>;

 public:
  // A member of what waits. Leaves its queue when destroyed.
  class ticket {
   public:
    ticket() = default;
    ticket(const ticket&) = delete;
    ticket& operator=(const ticket&) = delete;
    ~ticket() { leave(); }

    bool waits() const { return queue_ != nullptr; }
    void leave();
    void* owner = nullptr;  // set once by the owner

   private:
    friend class hold_queue;
    hold_queue* queue_ = nullptr;
    endpoint_id at_;
    std::uint64_t leads_ = 0;  // key of the prompt that it brings; 0: none
    place turn_, limit_;
  };

  // A request that came `now` waits for `at`, at most for `longest`. Those go first whose turn is earlier:
  // the time they came, and some times what their work takes.
  void add(ticket& t, endpoint_id at, const held_work& work, instant now, duration longest);

  // Who goes now, no longer in the queue: whose time is over, else the first in turn of an engine that
  // `takes(endpoint_id)`. Null: nobody.
  template <class Takes>
  ticket* next(instant now, Takes takes) {
    if (!limits_.empty() && limits_.begin()->first.first <= now) return call(*limits_.begin()->second);
    for (const auto& [at, line] : lines_) {
      if (takes(line.begin()->second->at_)) return call(*line.begin()->second);
    }
    return nullptr;
  }

  bool empty() const { return limits_.empty(); }
  std::size_t size() const { return limits_.size(); }

 private:
  static ticket* call(ticket& t);

  std::map<std::uint32_t, std::map<place, ticket*>> lines_;  // by endpoint; none is empty
  std::map<place, ticket*> limits_;
  std::unordered_map<std::uint64_t, ticket*> leaders_;  // by prompt: who computes what others build on
  std::uint64_t added_ = 0;
};

}  // namespace penstock::routing
