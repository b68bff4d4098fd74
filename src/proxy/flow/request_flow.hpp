// One request from its facts to its accounting, as a state machine without I/O: events in, actions out.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>

#include "penstock/account_record.hpp"
#include "penstock/config.hpp"
#include "proxy/flow/deadlines.hpp"
#include "proxy/flow/events.hpp"
#include "proxy/flow/prefill_leg.hpp"
#include "proxy/flow/retry_budget.hpp"
#include "proxy/http/answer_reader.hpp"
#include "proxy/http/sse_scanner.hpp"

namespace penstock::flow {

enum class state : std::uint8_t {
  reading,     // the body is not whole yet
  deciding,    // routing was asked
  prefilling,  // a prefill engine was asked; the answer leg waits for what it hands on (serial)
  connecting,  // a connection to the target was asked for
  waiting,     // the request is on its way; no answer head yet
  holding,     // an SSE head came; everything before the first token is held
  streaming,   // committed: SSE events pass
  relaying,    // committed or not: an answer that is not scanned passes (JSON, errors, encoded)
  closing,     // the client left between the legs, or was refused: blocks are freed by a delivered hand-off
  done,        // finish was said
};
std::string_view name(state s);

// What an engine did wrong, for passive health.
enum class fault : std::uint8_t { none, unreachable, reset, garbage, timeout, overloaded, server_error };

// Belongs to one request on one worker. The events' order is the caller's duty; events that a state
// does not expect after `finish` are ignored. Owned by the worker's exchange; never blocks or throws.
class request_flow {
 public:
  // `settings`, `budget` and `book` outlive the flow.
  request_flow(const config& settings, retry_budget& budget, handoff::ledger& book, api_kind api,
               instant accepted);

  // Takes one event, and over what it holds, and appends what is to be done, in order. Bytes named by write
  // actions stay valid until flushed() or the destruction of the flow; those inside an engine_bytes event as
  // long as it.
  void on(event&& e, instant now, actions& out);

  // Everything named by write actions was written or copied.
  void flushed() { kept_.clear(); }

  // The earliest instant at which on(timer) is wanted.
  instant deadline() const;

  // Answer bytes kept inside: what came before the first token, the tail of an unfinished event, and what a
  // prefill engine answered.
  std::size_t held_bytes() const {
    if (state_ == state::done) return 0;
    return held_.size() + scanner_.held() + (prefill_ != nullptr ? prefill_->held_bytes() : 0);
  }

  state where() const { return state_; }
  bool committed() const { return committed_; }
  // The request's body will not be sent again.
  bool sent_for_good() const { return committed_ && !unread_; }
  // A streamed answer of this API is read as it passes (and so must not come encoded).
  bool scanned() const;
  const plan& chosen() const { return plan_; }
  const candidate& target() const { return plan_.candidates[attempt_]; }
  endpoint_id engine_of(leg l) const { return l == leg::answer ? target().endpoint : target().prefill; }
  // The prefill and the decode engine of the last pair_failed.
  std::pair<endpoint_id, endpoint_id> failed_pair() const { return failed_pair_; }
  // Null where the request is served in one place.
  const prefill_leg* prefill() const { return prefill_.get(); }
  const api_error& error() const { return error_; }
  fault engine_fault() const { return fault_; }
  // The edit that asks the engine for usage is to be made (the client did not ask, and streams).
  bool inject_usage() const { return inject_usage_; }
  // The predicted time of the target's prefill, told by the worker after dispatch; used only where no
  // first token will be seen.
  void predict_prefill(instant now, duration prefill);

  // The id the engine gave its answer (responses API), for previous_response_id; empty if unknown.
  const std::string& response_id() const {
    return scanner_.response_id().empty() ? reader_.response_id() : scanner_.response_id();
  }

  account_record& record() { return record_; }
  const account_record& record() const { return record_; }

 private:
  void handle(const refused&, instant, actions&);
  void handle(const body_ready&, instant, actions&);
  void handle(picked&&, instant, actions&);
  void handle(const not_picked&, instant, actions&);
  void handle(const turn_came&, instant, actions&);
  void handle(const engine_connected&, instant, actions&);
  void handle(const engine_unreachable&, instant, actions&);
  void handle(const request_sent&, instant, actions&);
  void handle(const engine_head&, instant, actions&);
  void handle(const engine_bytes&, instant, actions&);
  void handle(const engine_end&, instant, actions&);
  void handle(const engine_lost&, instant, actions&);
  void handle(const client_gone&, instant, actions&);
  void handle(const client_blocked&, instant, actions&);
  void handle(const client_drained&, instant, actions&);
  void handle(const timer&, instant, actions&);
  void handle(const drain_now&, instant, actions&);

  void try_target(bool fresh, instant now, actions& out);
  void begin_answer();
  std::uint32_t next_index() const;
  bool has_next() const { return next_index() < plan_.candidates.size(); }
  void next_candidate(instant now, actions& out);
  void take_answer_head(instant now, actions& out);
  void begin_relay(instant now);
  void relay(bytes_view body, instant now, actions& out);
  void begin_stream(actions& out);
  void commit(actions& out);
  void note_commit();
  void scan(bytes_view body, instant now, actions& out);
  void take_event(const http::scanned_event& ev, bytes_view input, instant now, actions& out);
  void pass(bytes_view bytes, bytes_view input, actions& out);
  void hold(bytes_view bytes, actions& out);
  static bool opens(http::event_kind kind);
  void note_content(instant now, actions& out);
  void note_first_token(instant now, actions& out);
  void end_stream(instant now, actions& out);
  void end_relay(instant now, actions& out);
  void lost_before_commit(fault how, reason why, instant now, actions& out);
  void break_stream(api_error error, instant now, actions& out);
  void fail(api_error error, instant now, actions& out);
  void complete(reason why, bool reusable, instant now, actions& out);
  bool said_all() const;
  void end_as_said(bool reusable, instant now, actions& out);
  reason reason_of_end() const;
  void release_engine(bool reusable, actions& out);
  void report(fault f, actions& out, leg of = leg::answer);
  void check_keepalive(instant now, actions& out);
  api_error describe(reason why) const;

  // request_flow_split.cpp: two engines for one request
  void ask_prefill(actions& out);
  void take_prefill(prefill_outcome what, const http::response_head* head, reason why, instant now,
                    actions& out);
  void prefill_refused(const http::response_head& head, instant now, actions& out);
  void drop_prefill(actions& out);
  void prefill_failed(fault how, reason why, bool may, instant now, actions& out);
  void prefill_ended(instant now, actions& out);
  void prefill_finished(instant now, actions& out);
  void adopt_prefill(actions& out);
  void note_failed_pair(actions& out);
  void release_prefill(actions& out);
  void avoid(endpoint_id engine);
  bool may_decode(instant now, actions& out);
  instant delivery_deadline() const;
  void handoff_late(instant now, actions& out);
  void decode_silent();
  bool next_decode(instant now, actions& out);
  void decode_lost();
  bool may_ask(const candidate& c) const;
  void handoff_refused(actions& out);
  bool refused_in_stream(const http::scanned_event& ev, instant now, actions& out);
  void close_lease(handoff::closing how);
  bool corrects_usage() const;
  bytes_view correct_usage(bytes_view text);
  void relay_corrected(bytes_view body, actions& out);
  void release_usage(actions& out);
  token_usage true_usage(token_usage told) const;
  bool freed_by_delivery() const;
  bool between_legs() const;
  bool answer_may_cross() const;
  void begin_closing(instant now, actions& out);
  void close_handoff(const event& e, instant now, actions& out);
  void close_connected(instant now, actions& out);
  void close_unreachable(instant now, actions& out);
  void close_prefill(prefill_outcome what, instant now, actions& out);
  void close_handed(prefill_outcome what, instant now, actions& out);
  void end_closing(handoff::closing how, actions& out);
  void note_unread(int status);
  void free_unread(bool reusable, instant now, actions& out);
  void connect_to_close(instant now, actions& out);

  // request_flow_gate.cpp: both legs at once, and what the decode leg says too early
  bool concurrent() const { return handoff::row(plan_.connector).order == handoff::dispatch::concurrent; }
  bool gated() const {
    return prefill_ != nullptr && prefill_->where() != prefill_state::handed && concurrent();
  }
  void note_lease();
  void note_generated(instant now);
  void hold_event(const http::scanned_event& ev, actions& out);
  void hold_relayed(bytes_view body, instant now, actions& out);
  bool hold_end(instant now);
  void correct_held();
  void bound_hold(actions& out);
  void open_gate(instant now, actions& out);
  void gate_late(instant now, actions& out);
  void answer_lost(instant now, actions& out);
  void ask(leg of, instant now, actions& out);
  void send_held_back(leg of, instant now, actions& out);
  void proven(instant now, actions& out);
  void doubt_partner(leg broken);
  void partner_cut(leg unreachable);
  void count_death(leg of);
  void settle_doubt(leg dead);
  void asked_first(instant now);
  bool was_asked(leg of) const;
  void release_answer(actions& out);

  // Of a decode answer that may not pass before its prefill leg has ended well.
  struct gate_state {
    bool generated = false;  // content came: the decode engine has the blocks
    bool due = false;        // what is held would have been passed on already
    bool whole = false;      // the answer's end is held as well
    bool full = false;       // the engine is paused, since enough is held
  };

  const config& settings_;
  retry_budget& budget_;
  handoff::ledger& book_;
  std::unique_ptr<prefill_leg> prefill_;
  inline_vector<endpoint_id, 8> failed_;     // engines that failed this request: not asked again
  inline_vector<endpoint_id, 16> unpaired_;  // engines of a hand-off that was refused: asked alone, if at all
  const request_facts* facts_ = nullptr;
  plan plan_;
  account_record record_;
  api_error error_;
  std::string_view garbage_;  // what was wrong with an answer that was no HTTP
  deadlines deadlines_;
  http::sse_scanner scanner_;
  http::answer_reader reader_;
  const http::response_head* head_ = nullptr;
  std::string edited_;           // an event of a split answer whose usage was corrected
  std::string held_;             // events before the first token
  std::list<std::string> kept_;  // bytes named by write actions that nobody else holds
  std::pair<endpoint_id, endpoint_id> failed_pair_;
  inline_vector<endpoint_id, 8> asked_;  // engines that were sent the request
  // An engine that had the request and was cut when its partner died, before it was known whether it lives.
  endpoint_id doubted_;
  // ... or cut before anybody died of it, and counts as dead once another does.
  endpoint_id unsure_;
  std::uint32_t attempt_ = 0;  // index into plan_.candidates
  std::uint32_t deaths_ = 0;   // engines that died with this request in hand
  gate_state gate_;
  state state_ = state::reading;
  fault fault_ = fault::none;
  bool inject_usage_ = false;
  bool committed_ = false;      // content, or an answer that is not scanned, reached the client
  bool head_sent_ = false;      // the answer's head went out (keep-alive comments may precede content)
  bool has_engine_ = false;     // a connection is ours
  bool booked_ = false;         // dispatch was said and neither completed nor withdrawn
  bool reused_ = false;         // the connection served before
  bool stale_retry_ = false;    // the target is tried again on a fresh connection
  bool fresh_prefill_ = false;  // ... or its prefill engine
  bool held_back_[2] = {};      // by leg: a connection stands, the request is not sent yet
  bool asked_one_ = false;      // after a death: the first engine of a pair was sent it
  bool client_lags_ = false;    // client_blocked was said, and client_drained not yet
  bool failed_over_ = false;    // the one free failover after a failed connect was used
  bool first_token_told_ = false;
  bool closing_connect_ = false;  // while closing: a connection to the decode engine was asked for
  bool delivered_ = false;        // the answer leg's request is whole with its engine
  bool hung_up_ = false;          // while closing: on the prefill engine
  bool unread_ = false;           // the decode engine refused the request and did not look at its hand-off
  bool end_due_ = false;          // while closing: the end of the client's answer, which waits for it
  bool reframed_ = false;         // the answer's body is not of the engine's length
  bool as_events_ = false;        // the engine's answer was whole, the client gets it as a stream
};

}  // namespace penstock::flow
