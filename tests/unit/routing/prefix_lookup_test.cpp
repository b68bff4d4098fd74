// The search for the longest held prefix of many endpoints at once.
#include <doctest/doctest.h>

#include <algorithm>
#include <span>
#include <vector>

#include "penstock/random.hpp"
#include "routing/prefix_table.hpp"
#include "unit/routing/fixtures.hpp"

using namespace penstock;
using namespace penstock::routing;

TEST_CASE("prefix lookup: a guess of the depth changes no answer, be it ever so wrong") {
  prefix_table t(std::uint64_t{8} << 20, std::uint64_t{1} << 26, 12345);
  prng rng(9);
  const prefix_chain whole = fixtures::chain_of(1, 60);
  std::vector<std::uint64_t> keys;
  for (const prefix_block& b : whole.blocks) keys.push_back(b.key);
  const std::vector<std::uint8_t> units(keys.size(), block_units(256));
  std::vector<prefix_probe> asked;
  std::vector<std::uint32_t> held;
  for (std::uint16_t slot = 0; slot < 150; ++slot) {
    // Most hold 16 blocks, some more, some fewer, some belong to another model or are gone.
    const std::uint64_t seed = slot % 40 == 7 ? 1 : 0;
    const std::uint64_t kind = rng.below(8);
    const std::size_t n = kind == 0 ? rng.below(61) : kind == 1 ? rng.below(16) : 16;
    t.adopt({slot, 0}, 0, 0);
    t.enter({slot, 0}, seed, std::span(keys).first(n), std::span(units).first(n), block_mark::confirmed);
    const bool gone = kind == 2;
    asked.push_back({{slot, static_cast<std::uint16_t>(gone ? 1 : 0)}, seed, 77});
    held.push_back(gone ? 0 : static_cast<std::uint32_t>(n));
  }
  asked.push_back({{0xffff, 0}, 0, 77});
  held.push_back(0);
  for (const std::uint32_t likely : {0U, 1U, 2U, 8U, 15U, 16U, 17U, 59U, 60U, 61U, 1000U, ~0U}) {
    CAPTURE(likely);
    std::vector<prefix_probe> probes = asked;
    t.longest(whole.blocks, probes, likely);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < probes.size(); ++i) wrong += probes[i].depth != held[i] ? 1 : 0;
    CHECK(wrong == 0);
    t.longest({}, probes, likely);
    CHECK(std::all_of(probes.begin(), probes.end(), [](const prefix_probe& p) { return p.depth == 0; }));
    t.longest(whole.blocks, {}, likely);
  }
}
