// Which endpoint holds which prompt block: one lossy table of fixed size for all workers, lock-free.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "penstock/ids.hpp"
#include "penstock/request_facts.hpp"
#include "routing/cache_belief.hpp"

namespace penstock::routing {

// How sure a block is: its request was sent, or several were; or one had its first token.
enum class block_mark : std::uint8_t { pending = 1, awaited = 2, confirmed = 3 };

// What an enter() leaves to do at the first token: the blocks from `first` to before `end` are or may be
// pending, the others were confirmed before. `epoch` is the endpoint's at the beginning; `evidence` is what
// was believed of the blocks before, for observe().
struct entered_blocks {
  std::size_t first = 0, end = 0;
  std::uint32_t epoch = 0;
  cache_evidence evidence;
};

// One endpoint's part in a lookup. `seed` is what the engine mixes into its block hashes beyond the
// prompt (its model, its adapter); `depth` is the answer: leading blocks it is believed to hold, `trust` how
// many of 100 believed tokens near enough to be held by any cache its engine really had of late.
struct prefix_probe {
  endpoint_id endpoint;
  std::uint64_t seed = 0;
  std::uint32_t depth = 0;
  std::uint8_t trust = 100;
};

// Tokens of one block in units of 16, as an entry keeps them: at most 4,080 tokens.
constexpr std::uint8_t block_units(std::uint64_t tokens) {
  return static_cast<std::uint8_t>(tokens >= 4080 ? 255 : (tokens + 8) / 16);
}

// Layout: 64-byte buckets of 8 words; a word is one (block, endpoint). The bucket follows from block,
// seed and a group of 4 neighbouring slots, so one cache line answers for 4 endpoints, a block can be
// held by every endpoint, and a lookup is a binary search per endpoint whose steps run side by side over
// all of them: 3 lines for each group whose endpoints hold what most do, some 10 for the others in a prompt
// of 400 blocks, prefetched.
//
// Age: an exact LRU of tokens, cut into epochs. A word carries the epoch of its last use; a slot keeps a
// ring of how many token units stand in each of its last 256 epochs. An epoch ends when 1/32 of the
// endpoint's KV capacity was used in it, and the horizon then moves so that the epochs behind it sum up
// to the capacity: blocks before the horizon are what the engine has evicted. A block that is used again
// moves to the present epoch and pushes nothing else out, which a plain token clock gets wrong. Blocks
// are entered tail first, as engines free them, so a prefix is never younger than its continuation;
// therefore binary search is right, and a hole is a word lost to the table, not to the engine.
//
// Everything is relaxed and lossy: a lost race or an overwritten word costs a cache miss at an engine.
class prefix_table {
 public:
  // `bytes` covers words, rings and slots (at least 1.2 MiB are used). `default_tokens` is the capacity of
  // endpoints whose own is not known: large, since too small is ruinous.
  // `placement` seeds the places of entries.
  explicit prefix_table(std::uint64_t bytes, std::uint64_t default_tokens = std::uint64_t{1} << 26,
                        std::uint64_t placement = 0);

  // Makes `id` the owner of its slot and sets what its engine can hold (0: not known; `fixed`: whatever
  // answers say). A newer generation, or an engine that started again (`started_s`, seconds of its own
  // clock, 0: not known), empties the slot in constant time. Cheap when nothing changed; older generations
  // are ignored.
  void adopt(endpoint_id id, std::uint64_t capacity_tokens, double started_s, bool fixed = false);
  // Forgets everything believed of `id`.
  void drop(endpoint_id id);

  // Fills in the depth of each probe. Endpoints that do not own their slot hold nothing. `likely`: how many
  // blocks most endpoints are expected to hold, 0: nobody knows. It saves time where it is right and changes
  // no answer.
  void longest(std::span<const prefix_block> blocks, std::span<prefix_probe> probes,
               std::uint32_t likely = 0) const;

  // The endpoint uses these blocks now. `units` are block_units() of each key.
  entered_blocks enter(endpoint_id id, std::uint64_t seed, std::span<const std::uint64_t> keys,
                       std::span<const std::uint8_t> units, block_mark mark);
  // Whether blocks entered in this epoch are still the newest, so that to enter them again changes nothing.
  bool newest(endpoint_id id, std::uint32_t epoch) const {
    return owned_by(id) && window_of(id.slot).epoch == epoch;
  }
  // The blocks had their first token. Their age stays, so that they stay in order with those before them.
  // Those that another request took back meanwhile (it shared them and never had a first token) return.
  void confirm(endpoint_id id, std::uint64_t seed, std::span<const std::uint64_t> keys,
               std::span<const std::uint8_t> units);
  // Takes back those of the blocks that nobody confirmed. What another request waits for as well stays at
  // the first time; words do not count, so the second takes it back.
  void withdraw(endpoint_id id, std::uint64_t seed, std::span<const std::uint64_t> keys);
  // Generated tokens took KV space of their own; they push older blocks out and are never found. Where
  // `after`, the key of their prompt's last block, is given, they are counted until a longer prompt brings
  // them as blocks.
  void crowd(endpoint_id id, std::uint64_t tokens, std::uint64_t seed = 0, std::uint64_t after = 0);

  // An answer told how much of its prompt was cached, against what was believed at its dispatch.
  void observe(endpoint_id id, const cache_sample& sample);
  // A request was sent of which so much is believed to be cached: what check() compares counters with.
  void expect(endpoint_id id, std::uint64_t hit_tokens, std::uint64_t prompt_tokens);
  // The engine's own counters of tokens found and looked up since its start; negative: not known. Each
  // reading is taken once, whoever brings it.
  void check(endpoint_id id, double hits, double queries);
  // What the endpoint is taken to hold at most, in tokens; 0 when `id` does not own its slot.
  std::uint64_t capacity_tokens(endpoint_id id) const;

  // Sum over the words believed to be held, in tokens; for tests and metrics.
  std::uint64_t believed_tokens(endpoint_id id) const;
  std::size_t buckets() const { return buckets_; }
  // The words, untouched until first used, on huge page borders where they are large: for whoever may ask
  // the system for huge pages. A lookup visits some 300 lines all over them, and without huge pages each
  // costs a walk of the page table as well.
  std::span<std::byte> memory() const { return {reinterpret_cast<std::byte*>(words_), buckets_ * 64}; }

 private:
  static constexpr std::size_t ways = 8, group_bits = 2, lanes = 1 << group_bits;
  static constexpr std::size_t epochs = 256, ring_bytes = epochs * sizeof(std::int32_t);
  // What only writers need of a slot.
  struct slot_state {
    std::atomic<std::uint64_t> capacity{0};  // units, as learned
    std::atomic<std::uint64_t> base{0};      // units, as told: known 1 | fixed 1 | units 62
    std::atomic<std::uint64_t> started_ms{0};
    std::atomic<float> trust{1}, missing{0};
    // Since the counters were last compared: what was believed, and how many answers told for themselves.
    std::atomic<std::uint64_t> believed_hits{0}, believed_queries{0}, told{0};
    std::atomic<std::uint64_t> seen_hits{0}, seen_queries{0};  // the engine's counters then
  };
  // What a reader needs of a slot, as one word, so that a lookup over 128 slots reads 16 cache lines:
  // epoch 32 | epochs before it that are still held 8 | trust in percent 7 | owned 1 | generation 16.
  struct window {
    std::uint32_t epoch = 0, span = 0;
    bool owned = false;
    std::uint16_t generation = 0;
    std::uint8_t trust = 100;
  };
  static constexpr std::uint64_t pack(const window& w) {
    return std::uint64_t{w.epoch} << 32 | std::uint64_t{w.span & 255} << 24 |
           std::uint64_t{w.trust & 127U} << 17 | std::uint64_t{w.owned} << 16 | w.generation;
  }
  static constexpr window unpack(std::uint64_t v) {
    return {static_cast<std::uint32_t>(v >> 32), static_cast<std::uint32_t>(v >> 24 & 255),
            (v >> 16 & 1) != 0, static_cast<std::uint16_t>(v), static_cast<std::uint8_t>(v >> 17 & 127)};
  }
  struct place {
    std::uint64_t* bucket = nullptr;
    std::uint64_t tag = 0;  // the bits of the hash that a word keeps
  };
  static constexpr std::uint64_t tag_mask = (std::uint64_t{1} << 23) - 1;
  struct freer {
    void operator()(void* p) const;
  };
  friend class depth_search;

  // Inline, since a library's own calls are not otherwise (-fPIC) and these are most of a lookup.
  template <class Change>
  void each_pending(endpoint_id id, std::uint64_t seed, std::span<const std::uint64_t> keys, Change change);
  template <class Learn>
  void revise(endpoint_id id, Learn learn);
  bool owned_by(endpoint_id id) const {
    if (id.slot >= max_endpoints) return false;
    const window w = window_of(id.slot);
    return w.owned && w.generation == id.generation;
  }
  // The groups of one block stand side by side, so that a block's lines are one stream and one page.
  struct row {
    std::size_t first = 0;  // bucket of the first group
    std::uint64_t tag = 0;
  };
  row row_of(std::uint64_t key, std::uint64_t seed) const {
    // Finaliser of MurmurHash3 (public domain): keys are hashes already, it spreads seeds.
    std::uint64_t h = key ^ seed ^ placement_;
    h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdULL;
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53ULL;
    h ^= h >> 33;
    return {(h >> 32) * buckets_ >> 32, h & tag_mask};
  }
  std::uint64_t* bucket_of(const row& block, std::uint16_t slot) const {
    std::size_t bucket = block.first + (slot >> group_bits);
    if (bucket >= buckets_) bucket -= buckets_;
    return words_ + bucket * ways;
  }
  place locate(std::uint64_t key, std::uint64_t seed, std::uint16_t slot) const {
    const row block = row_of(key, seed);
    return {bucket_of(block, slot), block.tag};
  }
  window window_of(std::uint16_t slot) const {
    return unpack(windows_[slot].load(std::memory_order_relaxed));
  }
  void prefetch_window(std::uint16_t slot) const { __builtin_prefetch(&windows_[slot % max_endpoints]); }
  // Replaces the slot's window by change(window), which answers false to leave it; false when it was left.
  template <class F>
  bool change_window(std::uint16_t slot, F change);
  struct pass;
  // What a block was before it was entered.
  struct met {
    block_mark mark = block_mark::pending;  // now
    bool known = false, held = false, in_flight = false;
    std::uint32_t age = 0;  // in epochs, where known
  };
  met upsert(pass& p, const place& at, std::uint8_t units, block_mark mark);
  bool erase(pass& p, const place& at);
  std::uint64_t distance(std::uint16_t slot, std::uint32_t epoch, std::uint32_t age) const;
  bool insert(const place& at, std::uint64_t fresh);
  void count_in(std::uint16_t slot, std::uint32_t epoch, std::int32_t units);
  void count_out(std::uint64_t word, std::int32_t units);
  std::uint64_t full_epoch(std::uint16_t slot) const;
  void advance(std::uint16_t slot, std::uint32_t epoch);
  void empty_slot(std::uint16_t slot);
  std::int32_t& ring(std::uint16_t slot, std::uint32_t epoch) const {
    return rings_[slot * epochs + epoch % epochs];
  }

  std::uint64_t default_units_, placement_;
  std::size_t buckets_;
  std::unique_ptr<void, freer> memory_;
  std::uint64_t* words_ = nullptr;  // into memory_
  std::unique_ptr<std::int32_t[]> rings_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> windows_;
  std::unique_ptr<slot_state[]> slots_;
};

}  // namespace penstock::routing
