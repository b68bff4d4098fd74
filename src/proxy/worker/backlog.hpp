// Bytes that wait for their turn: answers that the client's kernel did not take yet, requests sent too early.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "penstock/bytes.hpp"
#include "proxy/worker/budget.hpp"

namespace penstock::worker {

// Memory of backlogs that became empty, for the next: most hold one small answer for a moment. One per
// worker.
class spare_buffers {
 public:
  std::string take() {
    if (free_.empty()) return {};
    std::string buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }
  void give(std::string buffer) {
    if (free_.size() == most || buffer.capacity() > largest || buffer.capacity() < smallest) return;
    buffer.clear();
    free_.push_back(std::move(buffer));
  }

 private:
  static constexpr std::size_t most = 64, smallest = 64, largest = 4 * 1024;
  std::vector<std::string> free_;
};

// First in, first out. Holds memory only while bytes wait; charged to the buffer budget. The bound is the
// owner's: it stops feeding (pauses the engine) above limits.stream_buffer.
class backlog {
 public:
  // Both outlive it.
  backlog(byte_budget& budget, spare_buffers& spare) : spare_(&spare), charge_(budget) {}

  bool empty() const { return offset_ == bytes_.size(); }
  std::size_t size() const { return bytes_.size() - offset_; }
  bytes_view front() const { return bytes_view(bytes_).substr(offset_); }

  void push(bytes_view more) {
    if (bytes_.empty()) bytes_ = spare_->take();
    bytes_.append(more);
    charge_.set(bytes_.capacity());
  }
  void pop(std::size_t n) {
    offset_ += n;
    if (empty()) {
      clear();
    } else if (offset_ > bytes_.size() / 2) {
      bytes_.erase(0, offset_);
      offset_ = 0;
    }
  }
  void clear() { spare_->give(take()); }
  std::string take() {
    charge_.set(0);
    bytes_.erase(0, std::exchange(offset_, 0));
    return std::exchange(bytes_, std::string());
  }

 private:
  spare_buffers* spare_;
  std::string bytes_;
  std::size_t offset_ = 0;
  byte_lease charge_;
};

}  // namespace penstock::worker
