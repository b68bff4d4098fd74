// Character classes of RFC 9110 and RFC 3986 as tables.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "penstock/bytes.hpp"

namespace penstock::http::chars {

using table = std::array<bool, 256>;

constexpr table make_table(std::string_view members, bool alphanumeric) {
  table t{};
  for (const char c : members) t[static_cast<unsigned char>(c)] = true;
  if (!alphanumeric) return t;
  for (unsigned c = '0'; c <= '9'; ++c) t[c] = true;
  for (unsigned c = 'a'; c <= 'z'; ++c) t[c] = t[c - 32] = true;
  return t;
}

constexpr table make_field_value() {
  table t{};
  for (unsigned c = 0x20; c < 0x100; ++c) t[c] = c != 0x7f;
  t['\t'] = true;
  return t;
}

// tchar (RFC 9110 5.6.2): methods, field names, chunk extension names.
inline constexpr table token = make_table("!#$%&'*+-.^_`|~", true);
// What a field value or reason phrase may hold: HTAB, SP, VCHAR, obs-text.
inline constexpr table field_value = make_field_value();
// RFC 3986 unreserved: never needs percent-encoding.
inline constexpr table unreserved = make_table("-._~", true);
// pchar without "%", and "/".
inline constexpr table path = make_table("-._~!$&'()*+,;=:@/", true);
// query without "%".
inline constexpr table query = make_table("-._~!$&'()*+,;=:@/?", true);

inline bool in(const table& t, char c) { return t[static_cast<unsigned char>(c)]; }

inline bool all(const table& t, bytes_view s) {
  bool ok = true;
  for (const char c : s) ok &= in(t, c);
  return ok;
}

// all(field_value, s), eight bytes a step: nearly every value is plain.
inline bool all_field_value(bytes_view s) {
  constexpr std::uint64_t ones = 0x0101010101010101, highs = ones * 0x80;
  std::size_t i = 0;
  for (; i + 8 <= s.size(); i += 8) {
    std::uint64_t v = 0;
    std::memcpy(&v, s.data() + i, 8);
    const std::uint64_t del = v ^ (ones * 0x7f);
    const std::uint64_t suspect = ((v - ones * 0x20) & ~v) | ((del - ones) & ~del);
    if ((suspect & highs) != 0 && !all(field_value, s.substr(i, 8))) return false;
  }
  return all(field_value, s.substr(i));
}

// ASCII lower case of one byte; other bytes are unchanged.
constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

// Value of a hexadecimal digit, or -1.
constexpr int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char l = lower(c);
  return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

}  // namespace penstock::http::chars
