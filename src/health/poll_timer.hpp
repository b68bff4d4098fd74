// When something periodic is to be asked again: jitter, backoff after failures, one question at a time.
#pragma once

#include <cstdint>

#include "penstock/random.hpp"
#include "penstock/time.hpp"

namespace penstock::health {

class poll_timer {
 public:
  // First due at once. An interval of 0 is never due; after failures in a row the delay starts at `retry`
  // and doubles up to `longest`. A question without an answer is asked again after `lost_after`.
  struct pace {
    duration interval{}, retry{}, longest{}, lost_after{};
  };
  poll_timer() = default;
  poll_timer(const pace& p, instant now);

  // Another pace from now on; an earlier due time stays.
  void configure(const pace& p, instant now);
  void started(instant now);
  void answered(bool ok, instant now, prng& rng);
  // Due now, or as soon as the answer to the present question is there.
  void hurry(instant now);

  instant due_at() const { return due_; }
  std::uint32_t failures() const { return failures_; }  // in a row

 private:
  pace pace_;
  instant due_ = never;
  std::uint32_t failures_ = 0;
  bool asking_ = false, again_ = false;
};

}  // namespace penstock::health
