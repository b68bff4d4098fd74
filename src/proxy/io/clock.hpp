// The one place where Penstock asks what time it is.
#pragma once

#include <ctime>

#include "penstock/time.hpp"

namespace penstock::io {

// CLOCK_MONOTONIC, the time line of every deadline.
inline instant read_clock() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return instant(std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec));
}

// Microseconds since the epoch of the wall clock: for log lines only.
inline std::int64_t wall_clock_us() {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::int64_t>(t.tv_sec) * 1000000 + t.tv_nsec / 1000;
}

}  // namespace penstock::io
