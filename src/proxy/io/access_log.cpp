#include "proxy/io/access_log.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>

#include "proxy/http/shapes.hpp"

namespace penstock::io {
namespace {

// More than all keys, names and numbers of a line: some 60 keys, 700 bytes, and 35 numbers of 20 digits.
constexpr std::size_t fixed_room = 4096;
// \u0000 for one byte.
constexpr std::size_t longest_escape = 6;

std::size_t room_for(const account_record& r) {
  std::size_t text = 0;
  for (const std::string* s : {&r.request_id, &r.trace_parent, &r.client, &r.method, &r.path, &r.model,
                               &r.pool, &r.endpoint_url, &r.prefill_url})
    text += s->size();
  return fixed_room + text * longest_escape;
}

// `width` digits of `value`, zeros in front.
char* padded(char* at, std::uint64_t value, int width) {
  for (int i = width; i-- > 0; value /= 10) at[i] = static_cast<char>('0' + value % 10);
  return at + width;
}

// Writes members where room_for() made room. Keys come with what stands around them, ready to be copied.
class line_writer {
 public:
  explicit line_writer(char* at) : at_(at) {}
  char* end() const { return at_; }

  template <std::size_t N>
  void raw(const char (&text)[N]) {
    std::memcpy(at_, text, N - 1);
    at_ += N - 1;
  }

  // One of our own words, which JSON takes as it is.
  template <std::size_t N>
  void word(const char (&key)[N], std::string_view value) {
    if (value.empty()) return;
    raw(key);
    bytes(value);
    *at_++ = '"';
  }

  template <std::size_t N>
  void text(const char (&key)[N], std::string_view value) {
    if (value.empty()) return;
    raw(key);
    const std::size_t plain = http::plain_json_length(value);
    bytes(value.substr(0, plain));
    if (plain != value.size()) {
      std::string rest;
      http::append_json_escaped(rest, value.substr(plain));
      bytes(rest);
    }
    *at_++ = '"';
  }

  template <std::size_t N>
  void count(const char (&key)[N], std::uint64_t value) {
    raw(key);
    at_ = std::to_chars(at_, at_ + 20, value).ptr;
  }

  // Milliseconds with microseconds behind the point.
  template <std::size_t N>
  void time_between(const char (&key)[N], instant from, instant to) {
    if (from == instant{} || to == instant{}) return;
    const auto us = static_cast<std::uint64_t>(std::max<std::int64_t>(0, (to - from).count() / 1000));
    count(key, us / 1000);
    *at_++ = '.';
    at_ = padded(at_, us % 1000, 3);
  }

  // {"time":"2026-11-22T17:50:54.000123Z"
  void wall_time(std::int64_t wall_us) {
    using namespace std::chrono;
    const sys_time<microseconds> at{microseconds(wall_us)};
    const auto day = floor<days>(at);
    const year_month_day date{day};
    const hh_mm_ss<microseconds> clock{at - day};
    raw("{\"time\":\"");
    at_ = padded(at_, static_cast<std::uint64_t>(static_cast<int>(date.year())), 4);
    const auto next = [this](char before, std::int64_t value, int width) {
      *at_++ = before;
      at_ = padded(at_, static_cast<std::uint64_t>(value), width);
    };
    next('-', static_cast<unsigned>(date.month()), 2);
    next('-', static_cast<unsigned>(date.day()), 2);
    next('T', clock.hours().count(), 2);
    next(':', clock.minutes().count(), 2);
    next(':', clock.seconds().count(), 2);
    next('.', clock.subseconds().count(), 6);
    raw("Z\"");
  }

 private:
  void bytes(std::string_view text) {
    std::memcpy(at_, text.data(), text.size());
    at_ += text.size();
  }

  char* at_;
};

void decision(line_writer& out, const account_record& r) {
  out.text(",\"pool\":\"", r.pool);
  out.text(",\"endpoint\":\"", r.endpoint_url);
  out.count(",\"attempts\":", r.attempts);
  out.word(",\"policy\":\"", name(r.by));
  out.word(",\"choice\":\"", name(r.chosen));
  out.count(",\"prompt_blocks\":", r.prompt_blocks);
  out.count(",\"hit_blocks\":", r.hit_blocks);
  out.count(",\"predicted_prompt_tokens\":", r.predicted_prompt);
  out.count(",\"predicted_cached_tokens\":", r.predicted_cached);
  out.count(",\"queue_tokens\":", static_cast<std::uint64_t>(r.queue_tokens > 0 ? r.queue_tokens : 0));
  out.count(",\"in_flight\":", r.in_flight);
  out.count(",\"score\":", static_cast<std::uint64_t>(std::clamp(r.score, 0.0, 1e15)));
  if (r.engine_asked == instant{}) return;
  out.time_between(",\"predicted_prefill_ms\":", r.engine_asked, r.engine_asked + r.predicted_prefill);
  out.time_between(",\"prefill_ms\":", r.engine_asked, r.first_token);
}

void split(line_writer& out, const account_record& r) {
  out.word(",\"split\":\"", name(r.split));
  out.text(",\"prefill_endpoint\":\"", r.prefill_url);
  out.word(",\"handoff\":\"", r.handoff);
}

}  // namespace

std::string_view access_line(std::string& room, const account_record& r, std::int64_t wall_us) {
  if (const std::size_t wanted = room_for(r); room.size() < wanted) room.resize(wanted);
  line_writer out(room.data());
  out.wall_time(wall_us);
  out.text(",\"request_id\":\"", r.request_id);
  out.text(",\"traceparent\":\"", r.trace_parent);
  out.text(",\"client\":\"", r.client);
  out.text(",\"method\":\"", r.method);
  out.text(",\"path\":\"", r.path);
  out.word(",\"api\":\"", name(r.api));
  out.text(",\"model\":\"", r.model);
  r.stream ? out.raw(",\"stream\":true") : out.raw(",\"stream\":false");
  out.count(",\"status\":", r.status);
  out.word(",\"reason\":\"", name(r.why));
  if (r.attempts != 0) decision(out, r);
  if (r.split != split_choice::not_asked) split(out, r);
  out.time_between(",\"body_ms\":", r.accepted, r.body_done);
  out.time_between(",\"ours_ms\":", r.body_done + r.held, r.dispatched);
  if (r.held > duration{})
    out.time_between(",\"held_ms\":", r.body_done, r.body_done + r.held);
  out.time_between(",\"queue_ms\":", r.dispatched, r.sent);
  out.time_between(",\"engine_first_byte_ms\":", r.sent, r.first_byte);
  out.time_between(",\"prefill_ms\":", r.sent, r.prefill_done);
  out.time_between(",\"handoff_ms\":", r.prefill_done, r.first_token);
  out.time_between(",\"ttft_ms\":", r.accepted, r.first_token);
  out.time_between(",\"total_ms\":", r.accepted, r.ended);
  if (r.content_events > 1)
    out.time_between(",\"longest_gap_ms\":", instant(duration(1)), instant(duration(1)) + r.longest_gap);
  out.count(",\"bytes_in\":", r.bytes_in);
  out.count(",\"bytes_out\":", r.bytes_out);
  if (r.stream) out.count(",\"events\":", r.events);
  if (r.usage.known) {
    out.count(",\"prompt_tokens\":", r.usage.prompt);
    out.count(",\"completion_tokens\":", r.usage.completion);
    if (r.usage.cached_known) out.count(",\"cached_tokens\":", r.usage.cached);
  }
  out.raw("}\n");
  return {room.data(), static_cast<std::size_t>(out.end() - room.data())};
}

}  // namespace penstock::io
