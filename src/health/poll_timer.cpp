#include "health/poll_timer.hpp"

#include <algorithm>

#include "health/endpoint_health.hpp"

namespace penstock::health {

poll_timer::poll_timer(const pace& p, instant now) : pace_(p) {
  if (pace_.interval > duration::zero()) due_ = now;
}

void poll_timer::configure(const pace& p, instant now) {
  pace_ = p;
  if (pace_.interval <= duration::zero()) {
    due_ = never;
  } else if (!asking_) {
    due_ = std::min(due_, now + std::max(pace_.interval, pace_.retry));
  }
}

void poll_timer::started(instant now) {
  asking_ = true;
  due_ = now + pace_.lost_after;
}

void poll_timer::answered(bool ok, instant now, prng& rng) {
  asking_ = false;
  failures_ = ok ? 0 : std::min(failures_ + 1, 30u);
  if (pace_.interval <= duration::zero()) {
    due_ = never;
  } else if (again_) {
    due_ = now;
  } else if (ok) {
    due_ = now + jittered(pace_.interval, rng);
  } else {
    auto delay = std::min(pace_.retry, pace_.longest);
    for (std::uint32_t i = 1; i < failures_ && delay < pace_.longest; ++i) delay *= 2;
    due_ = now + jittered(std::min(delay, pace_.longest), rng);
  }
  again_ = false;
}

void poll_timer::hurry(instant now) {
  if (pace_.interval <= duration::zero()) return;
  if (asking_) {
    again_ = true;
  } else {
    due_ = std::min(due_, now);
  }
}

}  // namespace penstock::health
