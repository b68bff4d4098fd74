// A parsed message head: views into one buffer that the parser owns.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "penstock/bytes.hpp"

namespace penstock::http {

struct field {
  bytes_view name;   // as sent; compare with iequals
  bytes_view value;  // without leading and trailing blanks
};

// ASCII case-insensitive equality.
bool iequals(bytes_view a, bytes_view b);

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

}  // namespace penstock::http
