// Request ids that clients chose and that are in flight, for all workers.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace penstock::io {

// A fixed table of hashes, lock-free. Lossy on the safe side: a full neighbourhood or an equal hash refuses
// the claim, and the request gets an id of ours instead.
class id_claims {
 public:
  bool claim(std::uint64_t hash) {
    for (std::size_t i = 0; i < probes; ++i)
      if (at(hash, i).load(std::memory_order_relaxed) == hash) return false;
    for (std::size_t i = 0; i < probes; ++i) {
      std::uint64_t empty = 0;
      if (at(hash, i).compare_exchange_strong(empty, hash, std::memory_order_acq_rel)) return true;
      if (empty == hash) return false;
    }
    return false;
  }
  void release(std::uint64_t hash) {
    for (std::size_t i = 0; i < probes; ++i) {
      std::uint64_t mine = hash;
      if (at(hash, i).compare_exchange_strong(mine, 0, std::memory_order_acq_rel)) return;
    }
  }

 private:
  static constexpr std::size_t slots = 1 << 16, probes = 16;
  std::atomic<std::uint64_t>& at(std::uint64_t hash, std::size_t i) { return table_[(hash + i) % slots]; }
  std::array<std::atomic<std::uint64_t>, slots> table_{};
};

}  // namespace penstock::io
