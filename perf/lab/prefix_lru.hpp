// An exact index of which blocks were sent to one engine lately: what published routers keep.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "penstock/request_facts.hpp"

namespace penstock::lab {

// Least recently used first out, the tail of a prompt before its head. Bounded by tokens.
class prefix_lru {
 public:
  explicit prefix_lru(std::uint64_t most_tokens) : most_(most_tokens) {}

  // Leading tokens of the chain that are known.
  std::uint64_t match(std::span<const prefix_block> chain) const;
  // The chain is used now: its blocks are known and the newest.
  void use(std::span<const prefix_block> chain);
  void clear();
  std::uint64_t tokens() const { return tokens_; }

 private:
  static constexpr std::uint32_t none = 0xffffffff;
  struct node {
    std::uint64_t key = 0;
    std::uint32_t tokens = 0, older = none, newer = none;
  };
  void unlink(std::uint32_t n);
  void append(std::uint32_t n);

  std::uint64_t most_, tokens_ = 0;
  std::unordered_map<std::uint64_t, std::uint32_t> place_;
  std::vector<node> nodes_;
  std::vector<std::uint32_t> free_;
  std::uint32_t oldest_ = none, newest_ = none;
};

}  // namespace penstock::lab
