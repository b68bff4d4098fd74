// Bytes that somebody holds, counted as leases.
#pragma once

#include <cstdint>
#include <utility>

namespace penstock::worker {

// A limit in bytes and how much of it is held. One per worker and purpose; not thread safe.
class byte_budget {
 public:
  explicit byte_budget(std::uint64_t limit) : limit_(limit) {}
  byte_budget(const byte_budget&) = delete;
  byte_budget& operator=(const byte_budget&) = delete;

  bool full() const { return used_ >= limit_; }
  std::uint64_t used() const { return used_; }
  void set_limit(std::uint64_t limit) { limit_ = limit; }

 private:
  friend class byte_lease;
  std::uint64_t limit_;
  std::uint64_t used_ = 0;
};

// A share of a budget; given back by the destructor. A holder may go over the limit (whoever holds bytes
// may finish); newcomers ask full() first.
class byte_lease {
 public:
  byte_lease() = default;
  explicit byte_lease(byte_budget& from) : from_(&from) {}
  byte_lease(byte_lease&& other) noexcept
      : from_(std::exchange(other.from_, nullptr)), held_(std::exchange(other.held_, 0)) {}
  byte_lease& operator=(byte_lease&& other) noexcept {
    if (this != &other) {
      set(0);
      from_ = std::exchange(other.from_, nullptr);
      held_ = std::exchange(other.held_, 0);
    }
    return *this;
  }
  ~byte_lease() { set(0); }

  void set(std::uint64_t bytes) {
    if (from_ != nullptr) from_->used_ = from_->used_ - held_ + bytes;
    held_ = from_ != nullptr ? bytes : 0;
  }
  std::uint64_t held() const { return held_; }

 private:
  byte_budget* from_ = nullptr;
  std::uint64_t held_ = 0;
};

// One in a count; given back by the destructor.
class count_lease {
 public:
  count_lease() = default;
  explicit count_lease(std::uint64_t& count) : count_(&count) { ++count; }
  count_lease(count_lease&& other) noexcept : count_(std::exchange(other.count_, nullptr)) {}
  count_lease& operator=(count_lease&& other) noexcept {
    std::swap(count_, other.count_);
    return *this;
  }
  ~count_lease() {
    if (count_ != nullptr) --*count_;
  }

 private:
  std::uint64_t* count_ = nullptr;
};

}  // namespace penstock::worker
