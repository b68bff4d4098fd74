// Small text helpers for messages: safe quoting of what a file contains, and the nearest known word.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace penstock::conf {

// `text` in double quotes with control bytes escaped, cut after 80 bytes: fit for a terminal and a log.
std::string in_quotes(std::string_view text);

// Edits (insert, delete, replace, swap of neighbours) between two words, compared without case; '-' is
// '_'. Words above 64 bytes count as infinitely far.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The known word that `word` probably meant: at most a third of its letters (at least two for words above
// three letters) are off, or one begins with the other.
std::optional<std::string_view> nearest(std::string_view word, std::span<const std::string_view> known);

// "a, b, c"
std::string join(std::span<const std::string_view> words);

// RFC 3629: no overlong forms, no surrogates.
bool valid_utf8(std::string_view text);

// Visible ASCII, one byte at least: no space, no control, nothing above 0x7e.
bool visible_ascii(std::string_view text);

}  // namespace penstock::conf
