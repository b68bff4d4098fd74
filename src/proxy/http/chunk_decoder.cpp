#include "proxy/http/chunk_decoder.hpp"

#include <algorithm>

#include "proxy/http/char_tables.hpp"

namespace penstock::http {
namespace {

constexpr std::uint64_t max_chunk = std::uint64_t{1} << 60;
constexpr unsigned max_digits = 16;
constexpr std::size_t max_trailers = 64;

}  // namespace

void chunk_decoder::fail(reason why, std::string_view what) {
  state_ = state::failed;
  failure_ = {why, what};
}

void chunk_decoder::reset() {
  left_ = 0;
  overhead_ = 0;
  digits_ = 0;
  state_ = state::size_start;
  failure_ = {};
  trailers_.reset(0);
}

void chunk_decoder::size_byte(char c) {
  const int digit = chars::hex(c);
  if (digit >= 0) {
    left_ = left_ << 4 | static_cast<unsigned>(digit);
    state_ = state::size;
    if (++digits_ > max_digits || left_ >= max_chunk) fail("a chunk size is too large");
    return;
  }
  if (state_ == state::size_start) return fail("a chunk size is not a hexadecimal number");
  if (c == '\r') {
    state_ = state::size_lf;
  } else if (c == ';') {
    state_ = state::extension_name_start;
  } else {
    fail("a chunk size is not a plain hexadecimal number");
  }
}

void chunk_decoder::after_extension(char c) {
  state_ = state::size_lf;
  if (c != '\r') fail("a chunk extension is malformed");
}

void chunk_decoder::extension_byte(char c) {
  if (++overhead_ > limit_) return fail("chunk extensions are too long");
  const bool token = chars::in(chars::token, c);
  switch (state_) {
    case state::extension_name_start:
      if (!token) return fail("a chunk extension has no name");
      state_ = state::extension_name;
      return;
    case state::extension_name:
      if (token) return;
      if (c == '=') {
        state_ = state::extension_value_start;
        return;
      }
      return after_extension(c);
    case state::extension_value_start:
      if (!token && c != '"') return fail("a chunk extension has no value");
      state_ = token ? state::extension_value : state::extension_quoted;
      return;
    case state::extension_value:
      if (!token) after_extension(c);
      return;
    case state::extension_quoted:
      if (c == '"') {
        state_ = state::extension_after;
      } else if (c == '\\' || c == '\t' || static_cast<unsigned char>(c) >= 0x7f ||
                 !chars::in(chars::field_value, c)) {
        fail("a chunk extension has a character that is not allowed");
      }
      return;
    default: return after_extension(c);
  }
}

void chunk_decoder::size_line_ended() {
  digits_ = 0;
  state_ = left_ > 0 ? state::data : state::trailers;
}

void chunk_decoder::framing_byte(char c) {
  switch (state_) {
    case state::size_start:
    case state::size: return size_byte(c);
    case state::size_lf:
      return c == '\n' ? size_line_ended() : fail("a chunk size line does not end in CRLF");
    case state::data_cr:
      state_ = state::data_lf;
      if (c != '\r') fail("chunk data is longer than its size");
      return;
    case state::data_lf:
      state_ = state::size_start;
      if (c != '\n') fail("chunk data does not end in CRLF");
      return;
    default: return extension_byte(c);
  }
}

std::size_t chunk_decoder::take_trailers(bytes_view in) {
  std::size_t used = 0;
  switch (trailers_.take(in, used)) {
    case head_collector::result::more: return used;
    case head_collector::result::too_large:
      fail(reason::head_too_large, "the trailers are too long");
      return used;
    case head_collector::result::bare_line_feed:
    case head_collector::result::blank_start: fail("a trailer line does not end in CRLF"); return used;
    case head_collector::result::done: break;
  }
  std::vector<field> fields;
  const scan_failure bad = scan_trailers(trailers_.bytes(), max_trailers, fields);
  if (bad) {
    fail(bad.why == reason::head_too_large ? bad.why : reason::bad_framing, bad.what);
  } else {
    state_ = state::done;
  }
  return used;
}

std::size_t chunk_decoder::decode(bytes_view in, body_spans& body) {
  std::size_t at = 0;
  before_trailers_ = 0;
  while (at < in.size()) {
    switch (state_) {
      case state::done:
      case state::failed: return at;
      case state::trailers: at += take_trailers(in.substr(at)); break;
      case state::data: {
        if (body.full()) return at;
        const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(left_, in.size() - at));
        body.push_back(in.substr(at, n));
        before_trailers_ = at += n;
        left_ -= n;
        if (left_ == 0) state_ = state::data_cr;
        break;
      }
      default: framing_byte(in[at]); before_trailers_ = ++at;
    }
  }
  return at;
}

}  // namespace penstock::http
