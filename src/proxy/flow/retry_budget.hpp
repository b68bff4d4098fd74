// How often requests may be tried again, so that retries never multiply an outage.
#pragma once

#include <algorithm>

namespace penstock::flow {

// A token bucket fed by requests: each one adds `share` of a retry, at most 10 saved up, and two are
// there from the start (none if the share is 0: no retries then). One per worker. (Envoy's retry budget is 20
// % with a floor of 3.)
class retry_budget {
 public:
  explicit retry_budget(double share) : share_(share), saved_(share > 0 ? 2.0 : 0.0) {}

  void request() { saved_ = std::min(saved_ + share_, 10.0); }
  bool take() {
    if (saved_ < 1.0) return false;
    saved_ -= 1.0;
    return true;
  }
  void set_share(double share) { share_ = share; }

 private:
  double share_;
  double saved_;
};

}  // namespace penstock::flow
