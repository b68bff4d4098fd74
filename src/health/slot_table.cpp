#include "health/slot_table.hpp"

namespace penstock::health {

std::optional<endpoint_id> slot_table::take() {
  std::uint16_t slot = 0;
  if (fresh_ < max_endpoints) {
    slot = fresh_++;
  } else if (!freed_.empty()) {
    slot = freed_.front();
    freed_.pop_front();
  } else {
    return std::nullopt;
  }
  ++used_;
  return endpoint_id{slot, generation_[slot]};
}

void slot_table::give_back(endpoint_id id) {
  // A generation comes again after 65,536 owners of one slot, and every other free slot is used up first.
  ++generation_[id.slot];
  freed_.push_back(id.slot);
  --used_;
}

}  // namespace penstock::health
