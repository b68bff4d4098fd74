// A parsed message head: views into one buffer that the parser owns.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "penstock/bytes.hpp"
#include "proxy/http/char_tables.hpp"

namespace penstock::http {

struct field {
  bytes_view name;   // as sent; compare with iequals
  bytes_view value;  // without leading and trailing blanks
  // One line `name: value` and CRLF stands in the raw head, with one blank and none behind the value.
  bool plain = false;
};

// ASCII case-insensitive equality. Inline, since most pairs differ in length or in their first letter.
inline bool iequals(bytes_view a, bytes_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (chars::lower(a[i]) != chars::lower(b[i])) return false;
  }
  return true;
}

// First field of that name, if any.
const field* find(const std::vector<field>& fields, bytes_view name);

// How a body is delimited (RFC 9112 section 6).
enum class body_framing : std::uint8_t { none, length, chunked, until_close };

struct request_head {
  bytes_view method, target;
  int minor_version = 1;  // HTTP/1.minor
  std::vector<field> fields;
  body_framing framing = body_framing::none;
  std::uint64_t content_length = 0;  // framing == length
  bool keep_alive = true;
  bool expect_continue = false;
};

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
