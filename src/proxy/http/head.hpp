// A parsed message head: views into one buffer that the parser owns.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "penstock/bytes.hpp"
#include "proxy/http/char_tables.hpp"

namespace penstock::http {

// What a field's name means to us; the parsers look it up once, see kind_of().
enum class field_kind : std::uint8_t {
  unread,  // not looked up
  other,
  accept_encoding,
  authorization,
  connection,
  content_encoding,
  content_length,  // and "content_length", as CGI-style readers take it
  content_type,
  expect,
  host,
  transfer_encoding,  // and "transfer_encoding"
  x_request_id,
  hop_by_hop,  // one more that is not forwarded
  refused,     // is_refused_from_clients()
  dropped,     // is_dropped_before_engines()
};

struct field {
  bytes_view name;   // as sent; compare with iequals
  bytes_view value;  // without leading and trailing blanks
  // One line `name: value` and CRLF stands in the raw head, with one blank and none behind the value.
  bool plain = false;
  field_kind kind = field_kind::unread;
};

// ASCII case-insensitive equality. Inline, since most pairs differ in length or in their first letter, and
// most others not even in case.
inline bool iequals(bytes_view a, bytes_view b) {
  if (a.size() != b.size()) return false;
  if (!a.empty() && chars::lower(a[0]) != chars::lower(b[0])) return false;
  if (a == b) return true;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (chars::lower(a[i]) != chars::lower(b[i])) return false;
  }
  return true;
}

// First field of that name, if any.
const field* find(const std::vector<field>& fields, bytes_view name);
// First field of that kind, if any; `kind` names one field.
const field* find(const std::vector<field>& fields, field_kind kind);

// How a body is delimited (RFC 9112 section 6).
enum class body_framing : std::uint8_t { none, length, chunked, until_close };

// One bit for size and first letter of a name: a name whose bit no field has is not there.
inline std::uint64_t name_mark(bytes_view name) {
  const auto first = static_cast<std::size_t>(name.empty() ? '\0' : chars::lower(name.front()));
  return std::uint64_t{1} << (name.size() * 7 + first) % 64;
}

struct request_head {
  bytes_view method, target;
  int minor_version = 1;  // HTTP/1.minor
  std::vector<field> fields;
  std::uint64_t name_marks = ~std::uint64_t{0};  // name_mark() of every field; all bits: not known
  body_framing framing = body_framing::none;
  std::uint64_t content_length = 0;  // framing == length
  bool keep_alive = true;
  bool expect_continue = false;
};

// First field of that name, if any; cheap for names that hardly anybody sends.
inline const field* find(const request_head& head, bytes_view name) {
  return (head.name_marks & name_mark(name)) == 0 ? nullptr : find(head.fields, name);
}

struct response_head {
  int status = 0;
  int minor_version = 1;
  bytes_view phrase;
  std::vector<field> fields;
  body_framing framing = body_framing::none;
  std::uint64_t content_length = 0;
  bool keep_alive = true;
};

// Content-Type text/event-stream, whatever its parameters.
bool is_event_stream(const response_head& head);

}  // namespace penstock::http
