#include "proxy/flow/prefill_leg.hpp"

#include "proxy/handoff/prefill_answer.hpp"

namespace penstock::flow {

std::string_view name(prefill_state s) {
  constexpr std::string_view names[] = {"connecting", "waiting", "reading", "handed", "over"};
  return names[static_cast<std::size_t>(s)];
}

prefill_leg::prefill_leg(connector_kind connector, api_kind api, endpoint_id prefill, endpoint_id decode,
                         duration lease, std::size_t limit, handoff::ledger& book)
    : book_(book),
      length_(lease),
      limit_(limit),
      prefill_(prefill),
      decode_(decode),
      connector_(connector),
      api_(api) {}

prefill_outcome prefill_leg::on(const engine_connected& e) {
  if (state_ != prefill_state::connecting) return prefill_outcome::none;
  reused_ = e.reused;
  sent_ = false;
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
  if (http::is_event_stream(*e.head)) scanner_ = std::make_unique<http::sse_scanner>(api_, limit_);
  // Engines answer once the prefill is done, so the blocks are pinned from now on, give or take the way here.
  lease_ = book_.open(prefill_, decode_, 0, now, length_);
  return prefill_outcome::none;
}

prefill_outcome prefill_leg::on(const engine_bytes& e) {
  if (state_ != prefill_state::reading) return prefill_outcome::none;
  if (read_ + e.body.size() > limit_) {
    state_ = prefill_state::over;
    return prefill_outcome::died;
  }
  read_ += e.body.size();
  if (scanner_ == nullptr) {
    answer_.append(e.body);
    return prefill_outcome::none;
  }
  for (bytes_view rest = e.body; !rest.empty();) {
    http::scanned_events found;
    rest.remove_prefix(scanner_->scan(rest, found));
  }
  return prefill_outcome::none;
}

prefill_outcome prefill_leg::on(const engine_end&) {
  if (state_ != prefill_state::reading) return prefill_outcome::none;
  if (scanner_ != nullptr) return end_stream();
  const handoff::prefill_answer said = handoff::read_prefill_answer(connector_, answer_);
  cached_known_ = said.cached_known;
  cached_ = said.cached_tokens;
  if (said.finished) {
    state_ = prefill_state::over;
    return prefill_outcome::finished;
  }
  params_ = said.params;
  prompt_ids_ = said.prompt_ids;
  if (params_.empty()) answer_ = std::string();
  if (said.handed_on) {
    state_ = prefill_state::handed;
    return prefill_outcome::handed;
  }
  state_ = prefill_state::over;
  if (said.error) return prefill_outcome::failed;
  return said.read ? prefill_outcome::no_params : prefill_outcome::died;
}

// Only connectors without parameters may stream their prefill answers: the others find none here.
prefill_outcome prefill_leg::end_stream() {
  const token_usage& usage = scanner_->usage();
  cached_known_ = usage.known && usage.cached_known;
  cached_ = usage.cached;
  state_ = prefill_state::over;
  if (scanner_->error_seen() || scanner_->end_is_failure()) return prefill_outcome::failed;
  if (!scanner_->ended()) return prefill_outcome::died;
  if (!handoff::row(connector_).params_member.empty()) return prefill_outcome::no_params;
  state_ = prefill_state::handed;
  return prefill_outcome::handed;
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
