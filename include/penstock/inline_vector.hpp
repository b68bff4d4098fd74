// A vector that lives inside its owner: at most N elements, no allocation.
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <utility>

namespace penstock {

// For small lists on the data path. T is default-constructible; push_back beyond N is a programming
// error (asserted) and ignored in release, so callers check full() where input decides the count.
template <class T, std::size_t N>
class inline_vector {
 public:
  using value_type = T;

  void push_back(T value) {
    assert(size_ < N);
    if (size_ < N) items_[size_++] = std::move(value);
  }
  void clear() { size_ = 0; }
  bool full() const { return size_ == N; }
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  static constexpr std::size_t capacity() { return N; }
  T& operator[](std::size_t i) { return items_[i]; }
  const T& operator[](std::size_t i) const { return items_[i]; }
  T& back() { return items_[size_ - 1]; }
  const T* data() const { return items_.data(); }
  T* begin() { return items_.data(); }
  T* end() { return items_.data() + size_; }
  const T* begin() const { return items_.data(); }
  const T* end() const { return items_.data() + size_; }

 private:
  std::array<T, N> items_{};
  std::size_t size_ = 0;
};

}  // namespace penstock
