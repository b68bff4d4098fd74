// The inside of a lease: what was booked for one request, and the blocks it entered, in one allocation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "routing/endpoint_board.hpp"
#include "routing/router.hpp"

namespace penstock::routing {

// Keys and units of the blocks stand behind the object itself: 9 bytes a block.
struct work_lease::state {
  static std::unique_ptr<state> make(shared_state& owner, endpoint_id to, std::size_t most_blocks);

  state(const state&) = delete;
  state& operator=(const state&) = delete;

  std::span<const std::uint64_t> keys() const { return {key_array(), blocks}; }
  std::span<const std::uint8_t> units() const { return {unit_array(), blocks}; }
  void append(std::span<const prefix_block> chain);

  // Its prefill tokens do not count as what the engine has before it; and do.
  void wait();
  void stop_waiting();
  void give_back();
  // The answer's cached_tokens against the belief at the dispatch.
  void compare(const token_usage& usage) const;
  void enter(block_mark mark) { entered = shared.prefixes.enter(endpoint, seed, keys(), units(), mark); }

  shared_state& shared;
  endpoint_id endpoint;
  std::uint64_t seed = 0;
  booked_work work;
  instant dispatched{};
  instant decoding_since{};     // of a stream
  std::uint64_t sequences = 0;  // in flight there at that moment
  double speed = 0;             // what `work.expected` was reckoned with
  std::uint32_t blocks = 0, room = 0;
  entered_blocks entered;
  bool booked = false, decoding = false, waits = false;
  bool teaches = false;             // one prompt: its first token tells when all of its prefill is done
  bool elsewhere = false;           // the prompt is computed by another engine: nothing is told of prefill
  bool crowded = false;             // ... and others wait for room at this one
  bool tells = false;               // one prompt, one answer: its cached_tokens are those of the chain
  std::uint64_t prompt_tokens = 0;  // estimated

  static void operator delete(void* p) { ::operator delete(p); }

 private:
  state(shared_state& owner, endpoint_id to, std::uint32_t most) : shared(owner), endpoint(to), room(most) {}
  static void* operator new(std::size_t size, std::size_t extra) { return ::operator new(size + extra); }
  static void operator delete(void* p, std::size_t) { ::operator delete(p); }

  std::uint64_t* key_array() { return reinterpret_cast<std::uint64_t*>(this + 1); }
  const std::uint64_t* key_array() const { return reinterpret_cast<const std::uint64_t*>(this + 1); }
  std::uint8_t* unit_array() { return reinterpret_cast<std::uint8_t*>(key_array() + room); }
  const std::uint8_t* unit_array() const { return reinterpret_cast<const std::uint8_t*>(key_array() + room); }
};

}  // namespace penstock::routing
