#include "proxy/worker/timer_wheel.hpp"

#include <algorithm>

namespace penstock::worker {

void timer_wheel::entry::unlink() {
  if (wheel_ == nullptr) return;
  (prev_ != nullptr ? prev_->next_ : wheel_->heads_[slot_]) = next_;
  if (next_ != nullptr) next_->prev_ = prev_;
  prev_ = next_ = nullptr;
  --wheel_->armed_;
  wheel_ = nullptr;
}

void timer_wheel::arm(entry& e, instant deadline) {
  e.unlink();
  if (deadline == never) return;
  // A callback that arms what is due already must not keep the turn going for ever.
  const std::int64_t at =
      deadline <= turning_ ? number(turning_) + 1 : std::max(number(deadline), turned_to_);
  e.deadline_ = deadline;
  e.slot_ = static_cast<std::uint32_t>(at % static_cast<std::int64_t>(slots));
  entry*& head = heads_[e.slot_];
  e.next_ = head;
  if (head != nullptr) head->prev_ = &e;
  head = &e;
  e.wheel_ = this;
  ++armed_;
  wake_ = std::min(wake_, instant((at + 1) * tick));
}

timer_wheel::entry* timer_wheel::pop_due(instant now) {
  const std::int64_t current = number(now);
  // After a long sleep one look at each slot is enough.
  turned_to_ = std::max(turned_to_, current - static_cast<std::int64_t>(slots) + 1);
  for (;; ++turned_to_) {
    for (entry* e = heads_[static_cast<std::size_t>(turned_to_) % slots]; e != nullptr; e = e->next_) {
      if (e->deadline_ > now) continue;
      e->unlink();
      return e;
    }
    if (turned_to_ >= current) return nullptr;
  }
}

instant timer_wheel::find_wake(instant now) const {
  if (armed_ == 0) return never;
  const std::int64_t current = number(now);
  for (std::int64_t at = current; at < current + static_cast<std::int64_t>(slots); ++at)
    if (heads_[static_cast<std::size_t>(at) % slots] != nullptr) return instant((at + 1) * tick);
  return never;
}

}  // namespace penstock::worker
