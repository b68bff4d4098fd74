#include "routing/popularity.hpp"

#include <doctest/doctest.h>

#include "unit/routing/fixtures.hpp"

using namespace penstock;
using namespace penstock::routing;
using fixtures::chain_of;

TEST_CASE("popularity: the telling block lies behind what all requests share") {
  popularity p;
  const prefix_chain product = chain_of(1, 10), tenant_a = chain_of(2, 3, product),
                     tenant_b = chain_of(3, 3, product);
  for (std::uint64_t i = 0; i < 200; ++i)
    p.note(7, chain_of(100 + i, 5, i % 2 == 0 ? tenant_a : tenant_b).blocks, 4);
  // Half of the requests share a tenant's blocks: more than 1 / (2 x 4).
  CHECK(p.telling(7, chain_of(999, 5, tenant_a).blocks, 4).index == 13);
  // A new tenant is told by its first own block.
  CHECK(p.telling(7, chain_of(999, 5, product).blocks, 4).index == 10);
  CHECK(p.telling(7, chain_of(50, 5).blocks, 4).index == 0);
  // Another model has its own counts.
  CHECK(p.telling(8, chain_of(999, 5, tenant_a).blocks, 4).index == 0);
  CHECK(p.telling(8, chain_of(999, 5, tenant_a).blocks, 4).key != p.telling(7, tenant_a.blocks, 4).key);
}

TEST_CASE("popularity: nothing tells requests that are all the same, so their last block does") {
  popularity p;
  const prefix_chain c = chain_of(1, 6);
  for (int i = 0; i < 100; ++i) p.note(1, c.blocks, 4);
  CHECK(p.telling(1, c.blocks, 4).index == 5);
  CHECK(p.telling(1, {}, 4).key == 0);
  p.note(1, {}, 0);
}

TEST_CASE("popularity: what was popular is forgotten") {
  popularity p;
  const prefix_chain old_product = chain_of(1, 4), new_product = chain_of(2, 4);
  for (std::uint64_t i = 0; i < 3000; ++i) p.note(1, chain_of(10 + i, 2, old_product).blocks, 4);
  CHECK(p.telling(1, chain_of(5, 2, old_product).blocks, 4).index == 4);
  for (std::uint64_t i = 0; i < 60000; ++i) p.note(1, chain_of(10000 + i, 1, new_product).blocks, 4);
  CHECK(p.telling(1, chain_of(6, 2, old_product).blocks, 4).index == 0);
  CHECK(p.telling(1, chain_of(6, 2, new_product).blocks, 4).index == 4);
}
