#include "proxy/io/access_log.hpp"

#include <fmt/compile.h>
#include <fmt/format.h>

#include <ctime>
#include <iterator>
#include <string_view>

#include "proxy/http/shapes.hpp"

namespace penstock::io {
namespace {

void text(std::string& out, std::string_view key, std::string_view value) {
  if (value.empty()) return;
  out += ",\"";
  out += key;
  out += "\":\"";
  http::append_json_escaped(out, value);
  out += '"';
}

void count(std::string& out, std::string_view key, std::uint64_t value) {
  out += ",\"";
  out += key;
  out += "\":";
  const fmt::format_int digits(value);
  out.append(digits.data(), digits.size());
}

// Milliseconds with microseconds behind the point.
void time_between(std::string& out, std::string_view key, instant from, instant to) {
  if (from == instant{} || to == instant{}) return;
  const std::int64_t us = std::max<std::int64_t>(0, (to - from).count() / 1000);
  count(out, key, static_cast<std::uint64_t>(us / 1000));
  const auto rest = static_cast<unsigned>(us % 1000);
  const char digits[] = {'.', static_cast<char>('0' + rest / 100), static_cast<char>('0' + rest / 10 % 10),
                         static_cast<char>('0' + rest % 10)};
  out.append(digits, sizeof digits);
}

void wall_time(std::string& out, std::int64_t wall_us) {
  const std::time_t s = wall_us / 1000000;
  std::tm utc{};
  ::gmtime_r(&s, &utc);
  fmt::format_to(std::back_inserter(out),
                 FMT_COMPILE("{{\"time\":\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z\""), utc.tm_year + 1900,
                 utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, wall_us % 1000000);
}

void decision(std::string& out, const account_record& r) {
  text(out, "pool", r.pool);
  text(out, "endpoint", r.endpoint_url);
  count(out, "attempts", r.attempts);
  text(out, "policy", name(r.by));
  text(out, "choice", name(r.chosen));
  count(out, "prompt_blocks", r.prompt_blocks);
  count(out, "hit_blocks", r.hit_blocks);
  count(out, "predicted_prompt_tokens", r.predicted_prompt);
  count(out, "predicted_cached_tokens", r.predicted_cached);
  count(out, "queue_tokens", static_cast<std::uint64_t>(r.queue_tokens > 0 ? r.queue_tokens : 0));
}

}  // namespace

void append_access_line(std::string& out, const account_record& r, std::int64_t wall_us) {
  wall_time(out, wall_us);
  text(out, "request_id", r.request_id);
  text(out, "traceparent", r.trace_parent);
  text(out, "client", r.client);
  text(out, "method", r.method);
  text(out, "path", r.path);
  text(out, "api", name(r.api));
  text(out, "model", r.model);
  out += r.stream ? ",\"stream\":true" : ",\"stream\":false";
  count(out, "status", r.status);
  text(out, "reason", name(r.why));
  if (r.attempts != 0) decision(out, r);
  time_between(out, "body_ms", r.accepted, r.body_done);
  time_between(out, "ours_ms", r.body_done, r.dispatched);
  time_between(out, "queue_ms", r.dispatched, r.sent);
  time_between(out, "engine_first_byte_ms", r.sent, r.first_byte);
  time_between(out, "ttft_ms", r.accepted, r.first_token);
  time_between(out, "total_ms", r.accepted, r.ended);
  if (r.content_events > 1)
    time_between(out, "longest_gap_ms", instant(duration(1)), instant(duration(1)) + r.longest_gap);
  count(out, "bytes_in", r.bytes_in);
  count(out, "bytes_out", r.bytes_out);
  if (r.stream) count(out, "events", r.events);
  if (r.usage.known) {
    count(out, "prompt_tokens", r.usage.prompt);
    count(out, "completion_tokens", r.usage.completion);
    if (r.usage.cached_known) count(out, "cached_tokens", r.usage.cached);
  }
  out += "}\n";
}

}  // namespace penstock::io
