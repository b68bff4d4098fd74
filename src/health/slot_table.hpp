// Hands out endpoint slots: never-used ones first, then the one free for longest, with a new generation.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>

#include "penstock/ids.hpp"

namespace penstock::health {

class slot_table {
 public:
  // nullopt: all max_endpoints slots are in use.
  std::optional<endpoint_id> take();
  // `id` came from take() and was not given back yet.
  void give_back(endpoint_id id);
  std::size_t in_use() const { return used_; }

 private:
  std::array<std::uint16_t, max_endpoints> generation_{};
  std::deque<std::uint16_t> freed_;  // oldest first
  std::uint16_t fresh_ = 0;          // slots from here on were never used
  std::size_t used_ = 0;
};

}  // namespace penstock::health
