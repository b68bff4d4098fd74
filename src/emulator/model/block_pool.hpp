// KV memory in blocks: reference counts, names for finding a cached prefix, eviction of the longest unused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace penstock::emulator {

using block_id = std::uint32_t;
inline constexpr block_id no_block = 0xffffffff;

// The pool of one engine, after vLLM's: a block without references stays findable by its name until its
// memory is needed, and blocks are reused in the order in which they lost their last reference, those
// without a name (the last of a sequence, not full) before all others. Names are chained hashes, so one name stands for a whole prefix; 0 is not a name. Several blocks may carry
// one name (the last block of a prompt is computed again even when it is known). Memory grows with use,
// to about 40 bytes a block.
class block_pool {
 public:
  explicit block_pool(std::uint32_t capacity) : capacity_(capacity) {}

  std::uint32_t capacity() const { return capacity_; }
  std::uint32_t used() const { return used_; }  // with references
  std::uint32_t available() const { return capacity_ - used_; }

  // A block that holds that prefix block, with or without references; no_block when none does.
  block_id find(std::uint64_t name) const;
  bool referenced(block_id id) const { return blocks_[id].references > 0; }
  void acquire(block_id id);
  // A nameless block with one reference; no_block when all have references.
  block_id allocate();
  void give_name(block_id id, std::uint64_t name);
  void release(block_id id);
  // Forgets every name, as a cache reset does; references stay.
  void forget_names();

  // Counts that only grow, each time a waiting prompt may have come to need fewer free blocks.
  std::uint64_t gains() const { return gains_; }

 private:
  struct block {
    std::uint64_t name = 0;
    std::uint32_t references = 0;
    block_id older = no_block, newer = no_block;             // neighbours among the unreferenced
    block_id twin_before = no_block, twin_after = no_block;  // others of the same name
  };

  // The tag is the upper half of the name's hash: its first bits give the slot where the search begins, so
  // that probing touches no block but the one that is meant.
  struct slot {
    block_id block = no_block;
    std::uint32_t tag = 0;
  };

  static std::uint32_t tag_of(std::uint64_t name);
  std::size_t home(std::uint32_t tag) const { return tag >> shift_; }
  std::size_t slot_of(std::uint64_t name) const;
  void erase_slot(std::size_t slot);
  void grow_index();
  void take_name(block_id id);
  void unlink(block_id id);

  std::uint32_t capacity_;
  std::uint32_t used_ = 0;
  std::uint64_t gains_ = 0;
  std::vector<block> blocks_;  // those ever used
  block_id oldest_ = no_block, newest_ = no_block;
  std::vector<slot> index_;  // open addressing by name, a power of two, at most half full
  std::size_t named_ = 0;    // distinct names in the index
  unsigned shift_ = 32;
};

}  // namespace penstock::emulator
