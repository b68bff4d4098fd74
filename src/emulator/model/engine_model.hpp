// An inference engine without an accelerator: continuous batching over a paged, prefix-cached KV memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "emulator/model/block_pool.hpp"
#include "emulator/model/engine_class.hpp"
#include "penstock/time.hpp"

namespace penstock::emulator {

struct engine_settings {
  double fixed_us = 0;  // one iteration: fixed + prefill x uncached prompt tokens + decode x sequences
  double prefill_us = 0;
  double decode_us = 0;
  std::uint64_t kv_tokens = 65536;
  std::uint32_t block_tokens = 16;
  std::uint32_t max_batched_tokens = 8192;  // of one iteration, decode tokens included
  std::uint32_t max_num_seqs = 256;
  double speed = 1;  // 2: twice as fast
  bool prefix_caching = true;

  static engine_settings of(const engine_class& c);
};

// What an engine is asked for. `names` are chained hashes of whole blocks of the prompt; names of whole
// blocks of prompt plus output may follow when the caller knows the output, so that the next turn of a
// conversation finds it cached.
struct sequence {
  std::uint64_t id = 0;  // the caller's, unique among live ones
  std::uint32_t prompt_tokens = 0;
  std::uint32_t max_output_tokens = 0;  // 0: prefill alone, as embeddings are
  std::vector<std::uint64_t> names;
  // Leading tokens whose KV comes from elsewhere (a hand-off, a shared cache): they take memory and no
  // work, in whole blocks, and count as cached.
  std::uint32_t imported_tokens = 0;
  // Prefill for another engine: once it finished its blocks stay pinned until unpin().
  bool keep_kv = false;
  // Decode of another engine's prefill: what of the prompt is not cached here is loaded, not computed.
  bool load_kv = false;
};

enum class engine_event_kind : std::uint8_t {
  started,  // left the queue; `cached` is known
  load,     // has its blocks and waits for kv_loaded() of `tokens` prompt tokens
  first_token,
  token,
  finished,   // the last token was announced by its own event at the same time
  preempted,  // thrown out of KV memory; it will be computed again
};

struct engine_event {
  instant at{};
  std::uint64_t sequence = 0;
  engine_event_kind kind = engine_event_kind::token;
  std::uint32_t tokens = 0;  // generated so far; of `load`: to be loaded
  std::uint32_t cached = 0;  // prompt tokens found in the cache at the first start
};

// Counters since construction (or restart) and gauges of this moment.
struct engine_counters {
  std::size_t running = 0, waiting = 0;  // those that load count as waiting, as in vLLM
  std::size_t loading = 0;
  std::uint32_t kv_blocks = 0, kv_blocks_used = 0, kv_blocks_pinned = 0;
  std::uint64_t prefix_queries = 0, prefix_hits = 0;  // tokens
  std::uint64_t preemptions = 0, iterations = 0;
  std::uint64_t prompt_tokens = 0;                // of sequences whose prefill ended
  std::uint64_t loaded_tokens = 0;                // of those, from other engines
  std::uint64_t cached_tokens = 0;                // of those, from this engine's prefix cache
  std::uint64_t load_queries = 0, load_hits = 0;  // tokens not cached here; of those, promised by others
  std::uint64_t computed_tokens = 0;              // prefill work done, recomputation included
  std::uint64_t generated_tokens = 0;
  std::uint64_t finished = 0, cancelled = 0;
};

// Scheduling follows vLLM V1: each iteration gives one token to every decoding sequence and the rest of
// its token budget to prefills in order of arrival (chunked prefill); a prompt's cached part is whole
// blocks and never its last token; when KV memory is full the youngest running sequence goes back to the
// head of the queue and is computed again. A sequence whose prompt another engine has computed takes all
// its blocks, waits beside the queue until they are loaded, and computes its last prompt token alone. Pinned
// blocks are memory that nobody else gets. Time is virtual and never goes back; the same calls give the
// same events. Not thread-safe; no clock, no randomness.
class engine_model {
 public:
  explicit engine_model(const engine_settings& settings);

  // Queues a sequence at `at`, up to which the caller has advanced. It is part of the next iteration to
  // start. False when its prompt alone exceeds KV memory or is empty; output that would not fit is cut.
  bool submit(sequence request, instant at);
  // Drops a sequence and gives its blocks back; an iteration under way still takes its time. False when
  // nobody has that id (it may have finished). `at` matters where others wait for its memory alone.
  bool cancel(std::uint64_t id, instant at = instant{});
  // The prompt's KV arrived: the sequence is next in the queue. `max_output_tokens` and `names` take the
  // place of those it came with: what arrived may not be what was asked for. False when it does not load.
  bool kv_loaded(std::uint64_t id, std::uint32_t max_output_tokens, std::vector<std::uint64_t> names,
                 instant at);
  // It did not arrive: the prompt is computed here after all. False when it does not load.
  bool kv_lost(std::uint64_t id, instant at);
  // The pinned blocks of a sequence that has finished; empty when it has none.
  std::span<const block_id> pinned(std::uint64_t id) const;
  // Gives them back. False when it has none.
  bool unpin(std::uint64_t id, instant at);
  // When something happens next: `advance` is to be called then. `never` when idle.
  instant next_time() const;
  // Runs the iterations that end until `now` and appends their events in order of time. Stops after
  // `limit` iterations; next_time() <= now tells that there is more to do.
  void advance(instant now, std::vector<engine_event>& events,
               std::uint32_t limit = std::numeric_limits<std::uint32_t>::max());

  void set_speed(double speed) { settings_.speed = speed; }
  // Nothing ends before `until`: the engine hangs.
  void stall(instant until);
  // The process dies and comes back with an empty cache: the ids of what was lost.
  std::vector<std::uint64_t> restart();
  void reset_prefix_cache() { pool_.forget_names(); }

  engine_counters counters() const;
  // Prompt tokens of all sequences that are not computed yet; what the cache holds of waiting ones counts.
  std::uint64_t prefill_left() const;
  const engine_settings& settings() const { return settings_; }

 private:
  struct state {
    std::uint64_t id = 0;
    std::uint32_t prompt = 0, generated = 0, max_output = 0;
    std::uint32_t computed = 0;      // tokens whose KV is in memory
    std::uint32_t scheduled = 0;     // tokens of the iteration under way
    std::uint32_t covered = 0;       // tokens that the blocks held have room for
    std::uint32_t named = 0;         // leading blocks that carry a name or never will
    std::uint32_t next_name_at = 0;  // tokens at which block `named` is full
    std::uint32_t cached = 0, imported = 0;
    bool started = false;
    bool keep = false;
    enum class remote : std::uint8_t { no, wanted, loading, loaded } kv = remote::no;
    // Why it could not be admitted: blocks needed, and pool gains and budget at that time.
    std::uint32_t needed = 0, needed_budget = 0;
    std::uint64_t needed_gains = 0;
    std::vector<std::uint64_t> names;
    std::vector<block_id> blocks;

    std::uint32_t known() const { return prompt + generated; }
  };

  void start_iteration(instant at, std::vector<engine_event>& events);
  void end_iteration(std::vector<engine_event>& events);
  bool schedule_running(instant at, std::uint32_t& budget, std::vector<engine_event>& events);
  void schedule_waiting(instant at, std::uint32_t& budget, std::vector<engine_event>& events);
  bool admit(state& s, std::uint32_t budget);
  void begin(state& s, instant at, std::vector<engine_event>& events);
  void wake(instant at);
  state* find_loading(std::uint64_t id);
  void schedule(state& s, std::uint32_t tokens, std::uint32_t& budget);
  bool extend(state& s, std::uint32_t tokens);
  void name_blocks(state& s, std::uint32_t tokens);
  void preempt(std::uint32_t slot);
  void release_blocks(state& s);
  void release(const std::vector<block_id>& blocks);
  void retire(std::uint32_t slot);
  void find_hits(const state& s);
  std::uint32_t blocks_for(std::uint64_t tokens) const;
  std::uint32_t output_limit(std::uint32_t prompt, std::uint32_t wanted) const;

  engine_settings settings_;
  block_pool pool_;
  std::vector<state> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::unordered_map<std::uint64_t, std::uint32_t> by_id_;
  std::vector<std::uint32_t> running_;  // slots, in the order in which they were admitted
  std::deque<std::uint32_t> waiting_;
  std::size_t loading_ = 0;  // sequences in neither of these
  std::unordered_map<std::uint64_t, std::vector<block_id>> pinned_;
  std::uint32_t pinned_blocks_ = 0;
  std::vector<block_id> hits_;  // scratch of admit
  engine_counters totals_;
  instant wake_at_ = never;  // no iteration under way: when the next one starts
  instant ends_at_ = never;  // of the iteration under way
  instant stalled_until_{};
  instant idle_since_{};                                     // start of the last iteration
  std::uint32_t prefill_tokens_ = 0, decode_sequences_ = 0;  // of the iteration under way
};

}  // namespace penstock::emulator
