#include "routing/hold_queue.hpp"

#include <algorithm>

namespace penstock::routing {
namespace {

// How long a request lets others go before it, in times of its own work: what comes later and is shorter goes
// first, and nobody waits for ever.
constexpr int patience = 8;

constexpr std::uint32_t key_of(endpoint_id id) { return std::uint32_t{id.slot} << 16 | id.generation; }

}  // namespace

void hold_queue::add(ticket& t, endpoint_id at, const held_work& work, instant now, duration longest) {
  t.leave();
  ++added_;
  instant turn = now + patience * work.takes;
  const auto leader = leaders_.find(work.prompt);
  if (work.builds_on && leader != leaders_.end()) {
    // Before the one that it builds on it would have all of the work.
    turn = std::max(turn, leader->second->turn_.first);
  } else if (work.prompt != 0 && leader == leaders_.end()) {
    leaders_.emplace(work.prompt, &t);
    t.leads_ = work.prompt;
  }
  t.queue_ = this;
  t.at_ = at;
  t.turn_ = {turn, added_};
  t.limit_ = {now + longest, added_};
  lines_[key_of(at)].emplace(t.turn_, &t);
  limits_.emplace(t.limit_, &t);
}

void hold_queue::ticket::leave() {
  if (queue_ == nullptr) return;
  const auto line = queue_->lines_.find(key_of(at_));
  line->second.erase(turn_);
  if (line->second.empty()) queue_->lines_.erase(line);
  queue_->limits_.erase(limit_);
  if (leads_ != 0) queue_->leaders_.erase(leads_);
  leads_ = 0;
  queue_ = nullptr;
}

hold_queue::ticket* hold_queue::call(ticket& t) {
  t.leave();
  return &t;
}

}  // namespace penstock::routing
