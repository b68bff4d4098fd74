#include "routing/work_lease.hpp"

#include <algorithm>
#include <utility>

namespace penstock::routing {
namespace {

// The longest plausible prompts at 1 KiB a block are 8,192 blocks; more are not remembered.
constexpr std::size_t most_lease_blocks = 16384;

}  // namespace

std::unique_ptr<work_lease::state> work_lease::state::make(shared_state& owner, endpoint_id to,
                                                           std::size_t most_blocks) {
  const std::size_t room = std::min(most_blocks, most_lease_blocks);
  return std::unique_ptr<state>(new (room * 9) state(owner, to, static_cast<std::uint32_t>(room)));
}

void work_lease::state::append(std::span<const prefix_block> chain) {
  for (const prefix_block& b : chain.first(std::min<std::size_t>(chain.size(), room - blocks))) {
    key_array()[blocks] = b.key;
    unit_array()[blocks] = block_units(b.tokens);
    ++blocks;
  }
}

void work_lease::state::wait() {
  if (booked && !waits) shared.board.hold(endpoint, work.prefill_tokens);
  waits = booked;
}

void work_lease::state::stop_waiting() {
  if (waits) shared.board.unhold(endpoint, work.prefill_tokens);
  waits = false;
}

void work_lease::state::give_back() {
  stop_waiting();
  if (booked) shared.board.release(endpoint, work, decoding);
  booked = false;
}

void work_lease::state::compare(const token_usage& usage) const {
  const cache_evidence& e = entered.evidence;
  if (!tells || elsewhere || !usage.known || !usage.cached_known || usage.prompt == 0 || prompt_tokens == 0)
    return;
  if (e.in_flight) return;  // what was not computed yet cannot have been found
  // The engine's tokens to one of the estimate's.
  const double scale = static_cast<double>(usage.prompt) / static_cast<double>(prompt_tokens);
  std::uint64_t held = 0, known = 0;
  for (std::uint32_t i = 0; i < std::min(std::max(e.held_blocks, e.ghost_blocks), blocks); ++i) {
    known += units()[i] * std::uint64_t{16};
    if (i < e.held_blocks) held = known;
  }
  const auto scaled = [scale](std::uint64_t tokens) {
    return static_cast<std::uint64_t>(static_cast<double>(tokens) * scale);
  };
  shared.prefixes.observe(endpoint, {.held_tokens = scaled(held),
                                     .ghost_tokens = scaled(known),
                                     .held_distance = e.held_distance,
                                     .ghost_distance = e.ghost_distance,
                                     .cached = std::min(usage.cached, usage.prompt)});
}

work_lease::work_lease() noexcept = default;
work_lease::work_lease(std::unique_ptr<state> s) : state_(std::move(s)) {}
work_lease::work_lease(work_lease&&) noexcept = default;
work_lease& work_lease::operator=(work_lease&& other) noexcept {
  if (this == &other) return *this;
  withdraw();
  state_ = std::move(other.state_);
  return *this;
}
work_lease::~work_lease() { withdraw(); }

endpoint_id work_lease::endpoint() const { return state_ ? state_->endpoint : endpoint_id{}; }
bool work_lease::crowded() const { return state_ && state_->crowded; }

std::uint64_t work_lease::computed_before() const {
  if (!state_ || !state_->tells || state_->elsewhere || state_->entered.evidence.in_flight) return 0;
  std::uint64_t tokens = 0;
  for (std::uint32_t i = 0; i < std::min(state_->entered.evidence.held_blocks, state_->blocks); ++i)
    tokens += state_->units()[i] * std::uint64_t{16};
  return tokens;
}

held_work work_lease::hold(std::uint64_t prompt) {
  if (!state_) return {};
  state& s = *state_;
  s.wait();
  return {.takes = s.work.expected, .builds_on = s.entered.evidence.in_flight, .prompt = prompt};
}

void work_lease::send() {
  if (state_) state_->stop_waiting();
}

void work_lease::first_token(instant now, bool teaches) {
  if (!state_ || state_->decoding) return;
  state& s = *state_;
  s.decoding = true;
  s.stop_waiting();
  if (s.booked) s.shared.board.begin_decode(s.endpoint, s.work);
  if (s.booked && teaches) {
    s.decoding_since = now;
    s.sequences = s.shared.board.read(s.endpoint).sequences;
    if (s.teaches) s.shared.board.teach(s.endpoint, s.work.prefill_tokens, s.dispatched, now);
    const double speed = s.shared.board.read(s.endpoint).speed;
    // A prompt that was loaded does not wait for the prefills before it: its first token says nothing of
    // them.
    if (!s.elsewhere) s.shared.board.reanchor(s.endpoint, now, speed > 0 ? speed : s.speed);
  }
  const std::size_t first = s.entered.first, end = s.entered.end;
  if (first < end) {
    const std::size_t n = end - first;
    s.shared.prefixes.confirm(s.endpoint, s.seed, s.keys().subspan(first, n), s.units().subspan(first, n));
  }
}

void work_lease::ended(instant now, const token_usage& usage) {
  if (!state_) return;
  state& s = *state_;
  if (s.booked && s.tells && usage.known && s.decoding_since != instant{}) {
    const std::uint64_t then = s.sequences, at_end = s.shared.board.read(s.endpoint).sequences;
    s.shared.board.teach_decode(s.endpoint, usage.completion, seconds(now - s.decoding_since),
                                static_cast<double>(then + at_end) / 2);
  }
  s.give_back();
  s.compare(usage);
  // Engines free a sequence's blocks when it ends: this is the moment they take their place in the LRU.
  const bool newest = s.decoding && s.shared.prefixes.newest(s.endpoint, s.entered.epoch);
  if (!newest) s.enter(block_mark::confirmed);
  const std::uint64_t last = s.tells && s.blocks > 0 ? s.keys().back() : 0;
  if (usage.known) s.shared.prefixes.crowd(s.endpoint, usage.completion, s.seed, last);
  state_.reset();
}

void work_lease::withdraw() {
  if (!state_) return;
  state& s = *state_;
  s.give_back();
  if (!s.decoding) {
    s.shared.board.unwind(s.endpoint, s.work.expected);
    s.shared.prefixes.withdraw(s.endpoint, s.seed, s.keys());
  }
  state_.reset();
}

}  // namespace penstock::routing
