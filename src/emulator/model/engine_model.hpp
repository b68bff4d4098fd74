// An inference engine without an accelerator: continuous batching over a paged, prefix-cached KV memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
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
};

enum class engine_event_kind : std::uint8_t {
  started,  // left the queue; `cached` is known
  first_token,
  token,
  finished,   // the last token was announced by its own event at the same time
  preempted,  // thrown out of KV memory; it will be computed again
};

struct engine_event {
  instant at{};
  std::uint64_t sequence = 0;
  engine_event_kind kind = engine_event_kind::token;
  std::uint32_t tokens = 0;  // generated so far
  std::uint32_t cached = 0;  // prompt tokens found in the cache at the first start
};

// Counters since construction (or restart) and gauges of this moment.
struct engine_counters {
  std::size_t running = 0, waiting = 0;
  std::uint32_t kv_blocks = 0, kv_blocks_used = 0;
  std::uint64_t prefix_queries = 0, prefix_hits = 0;  // tokens
  std::uint64_t preemptions = 0, iterations = 0;
  std::uint64_t prompt_tokens = 0;    // of sequences whose prefill ended
  std::uint64_t computed_tokens = 0;  // prefill work done, recomputation included
  std::uint64_t generated_tokens = 0;
  std::uint64_t finished = 0, cancelled = 0;
};

// Scheduling follows vLLM V1: each iteration gives one token to every decoding sequence and the rest of
// its token budget to prefills in order of arrival (chunked prefill); a prompt's cached part is whole
// blocks and never its last token; when KV memory is full the youngest running sequence goes back to the
// head of the queue and is computed again. Time is virtual and never goes back; the same calls give the
// same events. Not thread-safe; no clock, no randomness.
class engine_model {
 public:
  explicit engine_model(const engine_settings& settings);

  // Queues a sequence at `at`, up to which the caller has advanced. It is part of the next iteration to
  // start. False when its prompt alone exceeds KV memory or is empty; output that would not fit is cut.
  bool submit(sequence request, instant at);
  // Drops a sequence and gives its blocks back; an iteration under way still takes its time. False when
  // nobody has that id (it may have finished).
  bool cancel(std::uint64_t id);
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
  void schedule(state& s, std::uint32_t tokens, std::uint32_t& budget);
  bool extend(state& s, std::uint32_t tokens);
  void name_blocks(state& s, std::uint32_t tokens);
  void preempt(std::uint32_t slot);
  void release_blocks(state& s);
  void retire(std::uint32_t slot);
  void find_hits(const state& s);
  std::uint32_t blocks_for(std::uint64_t tokens) const;

  engine_settings settings_;
  block_pool pool_;
  std::vector<state> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::unordered_map<std::uint64_t, std::uint32_t> by_id_;
  std::vector<std::uint32_t> running_;  // slots, in the order in which they were admitted
  std::deque<std::uint32_t> waiting_;
  std::vector<block_id> hits_;  // scratch of admit
  engine_counters totals_;
  instant wake_at_ = never;  // no iteration under way: when the next one starts
  instant ends_at_ = never;  // of the iteration under way
  instant stalled_until_{};
  std::uint32_t prefill_tokens_ = 0, decode_sequences_ = 0;  // of the iteration under way
};

}  // namespace penstock::emulator
