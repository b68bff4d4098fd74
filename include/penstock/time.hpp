// Time as the pure rooms know it: instants and durations that somebody else measured.
#pragma once

#include <chrono>
#include <cstdint>

namespace penstock {

using duration = std::chrono::nanoseconds;

// A monotonic time line without a now(): only drivers may ask the kernel what time it is, and the
// simulator moves it at will.
struct monotonic {
  using rep = std::int64_t;
  using period = std::nano;
  using duration = std::chrono::nanoseconds;
  using time_point = std::chrono::time_point<monotonic>;
  static constexpr bool is_steady = true;
};

using instant = monotonic::time_point;

// Later than every instant that occurs: an unset deadline.
inline constexpr instant never = instant::max();

// Seconds as a double, for learned rates, logs and metrics; not for comparing deadlines.
constexpr double seconds(duration d) { return static_cast<double>(d.count()) * 1e-9; }

}  // namespace penstock
