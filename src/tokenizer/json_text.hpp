// Scalars of JSON as they stand in a body: white space, escapes, numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "penstock/bytes.hpp"

namespace penstock::tokenizer {

constexpr bool is_json_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// Looks at every escape of [begin, end), the inside of a JSON string. Returns the first wrong one, or
// nullptr; adds to `overhead` by how many bytes the escapes are longer than the UTF-8 that they stand
// for. Reads up to 64 bytes past `end` (a body's padding).
const char* check_escapes(const char* begin, const char* end, std::uint64_t& overhead);

// Whether the inside of a checked JSON string has an escape. Reads up to 64 bytes past its end.
bool has_escape(bytes_view raw);

// Appends what the inside of a checked JSON string says, as UTF-8. A lone surrogate, which JSON's grammar
// allows and UTF-8 does not, becomes U+FFFD.
void unescape(bytes_view raw, std::string& out);

// Whether the token is a JSON number of any size.
bool is_json_number(bytes_view token);

// The integer that a number token says, saturating at the ends of the type; also 100.0 and 1e2, which
// engines read as integers. Nothing when it has a fraction.
std::optional<std::int64_t> integer_of(bytes_view token);

// Offset of the first byte that does not continue valid UTF-8; text.size() when all is well. Slow: for
// the message after the fast check failed.
std::size_t first_invalid_utf8(bytes_view text);

}  // namespace penstock::tokenizer
