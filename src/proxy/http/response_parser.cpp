#include "proxy/http/response_parser.hpp"

#include <algorithm>

#include "proxy/http/chunk_decoder.hpp"
#include "proxy/http/second_reader.hpp"
#include "proxy/http/sized_body.hpp"

namespace penstock::http {
namespace {

constexpr std::size_t kept_head_bytes = 2048;
constexpr std::size_t kept_fields = 32;
constexpr std::size_t max_fields = 200;
// More interim answers than this are a peer that will never come to the point.
constexpr unsigned max_interim = 16;

}  // namespace

struct response_parser::impl {
  enum class state : std::uint8_t {
    head,
    body_length,
    body_chunked,
    body_until_close,
    no_body,
    complete,
    failed
  };

  explicit impl(std::size_t head_limit)
      : raw(head_limit, head_collector::blank_line::refuse), chunks(head_limit), second(HTTP_RESPONSE) {}

  parse_result feed_head(bytes_view in);
  bool head_collected();
  void enter_body();
  parse_result feed_length(bytes_view in, body_spans& body);
  parse_result feed_chunked(bytes_view in, body_spans& body);
  parse_result fail(std::string_view what, std::size_t consumed);

  head_collector raw;
  known_lines known;
  chunk_decoder chunks;
  second_reader second;
  response_head head;
  std::string_view fault;
  std::uint64_t left = 0;
  unsigned interim = 0;
  bool head_request = false;
  state now = state::head;
};

parse_result response_parser::impl::fail(std::string_view what, std::size_t consumed) {
  now = state::failed;
  fault = what;
  return {parse_status::failed, consumed};
}

// False when the head was an interim one and another follows, or when it failed.
bool response_parser::impl::head_collected() {
  unread_parts unread;
  const scan_failure bad = scan_response_head(raw.bytes(), max_fields, head_request, known, unread, head);
  if (bad) {
    fail(bad.what, 0);
    return false;
  }
  const bool skip_body = head_request || head.status == 204 || head.status == 304;
  if (!second.head(unread.all(), head.framing, head.content_length, skip_body)) {
    fail("the head has more than one reading", 0);
    return false;
  }
  if (head.status >= 200) return true;
  if (++interim > max_interim) fail("there are too many interim answers", 0);
  raw.reset(kept_head_bytes);
  return false;
}

void response_parser::impl::enter_body() {
  left = head.content_length;
  switch (head.framing) {
    case body_framing::none: now = state::no_body; break;
    case body_framing::length: now = state::body_length; break;
    case body_framing::until_close: now = state::body_until_close; break;
    case body_framing::chunked:
      chunks.reset();
      now = state::body_chunked;
      break;
  }
}

parse_result response_parser::impl::feed_head(bytes_view in) {
  std::size_t consumed = 0;
  while (consumed < in.size()) {
    if (raw.empty() && in[consumed] != 'H') return fail("it does not start with a status line", consumed);
    std::size_t used = 0;
    const head_collector::result r = raw.take(in.substr(consumed), used);
    consumed += used;
    switch (r) {
      case head_collector::result::more: return {parse_status::more, consumed};
      case head_collector::result::too_large: return fail("its head is too large", consumed);
      case head_collector::result::bare_line_feed:
      case head_collector::result::blank_start:
        return fail("a line of its head does not end in CRLF", consumed);
      case head_collector::result::done: break;
    }
    if (head_collected()) {
      enter_body();
      return {parse_status::head, consumed};
    }
    if (now == state::failed) return {parse_status::failed, consumed};
  }
  return {parse_status::more, consumed};
}

parse_result response_parser::impl::feed_length(bytes_view in, body_spans& body) {
  const parse_result taken = take_sized(left, in, body);
  if (taken.status == parse_status::complete) now = state::complete;
  return taken;
}

parse_result response_parser::impl::feed_chunked(bytes_view in, body_spans& body) {
  const std::size_t used = chunks.decode(in, body);
  if (chunks.failure()) return fail(chunks.failure().what, used);
  if (!second.chunked(in.substr(0, chunks.before_trailers()), chunks.done()))
    return fail("its chunks have more than one reading", used);
  if (chunks.done()) {
    now = state::complete;
    return {parse_status::complete, used};
  }
  return {used < in.size() ? parse_status::progress : parse_status::more, used};
}

response_parser::response_parser(std::size_t head_limit) : impl_(std::make_unique<impl>(head_limit)) {}
response_parser::~response_parser() = default;
response_parser::response_parser(response_parser&&) noexcept = default;
response_parser& response_parser::operator=(response_parser&&) noexcept = default;

void response_parser::expect(bool head_request) {
  if (impl_->now != impl::state::head && impl_->now != impl::state::failed)
    impl_->known.remember(impl_->raw, impl_->head.fields, kept_head_bytes, kept_fields);
  impl_->raw.reset(kept_head_bytes);
  std::vector<field> fields = std::move(impl_->head.fields);
  fields.clear();
  if (fields.capacity() > kept_fields) fields = {};
  impl_->head = {};
  impl_->head.fields = std::move(fields);
  impl_->interim = 0;
  impl_->head_request = head_request;
  impl_->now = impl::state::head;
}

parse_result response_parser::feed(bytes_view in, body_spans& body) {
  switch (impl_->now) {
    case impl::state::head: return impl_->feed_head(in);
    case impl::state::body_length: return impl_->feed_length(in, body);
    case impl::state::body_chunked: return impl_->feed_chunked(in, body);
    case impl::state::body_until_close:
      if (in.empty()) return {};
      if (body.full()) return {parse_status::progress, 0};
      body.push_back(in);
      return {parse_status::more, in.size()};
    case impl::state::no_body: impl_->now = impl::state::complete; break;
    case impl::state::complete: break;
    case impl::state::failed: return {parse_status::failed, 0};
  }
  return {parse_status::complete, 0};
}

bool response_parser::finish() {
  const bool proper = impl_->now == impl::state::body_until_close || impl_->now == impl::state::no_body ||
                      impl_->now == impl::state::complete;
  if (proper) impl_->now = impl::state::complete;
  return proper;
}

const response_head& response_parser::head() const { return impl_->head; }
std::string_view response_parser::fault() const { return impl_->fault; }

}  // namespace penstock::http
