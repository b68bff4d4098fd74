// Both legs at once: what the decode leg says before its prefill leg has ended well is held, within a bound,
// and passes or is forgotten with it.
#include <algorithm>
#include <utility>

#include "proxy/flow/request_flow.hpp"
#include "proxy/http/sse_lines.hpp"

namespace penstock::flow {

using handoff::closing;

// For so long a connection must stand before its engine counts as alive: the kernel accepts for a
// process that is about to die, and ends what it accepted when that has gone.
constexpr duration proof_of_life = std::chrono::milliseconds(50);

// The prefill engine began to answer while its partner was asked already.
void request_flow::note_lease() {
  if (prefill_ == nullptr || !prefill_->lease()) return;
  if (gate_.generated) {
    close_lease(closing::fetched);
  } else if (has_engine_) {
    prefill_->lease().spend();
  }
}

// The decode engine generates, so it has the blocks and prefill is done: its answer must end soon.
void request_flow::note_generated(instant now) {
  if (std::exchange(gate_.generated, true)) return;
  close_lease(closing::fetched);
  deadlines_.gate = after(now, settings_.timeouts.between_events);
}

void request_flow::hold_event(const http::scanned_event& ev, actions& out) {
  gate_.due |= opens(ev.kind);
  held_.append(ev.bytes);
  bound_hold(out);
}

void request_flow::hold_relayed(bytes_view body, instant now, actions& out) {
  gate_.due = true;
  held_.append(body);
  note_generated(now);
  bound_hold(out);
}

void request_flow::bound_hold(actions& out) {
  if (gate_.full || held_.size() <= settings_.limits.held_bytes) return;
  gate_.full = true;
  out.push_back({.kind = action_kind::pause_engine});
}

// True: the answer is whole and waits. A stream that is not is a leg that failed.
bool request_flow::hold_end(instant now) {
  if (state_ == state::holding && !scanner_.ended() && !scanner_.error_seen()) return false;
  if (state_ != state::holding && state_ != state::relaying) return false;
  gate_.whole = true;
  note_generated(now);
  return true;
}

// Event by event: only now it is known what came from the prefill engine's cache.
void request_flow::correct_held() {
  if (!corrects_usage() || !scanner_.usage().cached_known) return;
  const std::string all = std::exchange(held_, {});
  http::event_splitter events;
  for (bytes_view rest = all; !rest.empty();) {
    const std::size_t end = std::min(events.find_end(rest), rest.size());
    held_.append(correct_usage(rest.substr(0, end)));
    rest.remove_prefix(end);
  }
}

// The prefill leg ended well.
void request_flow::open_gate(instant now, actions& out) {
  const gate_state was = std::exchange(gate_, {.generated = gate_.generated, .whole = gate_.whole});
  deadlines_.gate = never;
  if (was.full && !was.whole && !client_lags_) out.push_back({.kind = action_kind::resume_engine});
  if (state_ == state::holding) {
    deadlines_.last_event = now;
    if (record_.content_events != 0) note_first_token(now, out);
    correct_held();
    if (was.due || was.full) commit(out);
    if (was.whole) end_stream(now, out);
  } else if (state_ == state::relaying) {
    begin_relay(now);
    if (was.due) relay(kept_.emplace_back(std::exchange(held_, {})), now, out);
    if (was.whole) end_relay(now, out);
  }
}

// The decode engine has generated, and the prefill engine does not end its answer.
void request_flow::gate_late(instant now, actions& out) {
  prefill_failed(fault::timeout, reason::event_timeout, budget_.take(), now, out);
}

// The decode engine closed its connection behind a whole answer that still waits, and with it went the head:
// nobody is to blame, and the request is done anew.
void request_flow::answer_lost(instant now, actions& out) {
  release_engine(false, out);
  if (budget_.take()) return try_target(false, now, out);
  fail(describe(reason::handoff_failed), now, out);
}

// --- requests that kill their engines -----------------------------------------------------------------

// A connection stands. After a death the engines of a pair are shown the request one after the other, first
// the one that may be dead already, and that not before its connection has stood for a while: so each death
// is known before the next engine is asked.
void request_flow::ask(leg of, instant now, actions& out) {
  out.push_back({.kind = action_kind::dispatch, .of = of});
  held_back_[static_cast<std::size_t>(of)] = true;
  if (engine_of(of) == doubted_) deadlines_.proof = now + proof_of_life;
  if (!doubted_ && deadlines_.proof == never) send_held_back(of, now, out);
}

void request_flow::send_held_back(leg of, instant now, actions& out) {
  if (!std::exchange(held_back_[static_cast<std::size_t>(of)], false)) return;
  out.push_back({.kind = action_kind::send_request, .of = of});
  if (!asked_.full() && !was_asked(of)) asked_.push_back(engine_of(of));
  asked_first(now);
}

// Of a pair, after a death: the other has to wait.
void request_flow::asked_first(instant now) {
  const bool cautious = (deaths_ != 0 || unsure_) && prefill_ != nullptr && concurrent();
  if (cautious && !std::exchange(asked_one_, true)) deadlines_.proof = now + proof_of_life;
}

// Who was doubted, or was asked first, is still there.
void request_flow::proven(instant now, actions& out) {
  deadlines_.proof = never;
  const bool prefill_first = prefill_ != nullptr && engine_of(leg::prefill) == doubted_;
  doubted_ = {};
  send_held_back(prefill_first ? leg::prefill : leg::answer, now, out);
  if (deadlines_.proof == never) send_held_back(prefill_first ? leg::answer : leg::prefill, now, out);
}

// An engine broke off. Where its partner was shown the request as well, that one is cut now, and its end
// would not be seen.
void request_flow::doubt_partner(leg broken) {
  if (prefill_ == nullptr || !concurrent()) return;
  const leg partner = broken == leg::prefill ? leg::answer : leg::prefill;
  const bool lives = partner == leg::prefill && prefill_->where() == prefill_state::handed;
  if (!lives && was_asked(partner)) doubted_ = engine_of(partner);
}

// An engine cannot be reached, and its partner is cut. Whether that one lives matters if another dies.
void request_flow::partner_cut(leg unreachable) {
  if (prefill_ == nullptr || !concurrent() || doubted_) return;
  doubt_partner(unreachable);
  if (deaths_ == 0 && doubted_) unsure_ = std::exchange(doubted_, {});
}

void request_flow::count_death(leg of) {
  ++deaths_;
  const endpoint_id other = std::exchange(unsure_, {});
  if (other && other != engine_of(of)) ++deaths_;
}

// An engine died with the request in hand.
void request_flow::settle_doubt(leg dead) {
  if (engine_of(dead) == doubted_) {
    doubted_ = {};
  } else {
    doubt_partner(dead);
  }
}

// In this attempt or an earlier one, be it on a connection that was dead. Such an engine that cannot be
// reached is dying, perhaps of this very request.
bool request_flow::was_asked(leg of) const {
  return std::find(asked_.begin(), asked_.end(), engine_of(of)) != asked_.end();
}

// The decode leg alone is given up.
void request_flow::release_answer(actions& out) {
  if (std::exchange(booked_, false)) out.push_back({.kind = action_kind::give_up_work});
  if (has_engine_ || state_ == state::connecting) out.push_back({.kind = action_kind::drop_engine});
  has_engine_ = false;
  begin_answer();
}

}  // namespace penstock::flow
