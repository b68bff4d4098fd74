#include "routing/popularity.hpp"

#include <algorithm>

namespace penstock::routing {
namespace {

constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t h = a ^ (b * 0x9e3779b97f4a7c15ULL);
  h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93ULL;
  return h ^ (h >> 32);
}
constexpr std::size_t cell_of(std::uint64_t key, std::size_t row, std::size_t width) {
  return static_cast<std::size_t>(key >> (row * 32)) % width;
}

}  // namespace

popularity::popularity() : sketch_(std::make_unique<std::array<row, rows>>()) {}

std::uint32_t popularity::count(std::uint64_t key) const {
  std::uint32_t least = ~0U;
  for (std::size_t r = 0; r < rows; ++r) least = std::min(least, (*sketch_)[r][cell_of(key, r, width)]);
  return least;
}

// Conservative update: only the cells that hold the present count grow, which keeps collisions small.
void popularity::add(std::uint64_t key) {
  const std::uint32_t next = count(key) + 1;
  for (std::size_t r = 0; r < rows; ++r) {
    std::uint32_t& cell = (*sketch_)[r][cell_of(key, r, width)];
    cell = std::max(cell, next);
  }
}

void popularity::halve() {
  for (row& r : *sketch_) {
    for (std::uint32_t& cell : r) cell /= 2;
  }
}

telling_block popularity::telling(std::uint64_t model, std::span<const prefix_block> blocks,
                                  std::size_t endpoints) const {
  if (blocks.empty()) return {};
  const std::uint64_t total = count(mix(model, 1)), n = std::max<std::size_t>(endpoints, 1);
  telling_block t;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    t = {mix(model, blocks[i].key), static_cast<std::uint32_t>(i)};
    const std::uint64_t seen = count(t.key);
    if (seen == 0 || seen * 2 * n < total) break;
  }
  t.key |= t.key == 0;
  return t;
}

void popularity::note(std::uint64_t model, std::span<const prefix_block> blocks, std::size_t endpoints) {
  const std::size_t last = telling(model, blocks, endpoints).index;
  for (std::size_t i = 0; i < blocks.size() && i <= last + ahead; ++i) add(mix(model, blocks[i].key));
  add(mix(model, 1));
  if (++noted_ < halve_after) return;
  noted_ = 0;
  halve();
}

}  // namespace penstock::routing
