// Who holds KV blocks for us: every prefill that was answered and whose blocks nobody has fetched yet.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "penstock/ids.hpp"
#include "penstock/time.hpp"

namespace penstock::handoff {

// How a hand-off ended.
enum class closing : std::uint8_t {
  fetched,    // the decode leg generated: its engine has the blocks
  cut,        // the decode request was delivered whole and ended before its first token
  delivered,  // nobody wanted the answer any more, or it was a refusal; a decode request freed the blocks
  lapsed,    // a decode leg was begun and lost before it was whole, or perhaps not read by its engine: freed,
             // or held until the lease is over
  expired,   // no decode leg was begun: held until the lease is over
  complete,  // the prefill answer was the whole answer: nothing was left to hold
};
inline constexpr std::size_t closing_count = 6;
constexpr std::string_view name(closing c) {
  constexpr std::string_view names[] = {"fetched", "cut", "delivered", "lapsed", "expired", "complete"};
  return names[static_cast<std::size_t>(c)];
}

class ledger;

// Blocks that one prefill engine holds for one request. Owned by the request's flow, single use, movable;
// dropped without close() it counts as expired. The ledger outlives it.
class lease {
 public:
  lease() = default;
  lease(lease&& other) noexcept;
  lease& operator=(lease&& other) noexcept;
  lease(const lease&) = delete;
  lease& operator=(const lease&) = delete;
  ~lease();

  explicit operator bool() const { return owner_ != nullptr; }
  // A decode leg may start: not spent, and not after half of the lease. Real engines answer a late read with
  // 200 and other text, so the second half is for everybody's clocks and queues.
  bool fresh(instant now) const;
  // By then a decode request must be whole with its engine, however long its last bytes waited: three
  // quarters of the lease. `never` without a lease.
  instant latest() const;
  // The first byte of a decode leg was written: the parameters are used up.
  void spend();
  bool spent() const { return spent_; }
  void close(closing how);

 private:
  friend class ledger;
  ledger* owner_ = nullptr;
  std::uint32_t at_ = 0;  // place in the ledger
  bool spent_ = false;
};

// Of one worker. Counts are exact: each lease gives its own back.
class ledger {
 public:
  struct entry {
    endpoint_id holder, reader;
    instant since{}, until{};
    std::uint64_t tokens = 0;
    bool open = false;
  };

  // `since` is when the engine's answer was first seen.
  lease open(endpoint_id holder, endpoint_id reader, std::uint64_t tokens, instant since, duration length);

  std::size_t open_count() const { return open_; }
  std::uint64_t opened() const { return opened_; }
  std::uint64_t closed(closing how) const { return closed_[static_cast<std::size_t>(how)]; }
  // What is open; no order.
  std::vector<entry> held() const;

 private:
  friend class lease;
  std::vector<entry> entries_;
  std::vector<std::uint32_t> free_;
  std::size_t open_ = 0;
  std::uint64_t opened_ = 0;
  std::array<std::uint64_t, closing_count> closed_{};
};

}  // namespace penstock::handoff
