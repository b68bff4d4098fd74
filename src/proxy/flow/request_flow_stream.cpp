// How an SSE answer passes: what is held, what is dropped, when it is committed.
#include <algorithm>
#include <functional>
#include <utility>

#include "proxy/flow/request_flow.hpp"

namespace penstock::flow {
namespace {

bool is_inside(bytes_view part, bytes_view whole) {
  const std::less_equal<> le;
  return le(whole.data(), part.data()) && le(part.data() + part.size(), whole.data() + whole.size());
}

// Actions that may follow the writes of a batch.
constexpr std::size_t room_for_ends = 16;

}  // namespace

void request_flow::scan(bytes_view body, instant now, actions& out) {
  deadlines_.last_event = now;
  while (!body.empty()) {
    http::scanned_events found;
    const std::size_t used = scanner_.scan(body, found);
    for (const http::scanned_event& ev : found) {
      // The views end with the scanner, which a retry makes anew.
      if (prefill_ != nullptr && refused_in_stream(ev, now, out)) return;
      take_event(ev, body, now, out);
    }
    body.remove_prefix(used);
    if (used == 0) break;
  }
}

void request_flow::take_event(const http::scanned_event& ev, bytes_view input, instant now, actions& out) {
  using http::event_kind;
  // The first token may come in an event so large that it passes unread.
  const bool large_first =
      ev.kind == event_kind::piece && scanner_.first_token_seen() && record_.content_events == 0;
  if (ev.kind == event_kind::content || large_first) note_content(now, out);
  if (ev.kind == event_kind::usage_only && inject_usage_) return;
  if (gated()) [[unlikely]]
    return hold_event(ev, out);
  const bytes_view bytes = prefill_ == nullptr ? ev.bytes : correct_usage(ev.bytes);
  if (committed_) return pass(bytes, input, out);
  if (!opens(ev.kind)) return hold(bytes, out);
  commit(out);
  pass(bytes, input, out);
}

// Whether an event of that kind commits the answer.
bool request_flow::opens(http::event_kind kind) {
  using http::event_kind;
  return kind == event_kind::content || kind == event_kind::end_marker || kind == event_kind::error ||
         kind == event_kind::piece;
}

void request_flow::pass(bytes_view bytes, bytes_view input, actions& out) {
  if (!is_inside(bytes, input)) bytes = kept_.emplace_back(bytes);
  if (!out.empty()) {
    action& last = out.back();
    if (last.kind == action_kind::write && last.bytes.data() + last.bytes.size() == bytes.data() &&
        is_inside(last.bytes, input)) {
      last.bytes = bytes_view(last.bytes.data(), last.bytes.size() + bytes.size());
      return;
    }
    // An engine decides how many events lie between dropped ones: beyond the batch, pieces are joined.
    if (last.kind == action_kind::write && out.size() + room_for_ends > actions::capacity()) {
      const bool ours = !kept_.empty() && kept_.back().data() == last.bytes.data();
      std::string& joined = ours ? kept_.back() : kept_.emplace_back(last.bytes);
      joined.append(bytes);
      last.bytes = joined;
      return;
    }
  }
  out.push_back({.kind = action_kind::write, .bytes = bytes});
}

void request_flow::hold(bytes_view bytes, actions& out) {
  held_.append(bytes);
  if (held_.size() > settings_.limits.held_bytes) commit(out);
}

void request_flow::begin_stream(actions& out) {
  if (head_sent_) return;
  head_sent_ = true;
  record_.status = static_cast<std::uint16_t>(head_->status);
  out.push_back({.kind = action_kind::answer_head,
                 .flag = reframed_ || state_ != state::relaying,
                 .bytes = as_events_ ? "text/event-stream; charset=utf-8" : ""});
}

void request_flow::commit(actions& out) {
  if (committed_) return;
  begin_stream(out);
  note_commit();
  state_ = state::streaming;
  deadlines_.keepalive = never;
  if (held_.empty()) return;
  const std::string& kept = kept_.emplace_back(std::move(held_));
  held_ = std::string();
  out.push_back({.kind = action_kind::write, .bytes = kept});
}

void request_flow::note_commit() {
  committed_ = true;
  if (sent_for_good() && prefill_ != nullptr) prefill_->forget_params();
}

void request_flow::note_content(instant now, actions& out) {
  ++record_.content_events;
  if (gated()) [[unlikely]] {
    record_.last_token = now;
    return note_generated(now);
  }
  if (record_.first_token != instant{})
    record_.longest_gap = std::max(record_.longest_gap, duration(now - record_.last_token));
  record_.last_token = now;
  note_first_token(now, out);
}

void request_flow::note_first_token(instant now, actions& out) {
  if (record_.first_token == instant{}) {
    record_.first_token = now;
    deadlines_.first_token = never;
    deadlines_.between_events = settings_.timeouts.between_events;
  }
  if (first_token_told_) return;
  first_token_told_ = true;
  if (prefill_ != nullptr) close_lease(handoff::closing::fetched);
  out.push_back({.kind = action_kind::first_token, .flag = true});
}

}  // namespace penstock::flow
