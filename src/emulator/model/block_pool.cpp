#include "emulator/model/block_pool.hpp"

#include <algorithm>
#include <cassert>

namespace penstock::emulator {

// Fibonacci hashing: callers may use small consecutive numbers as names.
std::uint32_t block_pool::tag_of(std::uint64_t name) {
  return static_cast<std::uint32_t>((name * 0x9e3779b97f4a7c15ULL) >> 32);
}

// Where the name is, or the empty slot where it belongs. The index is never full.
std::size_t block_pool::slot_of(std::uint64_t name) const {
  const std::size_t mask = index_.size() - 1;
  const std::uint32_t tag = tag_of(name);
  std::size_t at = home(tag);
  while (index_[at].block != no_block && (index_[at].tag != tag || blocks_[index_[at].block].name != name)) {
    at = (at + 1) & mask;
  }
  return at;
}

block_id block_pool::find(std::uint64_t name) const {
  return named_ == 0 ? no_block : index_[slot_of(name)].block;
}

// Linear probing without tombstones: entries behind the hole that may move up do.
void block_pool::erase_slot(std::size_t at) {
  const std::size_t mask = index_.size() - 1;
  std::size_t hole = at;
  for (std::size_t next = (hole + 1) & mask; index_[next].block != no_block; next = (next + 1) & mask) {
    const std::size_t wanted = home(index_[next].tag);
    if (((next - wanted) & mask) < ((next - hole) & mask)) continue;
    index_[hole] = index_[next];
    hole = next;
  }
  index_[hole] = slot{};
  --named_;
}

// Block ids have 32 bits, so the index has at most 2^32 slots and a tag is enough to find one's home.
void block_pool::grow_index() {
  const std::vector<slot> old = std::move(index_);
  const std::size_t size = std::max<std::size_t>(64, old.size() * 2);
  index_.assign(size, slot{});
  shift_ = 32;
  for (std::size_t n = size; n > 1; n /= 2) --shift_;
  for (const slot& s : old) {
    if (s.block != no_block) index_[slot_of(blocks_[s.block].name)] = s;
  }
}

void block_pool::give_name(block_id id, std::uint64_t name) {
  assert(name != 0 && blocks_[id].name == 0);
  if ((named_ + 1) * 2 > index_.size()) grow_index();
  const std::size_t at = slot_of(name);
  block& b = blocks_[id];
  b.name = name;
  ++gains_;
  const block_id first = index_[at].block;
  if (first == no_block) {
    index_[at] = {id, tag_of(name)};
    ++named_;
    return;
  }
  b.twin_before = first;
  b.twin_after = blocks_[first].twin_after;
  if (b.twin_after != no_block) blocks_[b.twin_after].twin_before = id;
  blocks_[first].twin_after = id;
}

void block_pool::take_name(block_id id) {
  block& b = blocks_[id];
  if (b.name == 0) return;
  if (b.twin_after != no_block) blocks_[b.twin_after].twin_before = b.twin_before;
  if (b.twin_before != no_block) {
    blocks_[b.twin_before].twin_after = b.twin_after;
  } else {
    const std::size_t at = slot_of(b.name);
    if (b.twin_after != no_block) {
      index_[at].block = b.twin_after;
    } else {
      erase_slot(at);
    }
  }
  b.name = 0;
  b.twin_before = b.twin_after = no_block;
}

void block_pool::unlink(block_id id) {
  block& b = blocks_[id];
  (b.older == no_block ? oldest_ : blocks_[b.older].newer) = b.newer;
  (b.newer == no_block ? newest_ : blocks_[b.newer].older) = b.older;
  b.older = b.newer = no_block;
}

void block_pool::acquire(block_id id) {
  if (blocks_[id].references++ > 0) return;
  unlink(id);
  ++used_;
  ++gains_;
}

block_id block_pool::allocate() {
  if (used_ == capacity_) return no_block;
  block_id id = oldest_;
  if (blocks_.size() < capacity_) {  // memory never used comes before memory that may still serve
    id = static_cast<block_id>(blocks_.size());
    blocks_.emplace_back();
  } else {
    take_name(id);
    unlink(id);
  }
  blocks_[id].references = 1;
  ++used_;
  return id;
}

void block_pool::release(block_id id) {
  block& b = blocks_[id];
  assert(b.references > 0);
  if (--b.references > 0) return;
  --used_;
  if (b.name == 0) {  // nobody can find it: reused before any that may still serve
    b.newer = oldest_;
    (oldest_ == no_block ? newest_ : blocks_[oldest_].older) = id;
    oldest_ = id;
  } else {
    b.older = newest_;
    (newest_ == no_block ? oldest_ : blocks_[newest_].newer) = id;
    newest_ = id;
  }
}

void block_pool::forget_names() {
  for (block& b : blocks_) {
    b.name = 0;
    b.twin_before = b.twin_after = no_block;
  }
  std::fill(index_.begin(), index_.end(), slot{});
  named_ = 0;
}

}  // namespace penstock::emulator
