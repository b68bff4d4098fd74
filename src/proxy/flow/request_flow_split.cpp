// Two engines for one request: what the prefill leg's outcomes mean, when the decode leg may start, and how a
// hand-off is closed that nobody waits for any more.
#include <algorithm>
#include <utility>

#include "proxy/flow/request_flow.hpp"
#include "proxy/handoff/whole_answer.hpp"
#include "proxy/http/cached_tokens.hpp"

namespace penstock::flow {
namespace {

using handoff::closing;

// A prefill answer names every block of the prompt and, with some engines, every token: 8 MiB are a million
// of each.
constexpr std::size_t most_answer_bytes = std::size_t{8} << 20;
// How long a hand-off may take to be delivered for a client that left.
constexpr duration longest_closing = std::chrono::seconds(5);
// What answer_reader reads of a usage object; a longer one passes as it is.
constexpr std::size_t longest_usage = 4096;

}  // namespace

// --- the prefill leg --------------------------------------------------------------------------------

void request_flow::ask_prefill(actions& out) {
  const candidate& to = target();
  const duration lease = plan_.lease.count() != 0 ? plan_.lease : handoff::row(plan_.connector).lease;
  prefill_ = std::make_unique<prefill_leg>(plan_.connector, record_.api, to.prefill, to.endpoint, lease,
                                           most_answer_bytes, book_);
  prefill_->connect_by(concurrent() ? deadlines_.connect : std::exchange(deadlines_.connect, never));
  record_.handoff = {};
  record_.prefill_done = instant{};
  record_.transfer_expected = to.transfer_seconds;
  state_ = state::prefilling;
  const bool fresh = fresh_prefill_ || to.prefill == doubted_;
  out.push_back({.kind = action_kind::connect, .flag = fresh, .of = leg::prefill});
}

void request_flow::take_prefill(prefill_outcome what, const http::response_head* head, reason why,
                                instant now, actions& out) {
  switch (what) {
    case prefill_outcome::none: return;
    case prefill_outcome::connected: return ask(leg::prefill, now, out);
    case prefill_outcome::unreachable: {
      if (was_asked(leg::prefill)) {
        count_death(leg::prefill);
        settle_doubt(leg::prefill);
      } else {
        partner_cut(leg::prefill);
      }
      const bool may = deaths_ < 2 && (!failed_over_ || budget_.take());
      failed_over_ = true;
      return prefill_failed(why == reason::internal ? fault::none : fault::unreachable, why, may, now, out);
    }
    case prefill_outcome::refused: return prefill_refused(*head, now, out);
    case prefill_outcome::stale:
      drop_prefill(out);
      if (concurrent()) {
        if (deaths_ != 0 || unsure_) doubted_ = prefill_->endpoint();
        // Its partner was told of a hand-off that nobody will do.
        release_engine(false, out);
        fresh_prefill_ = true;
        return try_target(stale_retry_, now, out);
      }
      prefill_->try_again(after(now, settings_.timeouts.connect));
      out.push_back({.kind = action_kind::connect, .flag = true, .of = leg::prefill});
      return;
    case prefill_outcome::died:
      count_death(leg::prefill);
      settle_doubt(leg::prefill);
      drop_prefill(out);
      return prefill_failed(why == reason::engine_garbage ? fault::garbage : fault::reset, why,
                            deaths_ < 2 && budget_.take(), now, out);
    case prefill_outcome::failed:
      drop_prefill(out);
      note_failed_pair(out);
      return prefill_failed(fault::server_error, reason::handoff_failed, budget_.take(), now, out);
    case prefill_outcome::handed:
    case prefill_outcome::no_params: return prefill_ended(now, out);
    case prefill_outcome::finished: return prefill_finished(now, out);
  }
}

// The leg's work and connection, before anything else is decided.
void request_flow::drop_prefill(actions& out) {
  out.push_back({.kind = action_kind::give_up_work, .of = leg::prefill});
  out.push_back({.kind = action_kind::drop_engine, .of = leg::prefill});
}

// Another pair, then one place: the candidates' order.
void request_flow::prefill_failed(fault how, reason why, bool may, instant now, actions& out) {
  if (how != fault::none) report(how, out, leg::prefill);
  avoid(prefill_->endpoint());
  if (deaths_ != 0) doubt_partner(leg::prefill);
  release_engine(false, out);
  if (may && has_next()) return next_candidate(now, out);
  fail(describe(why), now, out);
}

void request_flow::note_failed_pair(actions& out) {
  failed_pair_ = {engine_of(leg::prefill), engine_of(leg::answer)};
  out.push_back({.kind = action_kind::pair_failed});
}

// 4xx is the client's answer, unchanged; an engine that is overloaded or broken may have a better neighbour.
void request_flow::prefill_refused(const http::response_head& head, instant now, actions& out) {
  // Of an answer of some other kind this leg has one token at most, and not the one that the client asked for.
  if (head.status < 400)
    return prefill_failed(fault::server_error, reason::handoff_failed, budget_.take(), now, out);
  const bool overloaded = head.status == 429 || head.status == 503;
  if (overloaded || head.status >= 500) {
    report(overloaded ? fault::overloaded : fault::server_error, out, leg::prefill);
    // An engine whose answer waits for the transfer says by it that the transfer failed.
    if (!overloaded && handoff::row(plan_.connector).answers_once_fetched) note_failed_pair(out);
    avoid(prefill_->endpoint());
    if (deaths_ != 0) doubt_partner(leg::prefill);
    if (has_next() && budget_.take()) {
      release_engine(false, out);
      return next_candidate(now, out);
    }
  }
  adopt_prefill(out);
  head_ = &head;
  take_answer_head(now, out);
}

// The prefill engine's answer becomes the answer: no other engine was asked.
void request_flow::adopt_prefill(actions& out) {
  prefill_.reset();
  if (concurrent()) release_answer(out);
  candidate& to = plan_.candidates[attempt_];
  to.endpoint = std::exchange(to.prefill, endpoint_id{});
  out.push_back({.kind = action_kind::adopt_prefill});
  has_engine_ = booked_ = true;
  state_ = state::waiting;
}

// Its first token ended the answer: what the prefill engine said is all that the client waits for, be it as a
// stream.
void request_flow::prefill_finished(instant now, actions& out) {
  record_.prefill_done = now;
  close_lease(closing::complete);
  const http::response_head* head = prefill_->head();
  const std::string said = prefill_->take_answer();
  const bool wants_usage = inject_usage_ || facts_->client_wants_usage;
  std::string events = facts_->stream ? handoff::answer_as_events(record_.api, said, wants_usage) : "";
  adopt_prefill(out);
  head_ = head;
  record_.first_byte = now;
  reframed_ = true;
  if (events.empty()) {
    const std::string& plain = kept_.emplace_back(handoff::plain_answer(said));
    state_ = state::relaying;
    handle(engine_bytes{plain}, now, out);
    return end_relay(now, out);
  }
  as_events_ = true;
  state_ = state::holding;
  scan(kept_.emplace_back(std::move(events)), now, out);
  end_stream(now, out);
}

void request_flow::prefill_ended(instant now, actions& out) {
  record_.prefill_done = now;
  const bool handed = prefill_->where() == prefill_state::handed;
  out.push_back({.kind = action_kind::complete_work, .of = leg::prefill, .engine = prefill_->endpoint()});
  out.push_back({.kind = action_kind::keep_engine, .of = leg::prefill});
  if (!handed) {
    // The engine did not hand on what it computed. Where decode engines prefill as well, that is what is
    // left.
    if (!traits(plan_.connector).decode_serves_alone)
      return prefill_failed(fault::none, reason::handoff_failed, budget_.take(), now, out);
    plan_.candidates[attempt_].prefill = {};
    const bool asked = concurrent();
    release_engine(false, out);
    if (asked) return try_target(stale_retry_, now, out);
  }
  if (prefill_ != nullptr && concurrent()) {
    if (handoff::row(plan_.connector).answers_once_fetched) close_lease(closing::fetched);
    return open_gate(now, out);
  }
  deadlines_.connect = after(now, settings_.timeouts.connect);
  state_ = state::connecting;
  out.push_back({.kind = action_kind::connect, .flag = stale_retry_});
}

void request_flow::release_prefill(actions& out) {
  if (prefill_ == nullptr) return;
  if (prefill_->booked()) out.push_back({.kind = action_kind::give_up_work, .of = leg::prefill});
  if (prefill_->has_connection()) out.push_back({.kind = action_kind::drop_engine, .of = leg::prefill});
  // What went into an idle connection that was dead reached nobody.
  const bool read = delivered_ && !unread_ && (head_ != nullptr || !reused_);
  close_lease(read ? closing::cut : prefill_->lease().spent() ? closing::lapsed : closing::expired);
  prefill_.reset();
  held_back_[static_cast<std::size_t>(leg::prefill)] = false;
}

void request_flow::close_lease(closing how) {
  if (!prefill_->lease()) return;
  prefill_->lease().close(how);
  record_.handoff = name(how);
}

// --- the decode leg ---------------------------------------------------------------------------------

// A connection to the decode engine stands. Real engines answer a late read with 200 and other text, so a
// hand-off that is too old is not used, but done anew.
bool request_flow::may_decode(instant now, actions& out) {
  if (concurrent() && !prefill_->lease()) return true;  // both were asked a moment ago
  if (prefill_->lease().fresh(now)) {
    prefill_->lease().spend();
    return true;
  }
  handoff_late(now, out);
  return false;
}

// Of a decode request whose first byte was written: the moment from which it would be read too late.
instant request_flow::delivery_deadline() const {
  return prefill_->lease().spent() && !delivered_ ? prefill_->lease().latest() : never;
}

void request_flow::handoff_late(instant now, actions& out) {
  release_engine(false, out);
  if (budget_.take()) return try_target(false, now, out);
  fail(describe(reason::handoff_late), now, out);
}

// The decode engine has the request and let a deadline pass. It may hang, and then nobody tells the prefill
// engine that the blocks are not wanted: with every connector they are held until the lease ends.
void request_flow::decode_silent() {
  const bool generates = state_ != state::waiting && state_ != state::holding;
  if (prefill_ != nullptr && delivered_ && !generates) close_lease(closing::lapsed);
}

// The decode engine cannot be reached, and nothing was said to it: another one may read the same blocks.
bool request_flow::next_decode(instant now, actions& out) {
  avoid(target().endpoint);
  const bool usable = prefill_->lease() ? prefill_->lease().fresh(now) : concurrent();
  if (!usable) return false;
  for (std::uint32_t i = attempt_ + 1; i < plan_.candidates.size(); ++i) {
    const candidate& c = plan_.candidates[i];
    if (!may_ask(c) || !(c.prefill == prefill_->endpoint())) continue;
    std::swap(plan_.candidates[attempt_ + 1], plan_.candidates[i]);
    ++attempt_;
    ++record_.attempts;
    deadlines_.connect = after(now, settings_.timeouts.connect);
    out.push_back({.kind = action_kind::connect, .flag = state_ == state::closing});
    send_held_back(leg::prefill, now, out);
    if (was_asked(leg::prefill)) asked_first(now);
    return true;
  }
  return false;
}

// A plan with pairs may name an engine in several, and alone.
void request_flow::avoid(endpoint_id engine) {
  const bool known = std::find(failed_.begin(), failed_.end(), engine) != failed_.end();
  if (!known && !failed_.full()) failed_.push_back(engine);
}

// Not an engine that failed this request, nor another before it is known whether it killed the doubted one,
// nor for a hand-off one that another hand-off failed with.
bool request_flow::may_ask(const candidate& c) const {
  const auto among = [](const auto& list, endpoint_id id) {
    return std::find(list.begin(), list.end(), id) != list.end();
  };
  if (among(failed_, c.endpoint)) return false;
  if (doubted_ && c.endpoint != doubted_ && c.prefill != doubted_) return false;
  if (!c.prefill) return true;
  return !among(failed_, c.prefill) && !among(unpaired_, c.endpoint) && !among(unpaired_, c.prefill);
}

// Its parameters are used up, whatever became of them. An engine that has not read the request, or died, told
// nobody that the blocks are not wanted.
void request_flow::decode_lost() {
  avoid(target().endpoint);
  close_lease(closing::lapsed);
}

// The decode engine answered, but not with what was handed to it: most likely it could not load the blocks.
// Neither engine is asked for a hand-off again; the request may be done anew by the decode engine alone.
void request_flow::handoff_refused(actions& out) {
  note_failed_pair(out);
  // Where nobody decodes without a hand-off, another decode engine may still take one from there.
  if (traits(plan_.connector).decode_serves_alone) unpaired_.push_back(failed_pair_.first);
  unpaired_.push_back(failed_pair_.second);
  close_lease(delivered_ ? closing::cut : closing::lapsed);
}

// vLLM tells of blocks that it could not load by an error event where its 200 is out already. Nothing was
// said to the client, so others may serve; without any the event passes.
bool request_flow::refused_in_stream(const http::scanned_event& ev, instant now, actions& out) {
  if (ev.kind != http::event_kind::error || committed_) return false;
  report(fault::server_error, out);
  handoff_refused(out);
  if (!has_next() || !budget_.take()) {
    // What was held is worth nothing; the error is the answer.
    if (gated()) {
      release_prefill(out);
      held_.clear();
      gate_ = {};
      deadlines_.gate = never;
      record_.content_events = 0;
    }
    return false;
  }
  release_engine(false, out);
  next_candidate(now, out);
  return true;
}

// Decode engines count what was handed to them as cached, or as nothing; how much of the prompt really came
// from a cache the prefill engine knows.
bool request_flow::corrects_usage() const {
  return prefill_ != nullptr && prefill_->cached_known() && settings_.server.usage == usage_mode::inject;
}

bytes_view request_flow::correct_usage(bytes_view text) {
  const bool told = corrects_usage() && scanner_.usage().cached_known;
  return told && http::correct_cached(record_.api, text, prefill_->cached_tokens(), edited_) ? edited_ : text;
}

// The same of an answer that is not streamed: it passes as it comes, but its usage is held until it is whole.
void request_flow::relay_corrected(bytes_view body, actions& out) {
  const http::answer_reader::usage_place at = reader_.usage_in_last();
  const auto write = [&out](bytes_view bytes) {
    if (!bytes.empty()) out.push_back({.kind = action_kind::write, .bytes = bytes});
  };
  if (at.begin == bytes_view::npos && held_.empty()) return write(body);
  std::size_t from = 0;
  if (at.begin != bytes_view::npos) {
    release_usage(out);
    write(body.substr(0, at.begin));
    from = at.begin;
  }
  held_.append(body.substr(from, at.end - from));
  const bool ended = at.end != bytes_view::npos, read = held_.size() <= longest_usage;
  if (!ended && read) return;
  if (ended && read && http::correct_cached(record_.api, held_, prefill_->cached_tokens(), edited_))
    held_.swap(edited_);
  release_usage(out);
  if (ended) write(body.substr(at.end));
}

void request_flow::release_usage(actions& out) {
  if (held_.empty()) return;
  out.push_back({.kind = action_kind::write, .bytes = kept_.emplace_back(std::exchange(held_, {}))});
}

token_usage request_flow::true_usage(token_usage told) const {
  if (prefill_ != nullptr && prefill_->cached_known() && told.known) {
    told.cached = prefill_->cached_tokens();
    told.cached_known = true;
  }
  return told;
}

// --- a client that left between the legs ----------------------------------------------------------------

// A decode request would free what the prefill engine holds for us, and none was delivered yet.
bool request_flow::freed_by_delivery() const {
  return prefill_ != nullptr && !delivered_ && !committed_ && handoff::row(plan_.connector).freed_by_delivery;
}

// From the first byte of the prefill answer on the engine holds blocks, until a decode request was delivered.
bool request_flow::between_legs() const {
  if (!freed_by_delivery()) return false;
  return prefill_->where() == prefill_state::reading || prefill_->where() == prefill_state::handed;
}

// The prefill engine is to stop at once. Should it have answered already, on the way or in the moment before
// it notices, its blocks are freed like those of any other answer. With both legs at once the decode engine
// frees them.
bool request_flow::answer_may_cross() const {
  return freed_by_delivery() && !concurrent() && prefill_->may_answer();
}

void request_flow::begin_closing(instant now, actions& out) {
  closing_connect_ = state_ == state::connecting;
  state_ = state::closing;
  const instant connect = deadlines_.connect;
  deadlines_ = {};
  if (closing_connect_) deadlines_.connect = connect;
  deadlines_.total = now + longest_closing;
  if (std::exchange(held_back_[0], false)) out.push_back({.kind = action_kind::send_request});
}

void request_flow::close_handoff(const event& e, instant now, actions& out) {
  if (std::holds_alternative<drain_now>(e)) return end_closing(closing::expired, out);
  if (std::holds_alternative<timer>(e)) {
    if (now >= delivery_deadline()) return end_closing(closing::lapsed, out);
    if (now >= deadlines_.total) return end_closing(closing::expired, out);
    if (!closing_connect_ || now < deadlines_.connect) return;
    out.push_back({.kind = action_kind::drop_engine});
    return close_unreachable(now, out);
  }
  if (leg_of(e) == leg::prefill) {
    prefill_outcome what = prefill_outcome::none;
    if (const auto* head = std::get_if<engine_head>(&e)) what = prefill_->on(*head, now);
    if (const auto* bytes = std::get_if<engine_bytes>(&e)) what = prefill_->on(*bytes);
    if (const auto* end = std::get_if<engine_end>(&e)) what = prefill_->on(*end);
    if (const auto* lost = std::get_if<engine_lost>(&e)) what = prefill_->on(*lost);
    return close_prefill(what, now, out);
  }
  if (const auto* there = std::get_if<engine_connected>(&e)) {
    reused_ = there->reused;
    return close_connected(now, out);
  }
  if (std::holds_alternative<engine_unreachable>(e)) return close_unreachable(now, out);
  if (std::holds_alternative<request_sent>(e)) {
    if (now >= delivery_deadline()) return end_closing(closing::lapsed, out);
    delivered_ = true;
    return end_closing(reused_ ? closing::lapsed : closing::delivered, out);
  }
  // The decode engine is gone, or answers before it read everything.
  if (std::holds_alternative<engine_lost>(e) || std::holds_alternative<engine_head>(e))
    end_closing(closing::lapsed, out);
}

void request_flow::close_connected(instant now, actions& out) {
  if (!closing_connect_) return;
  closing_connect_ = false;
  deadlines_.connect = never;
  has_engine_ = true;
  if (now >= prefill_->lease().latest()) return end_closing(closing::expired, out);
  prefill_->lease().spend();
  out.push_back({.kind = action_kind::send_request});
}

void request_flow::close_unreachable(instant now, actions& out) {
  closing_connect_ = next_decode(now, out);
  if (!closing_connect_) end_closing(closing::expired, out);
}

// The rest of the prefill answer, for its parameters alone.
void request_flow::close_prefill(prefill_outcome what, instant now, actions& out) {
  switch (what) {
    case prefill_outcome::handed:
    case prefill_outcome::no_params:
    case prefill_outcome::finished: return close_handed(what, now, out);
    case prefill_outcome::refused: return end_closing(closing::expired, out);
    case prefill_outcome::stale:
    case prefill_outcome::died:
    case prefill_outcome::failed:
      drop_prefill(out);
      return end_closing(prefill_->lease().spent() ? closing::lapsed : closing::expired, out);
    default: return;
  }
}

// It is whole.
void request_flow::close_handed(prefill_outcome what, instant now, actions& out) {
  record_.prefill_done = now;
  out.push_back({.kind = action_kind::complete_work, .of = leg::prefill, .engine = prefill_->endpoint()});
  out.push_back({.kind = hung_up_ ? action_kind::drop_engine : action_kind::keep_engine, .of = leg::prefill});
  if (what == prefill_outcome::finished) return end_closing(closing::complete, out);
  if (what == prefill_outcome::no_params) return end_closing(closing::expired, out);
  if (concurrent()) return;  // its partner was asked long ago
  connect_to_close(now, out);
}

// A 4xx is about what the client asks of the answer, such as more tokens than the model has: the prefill leg
// asked for one and was taken.
void request_flow::note_unread(int status) {
  const bool refused = status >= 400 && status < 500 && status != 429;
  unread_ = refused && prefill_ != nullptr && !concurrent() && prefill_->lease().spent() &&
            handoff::row(plan_.connector).bounds_prefill;
}

// The refusal is with the client but for its end. Meanwhile the same engine is asked for the least that makes
// it fetch the blocks, or they are held until the lease is over.
void request_flow::free_unread(bool reusable, instant now, actions& out) {
  if (std::exchange(booked_, false)) out.push_back({.kind = action_kind::give_up_work});
  out.push_back({.kind = reusable ? action_kind::keep_engine : action_kind::drop_engine});
  has_engine_ = delivered_ = unread_ = false;
  head_ = nullptr;
  end_due_ = true;
  begin_closing(now, out);
  connect_to_close(now, out);
}

void request_flow::connect_to_close(instant now, actions& out) {
  closing_connect_ = true;
  deadlines_.connect = after(now, settings_.timeouts.connect);
  // Nobody would see that an idle connection was dead.
  out.push_back({.kind = action_kind::connect, .flag = true});
}

void request_flow::end_closing(closing how, actions& out) {
  // What was sent is used up, though nobody read it.
  close_lease(how == closing::expired && prefill_->lease().spent() ? closing::lapsed : how);
  if (has_engine_ || closing_connect_) out.push_back({.kind = action_kind::drop_engine});
  has_engine_ = false;
  if (booked_) out.push_back({.kind = action_kind::give_up_work});
  booked_ = false;
  release_prefill(out);
  state_ = state::done;
  if (end_due_) out.push_back({.kind = action_kind::end_answer});
  out.push_back({.kind = action_kind::finish});
}

}  // namespace penstock::flow
