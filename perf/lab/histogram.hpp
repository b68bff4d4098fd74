// Millions of small durations in little memory.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace penstock::lab {

// Bins of 1 % from 10 microseconds to some 3 hours.
class histogram {
 public:
  void add(double seconds) {
    ++counts_[bin(seconds)];
    ++total_;
  }
  void merge(const histogram& other) {
    for (std::size_t i = 0; i < bins; ++i) counts_[i] += other.counts_[i];
    total_ += other.total_;
  }
  std::uint64_t total() const { return total_; }
  // The value below which a share `q` lies; 0 when empty.
  double quantile(double q) const {
    if (total_ == 0) return 0;
    const auto rank = static_cast<std::uint64_t>(q * static_cast<double>(total_ - 1));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < bins; ++i) {
      seen += counts_[i];
      if (seen > rank) return least * std::exp((static_cast<double>(i) + 0.5) * step);
    }
    return 0;
  }

 private:
  static constexpr std::size_t bins = 2100;
  static constexpr double least = 1e-5, step = 0.01;
  static std::size_t bin(double seconds) {
    const double at = std::log(std::max(seconds, least) / least) / step;
    return std::min(static_cast<std::size_t>(at), bins - 1);
  }
  std::array<std::uint64_t, bins> counts_{};
  std::uint64_t total_ = 0;
};

}  // namespace penstock::lab
