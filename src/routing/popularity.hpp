// How often prompt blocks were seen lately: finds the first block that tells one conversation from another.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "penstock/request_facts.hpp"

namespace penstock::routing {

struct telling_block {
  std::uint64_t key = 0;  // mixed with the model; 0: the prompt has no whole block
  std::uint32_t index = 0;
};

// A count-min sketch of fixed size (128 KiB), halved now and then so that "lately" means the last few
// thousand requests. Counts of rare keys are a little too high when the sketch is full of models or
// sessions; then a later block is told, which costs nothing but a coarser spread.
class popularity {
 public:
  popularity();

  // The first block of `blocks` whose share of the model's recent requests is below 1 / (2 x endpoints);
  // the last block when all are popular. `model` is a hash.
  telling_block telling(std::uint64_t model, std::span<const prefix_block> blocks,
                        std::size_t endpoints) const;

  // One request with these blocks was sent. Counts up to a few blocks behind the telling one: what lies
  // farther is at most as popular, and a long system prompt is known after a few requests.
  void note(std::uint64_t model, std::span<const prefix_block> blocks, std::size_t endpoints);

 private:
  static constexpr std::size_t rows = 2, width = 16384;
  static constexpr std::uint32_t halve_after = 8192;  // requests
  static constexpr std::size_t ahead = 8;             // blocks counted behind the telling one

  using row = std::array<std::uint32_t, width>;
  std::uint32_t count(std::uint64_t key) const;
  void add(std::uint64_t key);
  void halve();

  std::unique_ptr<std::array<row, rows>> sketch_;
  std::uint32_t noted_ = 0;
};

}  // namespace penstock::routing
