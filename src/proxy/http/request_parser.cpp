#include "proxy/http/request_parser.hpp"

#include <algorithm>

#include "proxy/http/char_tables.hpp"
#include "proxy/http/chunk_decoder.hpp"
#include "proxy/http/refusal.hpp"
#include "proxy/http/second_reader.hpp"
#include "proxy/http/sized_body.hpp"

namespace penstock::http {
namespace {

// An idle connection keeps its last head and room for another (an SDK sends some 500 to 900 bytes, 15
// fields).
constexpr std::size_t kept_head_bytes = 2048;
constexpr std::size_t kept_fields = 32;

}  // namespace

struct request_parser::impl {
  enum class state : std::uint8_t { head, body_length, body_chunked, no_body, complete, failed };

  explicit impl(request_limits l)
      : limits(l),
        raw(l.head_bytes, head_collector::blank_line::skip_one),
        chunks(l.head_bytes),
        second(HTTP_REQUEST) {}

  parse_result feed_head(bytes_view in);
  parse_result head_collected(std::size_t consumed);
  parse_result feed_length(bytes_view in, body_spans& body);
  parse_result feed_chunked(bytes_view in, body_spans& body);
  parse_result fail(scan_failure why, std::size_t consumed);
  void clear_head();

  request_limits limits;
  head_collector raw;
  known_lines known;
  chunk_decoder chunks;
  second_reader second;
  request_head head;
  api_error error;
  std::uint64_t left = 0;  // body_length: bytes to come
  state now = state::head;
};

// The head is forgotten: nobody may act on half of a reading.
parse_result request_parser::impl::fail(scan_failure why, std::size_t consumed) {
  now = state::failed;
  error = refusal(why.why, why.what);
  clear_head();
  head.keep_alive = false;
  return {parse_status::failed, consumed};
}

void request_parser::impl::clear_head() {
  std::vector<field> fields = std::move(head.fields);
  fields.clear();
  if (fields.capacity() > kept_fields) fields = {};
  head = {};
  head.fields = std::move(fields);
}

parse_result request_parser::impl::feed_head(bytes_view in) {
  if (in.empty()) return {};
  std::size_t consumed = 0;
  const head_collector::result collected = raw.take(in, consumed);
  // Not HTTP at all (a TLS hello, say): no need to wait for a line end.
  if (!raw.empty() && !chars::in(chars::token, raw.bytes().front()) && raw.bytes().front() != '\r') {
    return fail({reason::bad_http, "this is not an HTTP request"}, consumed);
  }
  switch (collected) {
    case head_collector::result::more: return {parse_status::more, consumed};
    case head_collector::result::too_large:
      return fail({reason::head_too_large, "the request head is too large"}, consumed);
    case head_collector::result::bare_line_feed:
      return fail({reason::bad_http, "a line of the head does not end in CRLF"}, consumed);
    case head_collector::result::blank_start:
      return fail({reason::bad_http, "the request line is missing"}, consumed);
    case head_collector::result::done: break;
  }
  return head_collected(consumed);
}

parse_result request_parser::impl::head_collected(std::size_t consumed) {
  unread_parts unread;
  if (const scan_failure bad = scan_request_head(raw.bytes(), limits.head_fields, known, unread, head))
    return fail(bad, consumed);
  if (!second.head(unread.all(), head.framing, head.content_length, false)) {
    return fail({reason::bad_http, "the head has more than one reading"}, consumed);
  }
  left = head.content_length;
  switch (head.framing) {
    case body_framing::length: now = state::body_length; break;
    case body_framing::chunked:
      chunks.reset();
      now = state::body_chunked;
      break;
    default: now = state::no_body;
  }
  return {parse_status::head, consumed};
}

parse_result request_parser::impl::feed_length(bytes_view in, body_spans& body) {
  const parse_result taken = take_sized(left, in, body);
  if (taken.status == parse_status::complete) now = state::complete;
  return taken;
}

parse_result request_parser::impl::feed_chunked(bytes_view in, body_spans& body) {
  const std::size_t used = chunks.decode(in, body);
  if (chunks.failure()) return fail(chunks.failure(), used);
  if (!second.chunked(in.substr(0, chunks.before_trailers()), chunks.done())) {
    return fail({reason::bad_framing, "the chunks have more than one reading"}, used);
  }
  if (chunks.done()) {
    now = state::complete;
    return {parse_status::complete, used};
  }
  return {used < in.size() ? parse_status::progress : parse_status::more, used};
}

request_parser::request_parser(request_limits limits) : impl_(std::make_unique<impl>(limits)) {}
request_parser::~request_parser() = default;
request_parser::request_parser(request_parser&&) noexcept = default;
request_parser& request_parser::operator=(request_parser&&) noexcept = default;

parse_result request_parser::feed(bytes_view in, body_spans& body) {
  switch (impl_->now) {
    case impl::state::head: return impl_->feed_head(in);
    case impl::state::body_length: return impl_->feed_length(in, body);
    case impl::state::body_chunked: return impl_->feed_chunked(in, body);
    case impl::state::no_body: impl_->now = impl::state::complete; break;
    case impl::state::complete: break;
    case impl::state::failed: return {parse_status::failed, 0};
  }
  return {parse_status::complete, 0};
}

bool request_parser::idle() const { return impl_->now == impl::state::head && impl_->raw.empty(); }
const request_head& request_parser::head() const { return impl_->head; }
const api_error& request_parser::error() const { return impl_->error; }

std::uint64_t request_parser::wanted_directly() const {
  return impl_->now == impl::state::body_length ? impl_->left : 0;
}

bool request_parser::took_directly(std::uint64_t n) {
  if (impl_->now != impl::state::body_length) return impl_->now == impl::state::complete;
  impl_->left -= std::min(n, impl_->left);
  if (impl_->left > 0) return false;
  impl_->now = impl::state::complete;
  return true;
}

void request_parser::next() {
  // After a failure nobody knows where the next message begins.
  if (impl_->now == impl::state::failed) return;
  if (impl_->now != impl::state::head)
    impl_->known.remember(impl_->raw, impl_->head.fields, kept_head_bytes, kept_fields);
  impl_->raw.reset(kept_head_bytes);
  impl_->clear_head();
  impl_->now = impl::state::head;
}

}  // namespace penstock::http
