// Names of things that may be gone when they are used: slot and generation.
#pragma once

#include <cstdint>
#include <functional>

namespace penstock {

// An endpoint of some pool. The slot indexes the endpoint board and the prefix table; the generation
// tells a later owner of the same slot apart. Slots are reused only after a removal, and a change of
// configuration keeps the ids of endpoints that stay.
struct endpoint_id {
  std::uint16_t slot = 0xffff;
  std::uint16_t generation = 0;

  constexpr explicit operator bool() const { return slot != 0xffff; }
  friend constexpr bool operator==(endpoint_id, endpoint_id) = default;
};

// Most endpoints one process can know at a time: the size of the board.
inline constexpr std::size_t max_endpoints = 1024;

}  // namespace penstock
