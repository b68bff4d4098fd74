// Bytes that wait for their turn: answers that the client's kernel did not take yet, requests sent too early.
#pragma once

#include <string>
#include <utility>

#include "penstock/bytes.hpp"
#include "proxy/worker/budget.hpp"

namespace penstock::worker {

// First in, first out. Holds memory only while bytes wait; charged to the buffer budget. The bound is the
// owner's: it stops feeding (pauses the engine) above limits.stream_buffer.
class backlog {
 public:
  explicit backlog(byte_budget& budget) : charge_(budget) {}

  bool empty() const { return offset_ == bytes_.size(); }
  std::size_t size() const { return bytes_.size() - offset_; }
  bytes_view front() const { return bytes_view(bytes_).substr(offset_); }

  void push(bytes_view more) {
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
  void clear() { take(); }
  std::string take() {
    charge_.set(0);
    bytes_.erase(0, std::exchange(offset_, 0));
    return std::exchange(bytes_, std::string());
  }

 private:
  std::string bytes_;
  std::size_t offset_ = 0;
  byte_lease charge_;
};

}  // namespace penstock::worker
