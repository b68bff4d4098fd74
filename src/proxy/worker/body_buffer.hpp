// A request body: one contiguous, padded buffer that grows as bytes arrive.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "penstock/bytes.hpp"
#include "proxy/worker/budget.hpp"

namespace penstock::worker {

// Freed body memory in powers of two, kept warm for the next bodies. One per worker.
class body_pool {
 public:
  static constexpr std::size_t smallest = 4 * 1024;

  // Memory of at least `bytes`, rounded up to a class; `bytes` is set to what it really has.
  std::unique_ptr<char[]> take(std::size_t& bytes);
  // Back into the pool, or freed when enough is kept.
  void give(std::unique_ptr<char[]> memory, std::size_t bytes);

 private:
  static constexpr std::size_t classes = 9;  // 4 KiB .. 1 MiB
  static constexpr std::size_t kept_limit = 8 * 1024 * 1024;
  static std::size_t class_of(std::size_t bytes);  // smallest class that holds so much

  std::array<std::vector<std::unique_ptr<char[]>>, classes> free_;
  std::size_t kept_ = 0;
};

// Owned by one request. Never sized from Content-Length alone: a client that announces much and sends
// nothing costs the smallest buffer, and one that sends never more than 16 times what it sent. Its whole
// capacity is charged to the body budget.
class body_buffer {
 public:
  body_buffer(body_pool& pool, byte_budget& budget) : pool_(&pool), charge_(budget) {}
  body_buffer(const body_buffer&) = delete;
  body_buffer& operator=(const body_buffer&) = delete;
  ~body_buffer() { release(); }

  void append(bytes_view bytes);
  // Room for up to `want` more bytes (some, at least 1, when want > 0), to be filled and then told by
  // filled(). `want` is what the client announced: it decides how far the buffer grows in one step.
  std::span<char> room(std::size_t want);
  void filled(std::size_t n) { size_ += n; }

  // The body so far, followed by padding that may be read.
  bytes_view view() const { return {memory_.get(), size_}; }
  std::size_t size() const { return size_; }
  std::size_t capacity() const { return capacity_; }
  // Gives the memory back before the request ends.
  void release();

 private:
  void grow(std::size_t needed);

  body_pool* pool_;
  byte_lease charge_;
  std::unique_ptr<char[]> memory_;
  std::size_t size_ = 0, capacity_ = 0;
};

}  // namespace penstock::worker
