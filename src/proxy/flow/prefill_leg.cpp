#include "proxy/flow/prefill_leg.hpp"

#include "proxy/handoff/prefill_answer.hpp"

namespace penstock::flow {

std::string_view name(prefill_state s) {
  constexpr std::string_view names[] = {"connecting", "waiting", "reading", "handed", "over"};
  return names[static_cast<std::size_t>(s)];
}

prefill_leg::prefill_leg(connector_kind connector, endpoint_id prefill, endpoint_id decode, duration lease,
                         std::size_t limit, handoff::ledger& book)
    : book_(book), length_(lease), limit_(limit), prefill_(prefill), decode_(decode), connector_(connector) {}

prefill_outcome prefill_leg::on(const engine_connected& e) {
  if (state_ != prefill_state::connecting) return prefill_outcome::none;
  reused_ = e.reused;
  state_ = prefill_state::waiting;
  return prefill_outcome::connected;
}

prefill_outcome prefill_leg::on(const engine_unreachable&) {
  if (state_ != prefill_state::connecting) return prefill_outcome::none;
  state_ = prefill_state::over;
  return prefill_outcome::unreachable;
}

prefill_outcome prefill_leg::on(const engine_head& e, instant now) {
  if (state_ != prefill_state::waiting) return prefill_outcome::none;
  if (e.head->status != 200) return prefill_outcome::refused;
  state_ = prefill_state::reading;
  head_ = e.head;
  // Engines answer once the prefill is done, so the blocks are pinned from now on, give or take the way here.
  lease_ = book_.open(prefill_, decode_, 0, now, length_);
  return prefill_outcome::none;
}

prefill_outcome prefill_leg::on(const engine_bytes& e) {
  if (state_ != prefill_state::reading) return prefill_outcome::none;
  if (answer_.size() + e.body.size() > limit_) {
    state_ = prefill_state::over;
    return prefill_outcome::died;
  }
  answer_.append(e.body);
  return prefill_outcome::none;
}

prefill_outcome prefill_leg::on(const engine_end&) {
  if (state_ != prefill_state::reading) return prefill_outcome::none;
  const handoff::prefill_answer said = handoff::read_prefill_answer(connector_, answer_);
  cached_known_ = said.cached_known;
  cached_ = said.cached_tokens;
  prompt_ = said.prompt_tokens;
  if (said.finished) {
    state_ = prefill_state::over;
    return prefill_outcome::finished;
  }
  params_.assign(said.params);
  prompt_ids_.assign(said.prompt_ids);
  answer_ = std::string();
  if (!said.params.empty() || (said.read && handoff::row(connector_).params_member.empty())) {
    state_ = prefill_state::handed;
    return prefill_outcome::handed;
  }
  state_ = prefill_state::over;
  return said.read ? prefill_outcome::no_params : prefill_outcome::died;
}

prefill_outcome prefill_leg::on(const engine_lost& e) {
  if (state_ != prefill_state::waiting && state_ != prefill_state::reading) return prefill_outcome::none;
  const bool stale = state_ == prefill_state::waiting && reused_ && !e.garbage && !tried_again_;
  state_ = prefill_state::over;
  return stale ? prefill_outcome::stale : prefill_outcome::died;
}

void prefill_leg::try_again(instant connect_deadline) {
  tried_again_ = true;
  state_ = prefill_state::connecting;
  connect_ = connect_deadline;
}

}  // namespace penstock::flow
