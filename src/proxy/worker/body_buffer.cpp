#include "proxy/worker/body_buffer.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "tokenizer/extractor.hpp"

namespace penstock::worker {

std::size_t body_pool::class_of(std::size_t bytes) {
  const std::size_t rounded = std::bit_ceil(std::max(bytes, smallest));
  return static_cast<std::size_t>(std::countr_zero(rounded) - std::countr_zero(smallest));
}

std::unique_ptr<char[]> body_pool::take(std::size_t& bytes) {
  const std::size_t c = class_of(bytes);
  bytes = smallest << c;
  if (c < classes && !free_[c].empty()) {
    std::unique_ptr<char[]> memory = std::move(free_[c].back());
    free_[c].pop_back();
    kept_ -= bytes;
    return memory;
  }
  return std::unique_ptr<char[]>(new char[bytes]);
}

void body_pool::give(std::unique_ptr<char[]> memory, std::size_t bytes) {
  const std::size_t c = class_of(bytes);
  if (memory == nullptr || c >= classes || kept_ + bytes > kept_limit) return;
  kept_ += bytes;
  free_[c].push_back(std::move(memory));
}

void body_buffer::grow(std::size_t needed) {
  needed += tokenizer::body_padding;
  if (needed <= capacity_) return;
  std::size_t bytes = std::max(needed, capacity_ * 2);
  std::unique_ptr<char[]> larger = pool_->take(bytes);
  if (size_ != 0) std::memcpy(larger.get(), memory_.get(), size_);
  pool_->give(std::move(memory_), capacity_);
  memory_ = std::move(larger);
  capacity_ = bytes;
  charge_.set(capacity_);
}

void body_buffer::append(bytes_view bytes) {
  if (bytes.empty()) return;
  grow(size_ + bytes.size());
  std::memcpy(memory_.get() + size_, bytes.data(), bytes.size());
  size_ += bytes.size();
}

std::span<char> body_buffer::room(std::size_t want) {
  if (want == 0) return {};
  // Growing in few steps saves copies of long prompts.
  constexpr std::size_t trust = 16;
  if (size_ + tokenizer::body_padding >= capacity_)
    grow(std::min(size_ + want, std::max(size_ * trust, body_pool::smallest - tokenizer::body_padding)));
  return {memory_.get() + size_, std::min(want, capacity_ - size_ - tokenizer::body_padding)};
}

void body_buffer::release() {
  pool_->give(std::move(memory_), capacity_);
  memory_ = nullptr;
  size_ = capacity_ = 0;
  charge_.set(0);
}

}  // namespace penstock::worker
