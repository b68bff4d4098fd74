#include "emulator/server/json_text.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <iterator>

namespace penstock::emulator {
namespace {

constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

void append_escaped(std::string& out, std::string_view text) {
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
}

std::string quote(std::string_view text) {
  std::string out = "\"";
  append_escaped(out, text);
  return out += '"';
}

std::string quote_or_null(std::string_view text) { return text.empty() ? "null" : quote(text); }

std::string base64(std::string_view bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = (group << 8) | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += i + k > bytes.size() ? '=' : digits[(group >> (18 - 6 * k)) & 63];
    }
  }
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  const std::size_t padding = text.size() - text.substr(0, text.find_last_not_of('=') + 1).size();
  if (padding > 2) return std::nullopt;
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += 4) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const std::size_t at = i + k < text.size() - padding ? digits.find(text[i + k]) : 0;
      if (at == std::string_view::npos) return std::nullopt;
      group = (group << 6) | static_cast<std::uint32_t>(at);
    }
    for (const int shift : {16, 8, 0}) out += static_cast<char>((group >> shift) & 0xff);
  }
  out.resize(out.size() - padding);
  return out;
}

}  // namespace penstock::emulator
