// One entry of the prefix table as a 64-bit word: tag 23 | slot 10 | epoch 21 | units 8 | mark 2; 0 is empty.
#pragma once

#include <cstdint>

#include "routing/prefix_table.hpp"

namespace penstock::routing::prefix_word {

inline constexpr unsigned units_at = 2, epoch_at = 10, slot_at = 31, tag_at = 41;
inline constexpr std::uint32_t epoch_mask = (1U << 21) - 1;
static_assert(max_endpoints <= 1024);

// Tag and slot: who the word is about.
constexpr std::uint64_t identity(std::uint64_t tag, std::uint16_t slot) {
  return tag << (tag_at - slot_at) | slot;
}
constexpr std::uint64_t identity(std::uint64_t w) { return w >> slot_at; }
constexpr std::uint16_t slot(std::uint64_t w) { return static_cast<std::uint16_t>(w >> slot_at & 1023); }
constexpr std::uint32_t epoch(std::uint64_t w) {
  return static_cast<std::uint32_t>(w >> epoch_at) & epoch_mask;
}
constexpr std::int32_t units(std::uint64_t w) { return static_cast<std::int32_t>(w >> units_at & 255); }
constexpr block_mark mark(std::uint64_t w) { return static_cast<block_mark>(w & 3); }

constexpr std::uint64_t make(std::uint64_t who, std::uint32_t now, std::uint8_t n, block_mark m) {
  return who << slot_at | std::uint64_t{now & epoch_mask} << epoch_at | std::uint64_t{n} << units_at |
         static_cast<std::uint64_t>(m);
}

// Epochs run on 21 bits. A reader's `now` may be a little older than a word's epoch: that is age 0 too.
inline constexpr std::uint32_t lead = 4;
constexpr std::uint32_t age(std::uint64_t w, std::uint32_t now) {
  const std::uint32_t ahead = (now + lead - epoch(w)) & epoch_mask;
  return ahead < lead ? 0 : ahead - lead;
}

}  // namespace penstock::routing::prefix_word
