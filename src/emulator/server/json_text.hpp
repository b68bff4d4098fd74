// Small helpers for writing JSON by hand in the exact order of vLLM's answers.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace penstock::emulator {

// The text between the quotes of a JSON string; UTF-8 passes as it is, as in vLLM's answers.
void append_escaped(std::string& out, std::string_view text);
// With quotes.
std::string quote(std::string_view text);
// With quotes, or null when empty.
std::string quote_or_null(std::string_view text);
std::string base64(std::string_view bytes);
// Nothing when that is no base64 with its padding.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace penstock::emulator
