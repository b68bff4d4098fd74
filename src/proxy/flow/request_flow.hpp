// One request from its facts to its accounting, as a state machine without I/O: events in, actions out.
#pragma once

#include <cstdint>
#include <list>
#include <string>

#include "penstock/account_record.hpp"
#include "penstock/config.hpp"
#include "proxy/flow/deadlines.hpp"
#include "proxy/flow/events.hpp"
#include "proxy/flow/retry_budget.hpp"
#include "proxy/http/answer_reader.hpp"
#include "proxy/http/sse_scanner.hpp"

namespace penstock::flow {

enum class state : std::uint8_t {
  reading,     // the body is not whole yet
  deciding,    // routing was asked
  connecting,  // a connection to the target was asked for
  waiting,     // the request is on its way; no answer head yet
  holding,     // an SSE head came; everything before the first token is held
  streaming,   // committed: SSE events pass
  relaying,    // committed or not: an answer that is not scanned passes (JSON, errors, encoded)
  done,        // finish was said
};
std::string_view name(state s);

// What an engine did wrong, for passive health.
enum class fault : std::uint8_t { none, unreachable, reset, garbage, timeout, overloaded, server_error };

// Belongs to one request on one worker. The events' order is the caller's duty; events that a state
// does not expect after `finish` are ignored. Owned by the worker's exchange; never blocks or throws.
class request_flow {
 public:
  // `settings` and `budget` outlive the flow.
  request_flow(const config& settings, retry_budget& budget, api_kind api, instant accepted);

  // Takes one event and appends what is to be done, in order. Bytes named by write actions stay valid
  // until flushed() or the destruction of the flow; those inside an engine_bytes event as long as it.
  void on(const event& e, instant now, actions& out);

  // Everything named by write actions was written or copied.
  void flushed() { kept_.clear(); }

  // The earliest instant at which on(timer) is wanted.
  instant deadline() const;

  // Answer bytes kept inside: what came before the first token, and the tail of an unfinished event.
  std::size_t held_bytes() const { return state_ == state::done ? 0 : held_.size() + scanner_.held(); }

  state where() const { return state_; }
  bool committed() const { return committed_; }
  // A streamed answer of this API is read as it passes (and so must not come encoded).
  bool scanned() const;
  const plan& chosen() const { return plan_; }
  const candidate& target() const { return plan_.candidates[attempt_]; }
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
  void handle(const picked&, instant, actions&);
  void handle(const not_picked&, instant, actions&);
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
  bool has_next() const { return attempt_ + 1 < plan_.candidates.size(); }
  void next_candidate(instant now, actions& out);
  void begin_stream(actions& out);
  void commit(actions& out);
  void scan(bytes_view body, instant now, actions& out);
  void take_event(const http::scanned_event& ev, bytes_view input, instant now, actions& out);
  void pass(bytes_view bytes, bytes_view input, actions& out);
  void hold(bytes_view bytes, actions& out);
  void note_content(instant now, actions& out);
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
  void report(fault f, actions& out);
  void check_keepalive(instant now, actions& out);
  api_error describe(reason why) const;

  const config& settings_;
  retry_budget& budget_;
  const request_facts* facts_ = nullptr;
  plan plan_;
  account_record record_;
  api_error error_;
  deadlines deadlines_;
  http::sse_scanner scanner_;
  http::answer_reader reader_;
  const http::response_head* head_ = nullptr;
  std::string held_;             // events before the first token
  std::list<std::string> kept_;  // bytes named by write actions that nobody else holds
  std::uint32_t attempt_ = 0;    // index into plan_.candidates
  std::uint32_t deaths_ = 0;     // engines that died with this request in hand
  state state_ = state::reading;
  fault fault_ = fault::none;
  bool inject_usage_ = false;
  bool committed_ = false;    // content, or an answer that is not scanned, reached the client
  bool head_sent_ = false;    // the answer's head went out (keep-alive comments may precede content)
  bool has_engine_ = false;   // a connection is ours
  bool booked_ = false;       // dispatch was said and neither completed nor withdrawn
  bool reused_ = false;       // the connection served before
  bool stale_retry_ = false;  // the target is tried again on a fresh connection
  bool failed_over_ = false;  // the one free failover after a failed connect was used
  bool first_token_told_ = false;
};

}  // namespace penstock::flow
