#include "health/slot_table.hpp"

#include <doctest/doctest.h>

#include <set>

using namespace penstock;
using namespace penstock::health;

TEST_CASE("a freed slot waits until every slot was used, and comes back with a new generation") {
  slot_table slots;
  const auto first = *slots.take();
  const auto second = *slots.take();
  CHECK(first == endpoint_id{0, 0});
  CHECK(second == endpoint_id{1, 0});
  slots.give_back(second);
  slots.give_back(first);
  std::set<int> seen;
  for (std::size_t i = 2; i < max_endpoints; ++i) {
    const auto id = *slots.take();
    CHECK(id.generation == 0);
    seen.insert(id.slot);
  }
  CHECK(seen.size() == max_endpoints - 2);
  CHECK(seen.count(0) + seen.count(1) == 0);
  CHECK(*slots.take() == endpoint_id{1, 1});  // free for longest
  CHECK(*slots.take() == endpoint_id{0, 1});
  CHECK_FALSE(slots.take());
  CHECK(slots.in_use() == max_endpoints);
  slots.give_back({7, 0});
  CHECK(*slots.take() == endpoint_id{7, 1});
}
