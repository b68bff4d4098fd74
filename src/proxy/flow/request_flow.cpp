#include "proxy/flow/request_flow.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "proxy/http/shapes.hpp"

namespace penstock::flow {
namespace {

bool is_encoded(const http::response_head& head) {
  const http::field* encoding = http::find(head.fields, http::field_kind::content_encoding);
  return encoding != nullptr && !http::iequals(encoding->value, "identity");
}

// How an answer that is passed on as it is counts.
reason reason_of_status(int status) {
  if (status == 429 || status == 503) return reason::engine_overloaded;
  if (status >= 500) return reason::engine_error;
  if (status >= 400) return reason::engine_refused;
  return reason::ok;
}

}  // namespace

std::string_view name(state s) {
  constexpr std::string_view names[] = {"reading", "deciding",  "prefilling", "connecting", "waiting",
                                        "holding", "streaming", "relaying",   "closing",    "done"};
  return names[static_cast<std::size_t>(s)];
}

request_flow::request_flow(const config& settings, retry_budget& budget, handoff::ledger& book, api_kind api,
                           instant accepted)
    : settings_(settings),
      budget_(budget),
      book_(book),
      scanner_(api, settings.limits.event_bytes),
      reader_(api) {
  record_.api = api;
  record_.accepted = accepted;
  deadlines_.total = after(accepted, settings.timeouts.total);
}

void request_flow::on(event&& e, instant now, actions& out) {
  if (state_ == state::done) return;
  if (state_ == state::closing) return close_handoff(e, now, out);
  std::visit([&](auto&& what) { handle(std::move(what), now, out); }, std::move(e));
}

instant request_flow::deadline() const {
  if (state_ == state::done) return never;
  instant first =
      std::min({deadlines_.connect, deadlines_.first_token, deadlines_.total, deadlines_.keepalive,
                deadlines_.prefill_done, deadlines_.gate, deadlines_.proof});
  if (prefill_ != nullptr) first = std::min({first, prefill_->deadline(), delivery_deadline()});
  return std::min(first, deadlines_.next_event());
}

void request_flow::predict_prefill(instant now, duration prefill) { deadlines_.prefill_done = now + prefill; }

// --- before an engine is asked ----------------------------------------------------------------------

void request_flow::handle(const refused& e, instant now, actions& out) { fail(e.error, now, out); }

void request_flow::handle(const body_ready& e, instant now, actions& out) {
  assert(state_ == state::reading);
  facts_ = e.facts;
  record_.body_done = now;
  record_.stream = facts_->stream;
  record_.model = facts_->model;
  record_.predicted_prompt = facts_->prompt_tokens;
  const bool openai_stream = record_.api == api_kind::chat || record_.api == api_kind::completions;
  inject_usage_ = settings_.server.usage == usage_mode::inject && facts_->stream && openai_stream &&
                  !facts_->client_wants_usage && !facts_->continuous_usage;
  if (facts_->stream) deadlines_.first_token = after(now, settings_.timeouts.first_token);
  budget_.request();
  state_ = state::deciding;
  out.push_back({.kind = action_kind::decide});
}

void request_flow::handle(const not_picked& e, instant now, actions& out) { fail(e.error, now, out); }

void request_flow::handle(const turn_came&, instant, actions& out) {
  if (state_ == state::deciding) out.push_back({.kind = action_kind::decide});
}

void request_flow::handle(picked&& e, instant now, actions& out) {
  if (state_ != state::deciding) return;
  plan_ = std::move(e.chosen);
  assert(!plan_.candidates.empty());
  record_.by = plan_.by;
  record_.chosen = plan_.why;
  record_.prompt_blocks = plan_.prompt_blocks;
  record_.split = plan_.split;
  record_.dispatched = now;
  attempt_ = 0;
  try_target(false, now, out);
}

void request_flow::try_target(bool fresh, instant now, actions& out) {
  const candidate& to = target();
  begin_answer();
  ++record_.attempts;
  record_.hit_blocks = to.hit_blocks;
  record_.predicted_cached = to.hit_tokens;
  record_.score = to.score;
  record_.queue_tokens = to.queue_tokens;
  record_.in_flight = to.requests;
  deadlines_.connect = after(now, settings_.timeouts.connect);
  deadlines_.between_events = duration{};
  deadlines_.prefill_done = never;
  if (facts_->stream) {
    deadlines_.first_token = after(record_.body_done, settings_.timeouts.first_token);
    if (scanned()) deadlines_.keepalive = after(now, settings_.timeouts.sse_keepalive);
  }
  if (to.prefill) ask_prefill(out);
  if (prefill_ != nullptr && !concurrent()) return;
  state_ = state::connecting;
  out.push_back({.kind = action_kind::connect, .flag = fresh || to.endpoint == doubted_});
}

// Nothing of an answer is there yet; what was kept of another one is forgotten.
void request_flow::begin_answer() {
  head_ = nullptr;
  held_.clear();
  first_token_told_ = delivered_ = unread_ = held_back_[0] = held_back_[1] = asked_one_ = false;
  scanner_ = http::sse_scanner(record_.api, settings_.limits.event_bytes);
  reader_ = http::answer_reader(record_.api);
  record_.content_events = 0;
  gate_ = {};
  deadlines_.gate = deadlines_.proof = never;
}

// The next candidate without an engine that failed this request already.
std::uint32_t request_flow::next_index() const {
  std::uint32_t i = attempt_ + 1;
  while (i < plan_.candidates.size() && !may_ask(plan_.candidates[i])) ++i;
  return i;
}

void request_flow::next_candidate(instant now, actions& out) {
  const auto all = plan_.candidates.begin();
  const std::uint32_t next = next_index();
  std::rotate(all + attempt_ + 1, all + next, all + next + 1);  // who was passed over may be asked later
  ++attempt_;
  stale_retry_ = fresh_prefill_ = false;
  try_target(false, now, out);
}

// --- the engine is asked ----------------------------------------------------------------------------

void request_flow::handle(const engine_connected& e, instant now, actions& out) {
  if (e.of == leg::prefill)
    return take_prefill(prefill_ ? prefill_->on(e) : prefill_outcome::none, nullptr, reason::ok, now, out);
  if (state_ != state::connecting) return;
  has_engine_ = true;
  reused_ = e.reused;
  deadlines_.connect = never;
  if (prefill_ != nullptr && !may_decode(now, out)) return;
  state_ = state::waiting;
  booked_ = true;
  ask(leg::answer, now, out);
}

void request_flow::handle(const engine_unreachable& e, instant now, actions& out) {
  if (e.of == leg::prefill)
    return take_prefill(prefill_ ? prefill_->on(e) : prefill_outcome::none, nullptr, e.why, now, out);
  if (state_ != state::connecting) return;
  deadlines_.connect = never;
  if (was_asked(leg::answer)) {
    count_death(leg::answer);
    settle_doubt(leg::answer);
  }
  if (e.why != reason::internal) report(fault::unreachable, out);
  // Nothing was sent, so the first failover is free; after that an outage must not multiply.
  const bool may = !failed_over_ || budget_.take();
  failed_over_ = true;
  if (prefill_ != nullptr && !doubted_ && deaths_ < 2 && may && next_decode(now, out)) return;
  partner_cut(leg::answer);
  if (prefill_ != nullptr) release_prefill(out);
  if (e.why != reason::internal) avoid(target().endpoint);
  if (has_next() && deaths_ < 2 && may) return next_candidate(now, out);
  fail(describe(e.why), now, out);
}

void request_flow::handle(const request_sent& e, instant now, actions& out) {
  if (record_.sent == instant{}) record_.sent = now;
  if (e.of == leg::prefill && prefill_ != nullptr) prefill_->on(e);
  if (e.of != leg::answer) return;
  if (prefill_ != nullptr && now >= delivery_deadline()) return handoff_late(now, out);
  delivered_ = true;
}

bool request_flow::scanned() const {
  switch (record_.api) {
    case api_kind::chat:
    case api_kind::completions:
    case api_kind::responses:
    case api_kind::messages: return true;
    default: return false;
  }
}

void request_flow::handle(const engine_head& e, instant now, actions& out) {
  if (e.of == leg::prefill) {
    const auto what = prefill_ ? prefill_->on(e, now) : prefill_outcome::none;
    note_lease();
    return take_prefill(what, e.head, reason::ok, now, out);
  }
  if (state_ != state::waiting) return;
  head_ = e.head;
  if (record_.first_byte == instant{}) record_.first_byte = now;
  const int status = head_->status;
  const bool overloaded = status == 429 || status == 503;
  // After a hand-off 500 is what vLLM answers when it could not load the blocks: another pair may.
  const bool handed_badly = prefill_ != nullptr && status >= 500 && !overloaded;
  if (overloaded || status >= 500) report(overloaded ? fault::overloaded : fault::server_error, out);
  if (overloaded || handed_badly) {
    if (handed_badly) {
      handoff_refused(out);
    } else if (prefill_ != nullptr) {
      decode_lost();
    } else {
      avoid(target().endpoint);
    }
    if (deaths_ != 0) doubt_partner(leg::answer);
    if (has_next() && budget_.take()) {
      release_engine(false, out);
      return next_candidate(now, out);
    }
  }
  note_unread(status);
  // A leg that failed cancels the other, and what it says is no secret of the hand-off.
  if (status != 200 && gated()) release_prefill(out);
  take_answer_head(now, out);
}

void request_flow::take_answer_head(instant now, actions& out) {
  const int status = head_->status;
  if (status == 200 && scanned() && http::is_event_stream(*head_) && !is_encoded(*head_)) {
    state_ = state::holding;
    return;
  }
  // A keep-alive comment made this an SSE answer already: the engine's own answer has no place in it.
  if (head_sent_)
    return break_stream(describe(status < 400 ? reason::engine_garbage : reason_of_status(status)), now, out);
  state_ = state::relaying;
  if (gated()) return;
  begin_relay(now);
}

void request_flow::begin_relay(instant now) {
  const int status = head_->status;
  reframed_ = status == 200 && corrects_usage();
  deadlines_.first_token = never;
  deadlines_.keepalive = never;
  deadlines_.last_event = now;
  deadlines_.between_events =
      status < 400 && !facts_->stream ? duration{} : settings_.timeouts.between_events;
}

void request_flow::handle(const engine_bytes& e, instant now, actions& out) {
  if (e.of == leg::prefill) [[unlikely]]
    return take_prefill(prefill_ ? prefill_->on(e) : prefill_outcome::none, nullptr, reason::engine_garbage,
                        now, out);
  switch (state_) {
    case state::holding:
    case state::streaming: return scan(e.body, now, out);
    case state::relaying:
      if (gated()) [[unlikely]]
        return hold_relayed(e.body, now, out);
      return relay(e.body, now, out);
    default: return;
  }
}

void request_flow::relay(bytes_view body, instant now, actions& out) {
  if (!committed_) {
    note_commit();
    begin_stream(out);
    deadlines_.between_events = settings_.timeouts.between_events;
  }
  deadlines_.last_event = now;
  reader_.feed(body);
  if (corrects_usage() && head_->status == 200) return relay_corrected(body, out);
  out.push_back({.kind = action_kind::write, .bytes = body});
}

void request_flow::handle(const engine_end& e, instant now, actions& out) {
  if (e.of == leg::prefill)
    return take_prefill(prefill_ ? prefill_->on(e) : prefill_outcome::none, nullptr, reason::engine_garbage,
                        now, out);
  if (gated() && hold_end(now)) return;
  if (state_ == state::holding || state_ == state::streaming) return end_stream(now, out);
  if (state_ == state::relaying) return end_relay(now, out);
}

// --- ends -------------------------------------------------------------------------------------------

void request_flow::end_stream(instant now, actions& out) {
  if (scanner_.finish()) take_event({scanner_.tail(), http::event_kind::end_marker}, {}, now, out);
  if (!scanner_.ended() && !scanner_.error_seen()) {
    if (!committed_) return lost_before_commit(fault::reset, reason::engine_no_end_marker, now, out);
    report(fault::reset, out);
    return break_stream(describe(reason::engine_no_end_marker), now, out);
  }
  end_as_said(true, now, out);
}

void request_flow::end_as_said(bool reusable, instant now, actions& out) {
  const reason why = reason_of_end();
  if (why != reason::ok) report(fault::server_error, out);
  complete(why, reusable, now, out);
}

// The engine's end marker or its own error event was passed on: nothing may follow it.
bool request_flow::said_all() const {
  return state_ == state::streaming && (scanner_.ended() || scanner_.error_seen());
}

reason request_flow::reason_of_end() const {
  return scanner_.error_seen() || scanner_.end_is_failure() ? reason::engine_error_event : reason::ok;
}

void request_flow::end_relay(instant now, actions& out) {
  if (prefill_ != nullptr && head_->status == 200) close_lease(handoff::closing::fetched);
  committed_ = true;
  begin_stream(out);
  release_usage(out);
  reader_.finish();
  complete(reason_of_status(head_->status), true, now, out);
}

void request_flow::complete(reason why, bool reusable, instant now, actions& out) {
  record_.usage = true_usage(state_ == state::relaying ? reader_.usage() : scanner_.usage());
  record_.events = scanner_.events();
  record_.oversized_events = scanner_.oversized();
  record_.why = why;
  record_.ended = now;
  if (unread_) return free_unread(reusable, now, out);
  state_ = state::done;
  out.push_back({.kind = action_kind::end_answer});
  if (booked_) {
    booked_ = false;
    out.push_back({.kind = why == reason::ok ? action_kind::complete_work : action_kind::give_up_work});
  }
  release_engine(reusable, out);
  out.push_back({.kind = action_kind::finish});
}

void request_flow::break_stream(api_error error, instant now, actions& out) {
  error_ = std::move(error);
  const http::stream_tail tail{scanner_.response_id(), scanner_.next_sequence()};
  record_.why = error_.why;
  record_.usage = scanner_.usage();
  record_.events = scanner_.events();
  record_.oversized_events = scanner_.oversized();
  record_.ended = now;
  release_engine(false, out);
  // Behind half an event nothing can be said that a client would read as an event of its own.
  if (scanned() && state_ != state::relaying && !scanner_.inside_oversized()) {
    const std::string& text =
        kept_.emplace_back(http::error_event(dialect_of(record_.api), error_, record_.request_id, tail));
    out.push_back({.kind = action_kind::write, .bytes = text});
    out.push_back({.kind = action_kind::end_answer});
  } else {
    out.push_back({.kind = action_kind::abort_answer});
  }
  state_ = state::done;
  out.push_back({.kind = action_kind::finish});
}

void request_flow::fail(api_error error, instant now, actions& out) {
  if (said_all()) return end_as_said(false, now, out);
  if (head_sent_) return break_stream(std::move(error), now, out);
  error_ = std::move(error);
  record_.why = error_.why;
  record_.status = static_cast<std::uint16_t>(http::status_of(error_));
  record_.ended = now;
  release_engine(false, out);
  state_ = state::done;
  out.push_back({.kind = action_kind::answer_error});
  out.push_back({.kind = action_kind::finish});
}

void request_flow::release_engine(bool reusable, actions& out) {
  if (booked_) {
    booked_ = false;
    out.push_back({.kind = action_kind::give_up_work});
  }
  if (prefill_ != nullptr) release_prefill(out);
  const bool connecting = state_ == state::connecting;
  if (has_engine_ || connecting)
    out.push_back({.kind = reusable ? action_kind::keep_engine : action_kind::drop_engine});
  if (connecting) state_ = state::deciding;
  has_engine_ = false;
  head_ = nullptr;
}

void request_flow::report(fault f, actions& out, leg of) {
  fault_ = f;
  out.push_back({.kind = action_kind::engine_failed, .of = of, .engine = engine_of(of)});
}

void request_flow::lost_before_commit(fault how, reason why, instant now, actions& out) {
  const bool nothing_came = head_ == nullptr;
  const bool stale = reused_ && nothing_came && how == fault::reset && !stale_retry_;
  if (!stale) report(how, out);
  // A hand-off is used up by its first byte: the retry of a stale connection begins with a new prefill.
  if (prefill_ != nullptr && stale) close_lease(handoff::closing::lapsed);
  if (!stale) settle_doubt(leg::answer);
  if (prefill_ != nullptr && !stale) decode_lost();
  if (!stale) avoid(target().endpoint);
  release_engine(false, out);
  if (stale) {
    // The engine closed an idle connection while our request was on its way (its keep-alive ended).
    // The same engine still holds the prefix: ask it again on a new connection.
    stale_retry_ = true;
    if ((deaths_ != 0 || unsure_) && target().prefill && concurrent()) doubted_ = target().endpoint;
    return try_target(true, now, out);
  }
  count_death(leg::answer);
  if (has_next() && deaths_ < 2 && budget_.take()) return next_candidate(now, out);
  fail(describe(why), now, out);
}

void request_flow::handle(const engine_lost& e, instant now, actions& out) {
  if (e.of == leg::prefill)
    return take_prefill(prefill_ ? prefill_->on(e) : prefill_outcome::none, nullptr,
                        e.garbage ? reason::engine_garbage : reason::engine_reset, now, out);
  const fault how = e.garbage ? fault::garbage : fault::reset;
  switch (state_) {
    case state::waiting:
    case state::holding:
    case state::streaming:
    case state::relaying: break;
    default: return;
  }
  if (gate_.whole) return answer_lost(now, out);
  garbage_ = e.fault;
  if (!committed_)
    return lost_before_commit(how, e.garbage ? reason::engine_garbage : reason::engine_reset, now, out);
  // Everything the engine had to say was said: only its framing is missing.
  if (said_all()) return end_as_said(false, now, out);
  report(how, out);
  break_stream(describe(e.garbage ? reason::engine_garbage : reason::engine_cut), now, out);
}

void request_flow::handle(const client_gone& e, instant now, actions& out) {
  // SDKs hang up once they read the end marker; only the engine's framing is missing then.
  if (e.why == reason::client_gone && scanner_.ended() && !gated())
    return complete(reason_of_end(), false, now, out);
  record_.why = e.why;
  record_.ended = now;
  record_.usage = scanner_.usage();
  record_.events = scanner_.events();
  record_.oversized_events = scanner_.oversized();
  if (unread_) return free_unread(false, now, out);
  if (between_legs()) return begin_closing(now, out);
  if (answer_may_cross()) {
    begin_closing(now, out);
    hung_up_ = true;
    return out.push_back({.kind = action_kind::hang_up, .of = leg::prefill});
  }
  release_engine(false, out);
  state_ = state::done;
  out.push_back({.kind = action_kind::abort_answer});
  out.push_back({.kind = action_kind::finish});
}

void request_flow::handle(const client_blocked&, instant, actions& out) {
  client_lags_ = true;
  if (!has_engine_) return;
  // The engine is not late while we do not read from it.
  deadlines_.between_events = duration{};
  out.push_back({.kind = action_kind::pause_engine});
}

void request_flow::handle(const client_drained&, instant now, actions& out) {
  client_lags_ = false;
  if (!has_engine_ || gate_.full) return;
  deadlines_.last_event = now;
  if (committed_ && (state_ == state::relaying || record_.first_token != instant{}))
    deadlines_.between_events = settings_.timeouts.between_events;
  out.push_back({.kind = action_kind::resume_engine});
}

// --- time -------------------------------------------------------------------------------------------

void request_flow::handle(const timer&, instant now, actions& out) {
  if (now >= deadlines_.total) {
    // An answer that comes is only long, or its client slow; a silent engine has a deadline of its own.
    if (has_engine_ && !committed_) report(fault::timeout, out);
    if (prefill_ != nullptr && prefill_->booked()) report(fault::timeout, out, leg::prefill);
    decode_silent();
    return fail(describe(reason::total_timeout), now, out);
  }
  if (state_ == state::connecting && now >= deadlines_.connect) {
    out.push_back({.kind = action_kind::drop_engine});
    return handle(engine_unreachable{reason::connect_timeout}, now, out);
  }
  if (prefill_ != nullptr && now >= delivery_deadline()) return handoff_late(now, out);
  if (prefill_ != nullptr && now >= prefill_->deadline()) {
    const engine_unreachable late{reason::connect_timeout, leg::prefill};
    out.push_back({.kind = action_kind::drop_engine, .of = leg::prefill});
    return handle(late, now, out);
  }
  if (now >= deadlines_.proof) return proven(now, out);
  if (now >= deadlines_.gate) return gate_late(now, out);
  if (now >= deadlines_.first_token) {
    // Who got the request late, after it waited here or behind another that failed, had no time to fail.
    const bool had_time = now - record_.engine_asked >= settings_.timeouts.first_token / 2;
    if (has_engine_ && had_time && !said_all()) report(fault::timeout, out);
    if (prefill_ != nullptr && prefill_->booked()) report(fault::timeout, out, leg::prefill);
    decode_silent();
    return fail(describe(reason::first_token_timeout), now, out);
  }
  if (now >= deadlines_.next_event()) {
    if (said_all()) return end_as_said(false, now, out);
    report(fault::timeout, out);
    return fail(describe(reason::event_timeout), now, out);
  }
  if (now >= deadlines_.prefill_done) {
    deadlines_.prefill_done = never;
    if (booked_ && !first_token_told_) {
      first_token_told_ = true;
      out.push_back({.kind = action_kind::first_token, .flag = false});
    }
  }
  check_keepalive(now, out);
}

void request_flow::check_keepalive(instant now, actions& out) {
  if (now < deadlines_.keepalive) return;
  deadlines_.keepalive = now + settings_.timeouts.sse_keepalive;
  // Only an engine that already answered 200 with a stream makes it sure that the answer will be one.
  if (state_ != state::holding || gated()) return;
  begin_stream(out);
  out.push_back({.kind = action_kind::write, .bytes = ": waiting for the first token\n\n"});
}

void request_flow::handle(const drain_now&, instant now, actions& out) {
  fail(describe(reason::drain_deadline), now, out);
}

api_error request_flow::describe(reason why) const {
  const reason_traits& t = traits(why);
  api_error e;
  e.why = why;
  e.message = [&]() -> std::string {
    switch (why) {
      case reason::connect_failed: return "No engine for this model accepted a connection.";
      case reason::internal: return "This proxy has no descriptor, port or memory left to ask an engine.";
      case reason::connect_timeout: return "No engine for this model accepted a connection in time.";
      case reason::engine_reset: return "The engine closed the connection before it answered.";
      case reason::engine_garbage:
        return fmt::format("The engine's answer is not valid HTTP{}{}.", garbage_.empty() ? "" : ": ",
                           garbage_);
      case reason::engine_cut: return "The engine's connection broke inside the answer.";
      case reason::engine_no_end_marker: return "The engine ended its stream without an end marker.";
      case reason::handoff_failed: return "The prefill engine handed nothing on to a decode engine.";
      case reason::handoff_late: return "The hand-off to the decode engine took too long.";
      case reason::first_token_timeout: return "The engine produced no token in time.";
      case reason::event_timeout: return "The engine fell silent inside the answer.";
      case reason::total_timeout: return "The answer took longer than is allowed.";
      case reason::drain_deadline: return "This replica is shutting down and could not finish the answer.";
      case reason::engine_overloaded: return "Every engine that was asked is overloaded.";
      case reason::engine_error:
      case reason::engine_refused: return "The engine that was asked last answered with an error.";
      default: return std::string("The request could not be served (") + std::string(t.name) + ").";
    }
  }();
  e.message += ' ';
  e.message += static_cast<char>(t.advice.front() - 'a' + 'A');
  e.message += t.advice.substr(1);
  e.message += '.';
  if (http::status_of(e) == 503) e.retry_after_s = 1;
  return e;
}

}  // namespace penstock::flow
