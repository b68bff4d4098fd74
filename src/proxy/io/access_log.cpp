#include "proxy/io/access_log.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <string_view>

#include "proxy/http/shapes.hpp"

namespace penstock::io {
namespace {

// Keys come with what stands around them, ready to be copied.
void text(std::string& out, std::string_view key, std::string_view value) {
  if (value.empty()) return;
  out += key;
  http::append_json_escaped(out, value);
  out += '"';
}

void count(std::string& out, std::string_view key, std::uint64_t value) {
  std::array<char, 20> digits;
  const char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  out += key;
  out.append(digits.data(), static_cast<std::size_t>(end - digits.data()));
}

// `width` digits of `value`, zeros in front.
char* padded(char* at, std::uint64_t value, int width) {
  for (int i = width; i-- > 0; value /= 10) at[i] = static_cast<char>('0' + value % 10);
  return at + width;
}

// Milliseconds with microseconds behind the point.
void time_between(std::string& out, std::string_view key, instant from, instant to) {
  if (from == instant{} || to == instant{}) return;
  const auto us = static_cast<std::uint64_t>(std::max<std::int64_t>(0, (to - from).count() / 1000));
  count(out, key, us / 1000);
  std::array<char, 4> rest{'.'};
  padded(rest.data() + 1, us % 1000, 3);
  out.append(rest.data(), rest.size());
}

void wall_time(std::string& out, std::int64_t wall_us) {
  using namespace std::chrono;
  const sys_time<microseconds> at{microseconds(wall_us)};
  const auto day = floor<days>(at);
  const year_month_day date{day};
  const hh_mm_ss<microseconds> clock{at - day};
  // {"time":"2026-11-22T17:50:54.000123Z"
  std::array<char, 27> digits;
  char* p = padded(digits.data(), static_cast<std::uint64_t>(static_cast<int>(date.year())), 4);
  const auto next = [&p](char before, std::int64_t value, int width) {
    *p++ = before;
    p = padded(p, static_cast<std::uint64_t>(value), width);
  };
  next('-', static_cast<unsigned>(date.month()), 2);
  next('-', static_cast<unsigned>(date.day()), 2);
  next('T', clock.hours().count(), 2);
  next(':', clock.minutes().count(), 2);
  next(':', clock.seconds().count(), 2);
  next('.', clock.subseconds().count(), 6);
  *p++ = 'Z';
  out += "{\"time\":\"";
  out.append(digits.data(), static_cast<std::size_t>(p - digits.data()));
  out += '"';
}

void decision(std::string& out, const account_record& r) {
  text(out, ",\"pool\":\"", r.pool);
  text(out, ",\"endpoint\":\"", r.endpoint_url);
  count(out, ",\"attempts\":", r.attempts);
  text(out, ",\"policy\":\"", name(r.by));
  text(out, ",\"choice\":\"", name(r.chosen));
  count(out, ",\"prompt_blocks\":", r.prompt_blocks);
  count(out, ",\"hit_blocks\":", r.hit_blocks);
  count(out, ",\"predicted_prompt_tokens\":", r.predicted_prompt);
  count(out, ",\"predicted_cached_tokens\":", r.predicted_cached);
  count(out, ",\"queue_tokens\":", static_cast<std::uint64_t>(r.queue_tokens > 0 ? r.queue_tokens : 0));
  count(out, ",\"in_flight\":", r.in_flight);
  count(out, ",\"score\":", static_cast<std::uint64_t>(std::clamp(r.score, 0.0, 1e15)));
  if (r.engine_asked == instant{}) return;
  time_between(out, ",\"predicted_prefill_ms\":", r.engine_asked, r.engine_asked + r.predicted_prefill);
  time_between(out, ",\"prefill_ms\":", r.engine_asked, r.first_token);
}

void split(std::string& out, const account_record& r) {
  text(out, ",\"split\":\"", name(r.split));
  text(out, ",\"prefill_endpoint\":\"", r.prefill_url);
  text(out, ",\"handoff\":\"", r.handoff);
}

}  // namespace

void append_access_line(std::string& out, const account_record& r, std::int64_t wall_us) {
  wall_time(out, wall_us);
  text(out, ",\"request_id\":\"", r.request_id);
  text(out, ",\"traceparent\":\"", r.trace_parent);
  text(out, ",\"client\":\"", r.client);
  text(out, ",\"method\":\"", r.method);
  text(out, ",\"path\":\"", r.path);
  text(out, ",\"api\":\"", name(r.api));
  text(out, ",\"model\":\"", r.model);
  out += r.stream ? ",\"stream\":true" : ",\"stream\":false";
  count(out, ",\"status\":", r.status);
  text(out, ",\"reason\":\"", name(r.why));
  if (r.attempts != 0) decision(out, r);
  if (r.split != split_choice::not_asked) split(out, r);
  time_between(out, ",\"body_ms\":", r.accepted, r.body_done);
  time_between(out, ",\"ours_ms\":", r.body_done, r.dispatched);
  time_between(out, ",\"queue_ms\":", r.dispatched, r.sent);
  time_between(out, ",\"engine_first_byte_ms\":", r.sent, r.first_byte);
  time_between(out, ",\"prefill_ms\":", r.sent, r.prefill_done);
  time_between(out, ",\"handoff_ms\":", r.prefill_done, r.first_token);
  time_between(out, ",\"ttft_ms\":", r.accepted, r.first_token);
  time_between(out, ",\"total_ms\":", r.accepted, r.ended);
  if (r.content_events > 1)
    time_between(out, ",\"longest_gap_ms\":", instant(duration(1)), instant(duration(1)) + r.longest_gap);
  count(out, ",\"bytes_in\":", r.bytes_in);
  count(out, ",\"bytes_out\":", r.bytes_out);
  if (r.stream) count(out, ",\"events\":", r.events);
  if (r.usage.known) {
    count(out, ",\"prompt_tokens\":", r.usage.prompt);
    count(out, ",\"completion_tokens\":", r.usage.completion);
    if (r.usage.cached_known) count(out, ",\"cached_tokens\":", r.usage.cached);
  }
  out += "}\n";
}

}  // namespace penstock::io
