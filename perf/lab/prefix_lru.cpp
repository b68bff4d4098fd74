#include "prefix_lru.hpp"

namespace penstock::lab {

std::uint64_t prefix_lru::match(std::span<const prefix_block> chain) const {
  std::uint64_t sum = 0;
  for (const prefix_block& b : chain) {
    if (place_.count(b.key) == 0) break;
    sum += b.tokens;
  }
  return sum;
}

void prefix_lru::unlink(std::uint32_t n) {
  const node& x = nodes_[n];
  (x.older == none ? oldest_ : nodes_[x.older].newer) = x.newer;
  (x.newer == none ? newest_ : nodes_[x.newer].older) = x.older;
}

void prefix_lru::append(std::uint32_t n) {
  nodes_[n].older = newest_;
  nodes_[n].newer = none;
  (newest_ == none ? oldest_ : nodes_[newest_].newer) = n;
  newest_ = n;
}

void prefix_lru::use(std::span<const prefix_block> chain) {
  for (std::size_t i = chain.size(); i-- > 0;) {
    const auto [at, fresh] = place_.try_emplace(chain[i].key, none);
    if (!fresh) {
      unlink(at->second);
    } else if (free_.empty()) {
      at->second = static_cast<std::uint32_t>(nodes_.size());
      nodes_.push_back({chain[i].key, chain[i].tokens});
      tokens_ += chain[i].tokens;
    } else {
      at->second = free_.back();
      free_.pop_back();
      nodes_[at->second] = {chain[i].key, chain[i].tokens};
      tokens_ += chain[i].tokens;
    }
    append(at->second);
  }
  while (tokens_ > most_ && oldest_ != none) {
    const std::uint32_t victim = oldest_;
    unlink(victim);
    tokens_ -= nodes_[victim].tokens;
    place_.erase(nodes_[victim].key);
    free_.push_back(victim);
  }
}

void prefix_lru::clear() { *this = prefix_lru(most_); }

}  // namespace penstock::lab
