#include "emulator/model/engine_model.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace penstock::emulator {

engine_settings engine_settings::of(const engine_class& c) {
  engine_settings s;
  s.fixed_us = c.fixed_us;
  s.prefill_us = c.prefill_us;
  s.decode_us = c.decode_us;
  s.kv_tokens = c.kv_tokens;
  return s;
}

namespace {

std::uint32_t pool_size(const engine_settings& s) {
  const std::uint64_t blocks = s.kv_tokens / std::max<std::uint32_t>(1, s.block_tokens);
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(blocks, 1, no_block - 1));
}

engine_settings sane(engine_settings s) {
  s.block_tokens = std::max<std::uint32_t>(1, s.block_tokens);
  s.max_batched_tokens = std::max<std::uint32_t>(1, s.max_batched_tokens);
  s.max_num_seqs = std::max<std::uint32_t>(1, s.max_num_seqs);
  return s;
}

}  // namespace

engine_model::engine_model(const engine_settings& settings)
    : settings_(sane(settings)), pool_(pool_size(settings)) {}

std::uint32_t engine_model::blocks_for(std::uint64_t tokens) const {
  return static_cast<std::uint32_t>((tokens + settings_.block_tokens - 1) / settings_.block_tokens);
}

bool engine_model::submit(sequence request, instant at) {
  const std::uint64_t room = std::uint64_t{pool_.capacity()} * settings_.block_tokens;
  if (request.prompt_tokens == 0 || request.prompt_tokens > room || by_id_.count(request.id) > 0)
    return false;
  std::uint32_t slot = static_cast<std::uint32_t>(slots_.size());
  if (free_slots_.empty()) {
    slots_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  state& s = slots_[slot];
  std::vector<block_id> blocks = std::move(s.blocks);  // keeps its memory
  s = state{};
  s.blocks = std::move(blocks);
  s.id = request.id;
  s.prompt = request.prompt_tokens;
  s.max_output = output_limit(s.prompt, request.max_output_tokens);
  s.names = std::move(request.names);
  s.imported = request.imported_tokens;
  s.keep = request.keep_kv;
  s.kv = request.load_kv ? state::remote::wanted : state::remote::no;
  by_id_.emplace(s.id, slot);
  waiting_.push_back(slot);
  wake(at);
  return true;
}

// The last token's KV is never stored, so one more than the room is possible.
std::uint32_t engine_model::output_limit(std::uint32_t prompt, std::uint32_t wanted) const {
  const std::uint64_t room = std::uint64_t{pool_.capacity()} * settings_.block_tokens;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, room - prompt + 1));
}

// The iteration under way, if any, ends first.
void engine_model::wake(instant at) {
  if (ends_at_ == never && !(running_.empty() && waiting_.empty())) wake_at_ = std::min(wake_at_, at);
}

bool engine_model::cancel(std::uint64_t id, instant at) {
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return false;
  const std::uint32_t slot = found->second;
  if (const auto w = std::find(waiting_.begin(), waiting_.end(), slot); w != waiting_.end()) {
    waiting_.erase(w);
  } else if (slots_[slot].kv == state::remote::loading) {
    --loading_;
  } else {
    running_.erase(std::find(running_.begin(), running_.end(), slot));
  }
  retire(slot);
  ++totals_.cancelled;
  if (running_.empty() && waiting_.empty()) wake_at_ = never;
  wake(std::max(at, idle_since_));
  return true;
}

engine_model::state* engine_model::find_loading(std::uint64_t id) {
  const auto found = by_id_.find(id);
  if (found == by_id_.end() || slots_[found->second].kv != state::remote::loading) return nullptr;
  --loading_;
  waiting_.push_front(found->second);
  return &slots_[found->second];
}

// As in vLLM the last prompt token is computed here: its logits are needed.
bool engine_model::kv_loaded(std::uint64_t id, std::uint32_t max_output_tokens,
                             std::vector<std::uint64_t> names, instant at) {
  state* const s = find_loading(id);
  if (s == nullptr) return false;
  s->kv = state::remote::loaded;
  s->max_output = output_limit(s->prompt, std::max(max_output_tokens, 1U));
  s->names = std::move(names);
  s->computed = s->prompt - 1;
  name_blocks(*s, s->computed);
  wake(at);
  return true;
}

bool engine_model::kv_lost(std::uint64_t id, instant at) {
  state* const s = find_loading(id);
  if (s == nullptr) return false;
  release_blocks(*s);
  s->kv = state::remote::no;
  s->computed = 0;
  wake(at);
  return true;
}

std::span<const block_id> engine_model::pinned(std::uint64_t id) const {
  const auto found = pinned_.find(id);
  return found == pinned_.end() ? std::span<const block_id>{} : std::span<const block_id>(found->second);
}

bool engine_model::unpin(std::uint64_t id, instant at) {
  const auto found = pinned_.find(id);
  if (found == pinned_.end()) return false;
  pinned_blocks_ -= static_cast<std::uint32_t>(found->second.size());
  release(found->second);
  pinned_.erase(found);
  wake(at);
  return true;
}

instant engine_model::next_time() const { return ends_at_ != never ? ends_at_ : wake_at_; }

void engine_model::advance(instant now, std::vector<engine_event>& events, std::uint32_t limit) {
  while (limit > 0) {
    if (ends_at_ == never) {
      if (wake_at_ > now) return;  // `never` is later than everything
      start_iteration(wake_at_, events);
      if (ends_at_ == never) return;
    }
    if (ends_at_ > now) return;
    end_iteration(events);
    --limit;
  }
}

void engine_model::start_iteration(instant at, std::vector<engine_event>& events) {
  prefill_tokens_ = decode_sequences_ = 0;
  std::uint32_t budget = settings_.max_batched_tokens;
  // As in vLLM, an iteration that had to throw somebody out takes nobody in.
  const bool kept_all = schedule_running(at, budget, events);
  if (kept_all) schedule_waiting(at, budget, events);
  wake_at_ = never;
  // Who waits may be kept out by pinned blocks or by loads: nothing runs until something changes.
  idle_since_ = at;
  if (kept_all && running_.empty()) return;
  const double us =
      settings_.fixed_us + settings_.prefill_us * prefill_tokens_ + settings_.decode_us * decode_sequences_;
  const double speed = settings_.speed > 0 ? settings_.speed : 1e-9;
  const double ns = std::min(us * 1000.0 / speed, 1e17);
  ends_at_ = std::max(at + duration(std::llround(ns)), stalled_until_);
}

// Marks `tokens` more of a sequence for this iteration; its blocks are there.
void engine_model::schedule(state& s, std::uint32_t tokens, std::uint32_t& budget) {
  s.scheduled = tokens;
  budget -= tokens;
  if (s.generated > 0 && tokens == 1 && s.computed + 1 == s.known()) {
    ++decode_sequences_;
  } else {
    prefill_tokens_ += tokens;
  }
  if (s.computed + tokens >= s.next_name_at) name_blocks(s, s.computed + tokens);
}

// False when somebody was thrown out.
bool engine_model::schedule_running(instant at, std::uint32_t& budget, std::vector<engine_event>& events) {
  bool kept_all = true;
  for (std::size_t i = 0; i < running_.size(); ++i) {
    state& s = slots_[running_[i]];
    s.scheduled = 0;
    const std::uint32_t tokens = std::min(s.known() - s.computed, budget);
    if (tokens == 0) continue;
    bool fits = extend(s, s.computed + tokens);
    while (!fits) {
      const std::uint32_t victim = running_.back();
      const bool itself = running_.size() == i + 1;
      running_.pop_back();
      preempt(victim);
      events.push_back({at, slots_[victim].id, engine_event_kind::preempted, slots_[victim].generated,
                        slots_[victim].cached});
      kept_all = false;
      if (itself) break;
      fits = extend(s, s.computed + tokens);
    }
    if (!fits) break;
    schedule(s, tokens, budget);
  }
  return kept_all;
}

void engine_model::preempt(std::uint32_t slot) {
  state& s = slots_[slot];
  release_blocks(s);
  s.computed = s.scheduled = 0;
  s.kv = state::remote::no;
  waiting_.push_front(slot);
  ++totals_.preemptions;
}

void engine_model::schedule_waiting(instant at, std::uint32_t& budget, std::vector<engine_event>& events) {
  while (!waiting_.empty() && budget > 0 && running_.size() < settings_.max_num_seqs) {
    const std::uint32_t slot = waiting_.front();
    state& s = slots_[slot];
    if (s.kv != state::remote::loaded && !admit(s, budget)) return;
    waiting_.pop_front();
    if (!std::exchange(s.started, true)) begin(s, at, events);
    if (s.kv == state::remote::loading) continue;
    running_.push_back(slot);
    schedule(s, std::min(s.known() - s.computed, budget), budget);
  }
}

// The first time that a sequence leaves the queue. One that loads leaves it for now, with its blocks.
void engine_model::begin(state& s, instant at, std::vector<engine_event>& events) {
  s.cached = s.computed;
  totals_.prefix_queries += s.prompt;
  totals_.prefix_hits += s.cached;
  totals_.load_queries += s.prompt - s.cached;
  events.push_back({at, s.id, engine_event_kind::started, 0, s.cached});
  if (s.kv != state::remote::wanted) return;
  s.kv = state::remote::loading;
  ++loading_;
  totals_.load_hits += s.prompt - s.cached;
  events.push_back({at, s.id, engine_event_kind::load, s.prompt - s.cached, s.cached});
}

// The leading blocks that are cached, into hits_: whole ones, and never the one with the last known token,
// whose logits are needed.
void engine_model::find_hits(const state& s) {
  hits_.clear();
  if (!settings_.prefix_caching) return;
  const std::size_t most = std::min<std::size_t>(s.names.size(), (s.known() - 1) / settings_.block_tokens);
  while (hits_.size() < most) {
    const block_id found = pool_.find(s.names[hits_.size()]);
    if (found == no_block) return;
    hits_.push_back(found);
  }
}

// Takes the cached blocks and room for what of the rest fits the budget; all or nothing.
bool engine_model::admit(state& s, std::uint32_t budget) {
  // A long prompt that waits for memory is not looked up in every iteration: its need shrinks by at most
  // one block for each gain of the pool, and by what a smaller budget leaves out.
  if (s.needed > 0) {
    const std::uint64_t smaller = budget < s.needed_budget ? blocks_for(s.needed_budget - budget) : 0;
    const std::uint64_t slack = pool_.gains() - s.needed_gains + smaller;
    if (s.needed > slack && s.needed - slack > pool_.available()) return false;
  }
  find_hits(s);
  const auto hits = static_cast<std::uint32_t>(hits_.size());
  const std::uint32_t whole = std::min(s.imported, s.known() - 1) / settings_.block_tokens;
  const std::uint32_t cached = std::max(hits, whole) * settings_.block_tokens;
  // What is loaded is not computed: it needs room at once and no budget.
  const std::uint32_t tokens =
      s.kv == state::remote::wanted ? s.known() - cached : std::min(s.known() - cached, budget);
  std::uint32_t needed = blocks_for(cached + tokens) - hits;
  for (const block_id hit : hits_) needed += pool_.referenced(hit) ? 0 : 1;
  if (needed > pool_.available()) {
    s.needed = needed;
    s.needed_budget = budget;
    s.needed_gains = pool_.gains();
    return false;
  }
  for (const block_id hit : hits_) pool_.acquire(hit);
  s.blocks.assign(hits_.begin(), hits_.end());
  s.needed = 0;
  s.computed = cached;
  s.covered = hits * settings_.block_tokens;
  s.named = hits;
  s.next_name_at = (hits + 1) * settings_.block_tokens;
  return extend(s, cached + tokens);
}

// Room for the first `tokens` tokens; false, with nothing taken, when memory is full.
bool engine_model::extend(state& s, std::uint32_t tokens) {
  if (tokens <= s.covered) return true;
  const std::uint32_t more = blocks_for(tokens - s.covered);
  if (more > pool_.available()) return false;
  for (std::uint32_t i = 0; i < more; ++i) s.blocks.push_back(pool_.allocate());
  s.covered += more * settings_.block_tokens;
  return true;
}

// Blocks become findable when they are scheduled, as in vLLM: later iterations run after this one.
void engine_model::name_blocks(state& s, std::uint32_t tokens) {
  const std::uint32_t full = tokens / settings_.block_tokens;
  if (settings_.prefix_caching) {
    const std::size_t most = std::min<std::size_t>(full, s.names.size());
    for (std::size_t i = s.named; i < most; ++i) {
      if (s.names[i] != 0) pool_.give_name(s.blocks[i], s.names[i]);
    }
  }
  s.named = full;
  s.next_name_at = (full + 1) * settings_.block_tokens;
}

// The tail goes first, so that it is also the first to be reused and the head of a prefix lives longest.
void engine_model::release(const std::vector<block_id>& blocks) {
  for (auto b = blocks.rbegin(); b != blocks.rend(); ++b) pool_.release(*b);
}

void engine_model::release_blocks(state& s) {
  release(s.blocks);
  s.blocks.clear();
  s.covered = 0;
}

void engine_model::retire(std::uint32_t slot) {
  state& s = slots_[slot];
  release_blocks(s);
  by_id_.erase(s.id);
  s.names = {};
  free_slots_.push_back(slot);
}

void engine_model::end_iteration(std::vector<engine_event>& events) {
  const instant at = ends_at_;
  ends_at_ = never;
  ++totals_.iterations;
  totals_.computed_tokens += prefill_tokens_;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < running_.size(); ++i) {
    const std::uint32_t slot = running_[i];
    state& s = slots_[slot];
    s.computed += std::exchange(s.scheduled, 0);
    bool done = false;
    if (s.computed == s.known()) {
      if (s.generated == 0) {
        totals_.prompt_tokens += s.prompt;
        totals_.cached_tokens += s.cached;
        if (s.kv == state::remote::loaded) totals_.loaded_tokens += s.prompt - s.cached;
      }
      if (s.max_output > 0) {
        const auto kind = s.generated == 0 ? engine_event_kind::first_token : engine_event_kind::token;
        ++totals_.generated_tokens;
        events.push_back({at, s.id, kind, ++s.generated, s.cached});
      }
      done = s.generated == s.max_output;
    }
    if (!done) {
      running_[kept++] = slot;
      continue;
    }
    events.push_back({at, s.id, engine_event_kind::finished, s.generated, s.cached});
    ++totals_.finished;
    if (s.keep) {
      pinned_blocks_ += static_cast<std::uint32_t>(s.blocks.size());
      pinned_.emplace(s.id, std::move(s.blocks));
      s.blocks = {};
    }
    retire(slot);
  }
  running_.resize(kept);
  if (!running_.empty() || !waiting_.empty()) wake_at_ = at;
}

void engine_model::stall(instant until) {
  stalled_until_ = until;
  if (ends_at_ != never) ends_at_ = std::max(ends_at_, until);
}

std::vector<std::uint64_t> engine_model::restart() {
  std::vector<std::uint64_t> lost;
  for (const auto& [id, slot] : by_id_) lost.push_back(id);
  std::sort(lost.begin(), lost.end());
  *this = engine_model(settings_);
  return lost;
}

std::uint64_t engine_model::prefill_left() const {
  std::uint64_t sum = 0;
  for (const std::uint32_t slot : running_) {
    const state& s = slots_[slot];
    if (s.generated == 0) sum += s.known() - s.computed;
  }
  for (const std::uint32_t slot : waiting_) {
    const state& s = slots_[slot];
    sum += s.known() - std::min(s.imported, s.known() - 1);
  }
  return sum;
}

engine_counters engine_model::counters() const {
  engine_counters c = totals_;
  c.running = running_.size();
  c.waiting = waiting_.size() + loading_;
  c.loading = loading_;
  c.kv_blocks_pinned = pinned_blocks_;
  c.kv_blocks = pool_.capacity();
  c.kv_blocks_used = pool_.used();
  return c;
}

}  // namespace penstock::emulator
