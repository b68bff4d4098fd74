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

void work_lease::state::give_back() {
  if (booked) shared.board.release(endpoint, work, decoding);
  booked = false;
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

void work_lease::first_token(instant now, bool teaches) {
  if (!state_ || state_->decoding) return;
  state& s = *state_;
  s.decoding = true;
  if (s.booked) s.shared.board.begin_decode(s.endpoint, s.work);
  if (s.booked && teaches) {
    if (s.teaches) s.shared.board.teach(s.endpoint, s.work.prefill_tokens, s.dispatched, now);
    const double speed = s.shared.board.read(s.endpoint).speed;
    s.shared.board.reanchor(s.endpoint, now, speed > 0 ? speed : s.speed);
  }
  const auto [first, end, epoch] = s.entered;
  if (first < end) s.shared.prefixes.confirm(s.endpoint, s.seed, s.keys().subspan(first, end - first));
}

void work_lease::ended(instant /*now*/, const token_usage& usage) {
  if (!state_) return;
  state& s = *state_;
  s.give_back();
  // Engines free a sequence's blocks when it ends: this is the moment they take their place in the LRU.
  const bool newest = s.decoding && s.shared.prefixes.newest(s.endpoint, s.entered.epoch);
  if (!newest) s.enter(block_mark::confirmed);
  if (usage.known) s.shared.prefixes.crowd(s.endpoint, usage.completion);
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
