#include "proxy/config/ip_text.hpp"

#include <algorithm>
#include <charconv>

namespace penstock::conf {
namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }

// Leading groups of up to four hex digits separated by ':', written to `out` in network order; the last
// may be an IPv4 address. Nothing if the text is anything else, or too long for the 16 bytes.
std::optional<std::size_t> parse_groups(std::string_view text, v6_bytes& out) {
  std::size_t used = 0;
  while (!text.empty()) {
    const auto colon = std::min(text.find(':'), text.size());
    const auto group = text.substr(0, colon);
    if (const auto tail = parse_v4(group); tail && colon == text.size()) {
      if (used + 4 > out.size()) return std::nullopt;
      std::copy(tail->begin(), tail->end(), out.begin() + static_cast<std::ptrdiff_t>(used));
      return used + 4;
    }
    std::uint16_t value = 0;
    const auto [end, ec] = std::from_chars(group.data(), group.data() + group.size(), value, 16);
    if (group.empty() || group.size() > 4 || ec != std::errc{} || end != group.data() + group.size())
      return std::nullopt;
    if (used + 2 > out.size()) return std::nullopt;
    out[used++] = static_cast<std::uint8_t>(value >> 8U);
    out[used++] = static_cast<std::uint8_t>(value & 0xffU);
    if (colon == text.size()) break;
    text.remove_prefix(colon + 1);
    if (text.empty()) return std::nullopt;
  }
  return used;
}

bool valid_label(std::string_view label) {
  if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
  return std::all_of(label.begin(), label.end(), [](char c) {
    return digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
  });
}

}  // namespace

std::optional<v4_bytes> parse_v4(std::string_view text) {
  v4_bytes out{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto dot = i + 1 < out.size() ? text.find('.') : text.size();
    if (dot == std::string_view::npos) return std::nullopt;
    const auto part = text.substr(0, dot);
    const auto [end, ec] = std::from_chars(part.data(), part.data() + part.size(), out[i]);
    if (part.empty() || !digit(part[0]) || (part.size() > 1 && part[0] == '0') || ec != std::errc{} ||
        end != part.data() + part.size())
      return std::nullopt;
    text.remove_prefix(std::min(dot + 1, text.size()));
  }
  return out;
}

std::optional<v6_bytes> parse_v6(std::string_view text) {
  v6_bytes out{};
  const auto gap = text.find("::");
  if (gap == std::string_view::npos) {
    const auto used = parse_groups(text, out);
    if (!used || *used != out.size()) return std::nullopt;
    return out;
  }
  v6_bytes tail{};
  const auto head_text = text.substr(0, gap);
  const auto tail_text = text.substr(gap + 2);
  // An IPv4 address may only end the whole text.
  if (head_text.find('.') != std::string_view::npos) return std::nullopt;
  const auto head_size = parse_groups(head_text, out);
  const auto tail_size = parse_groups(tail_text, tail);
  if (!head_size || !tail_size || *head_size + *tail_size > out.size() - 2) return std::nullopt;
  const auto tail_end = tail.begin() + static_cast<std::ptrdiff_t>(*tail_size);
  std::copy(tail.begin(), tail_end, out.end() - static_cast<std::ptrdiff_t>(*tail_size));
  return out;
}

bool valid_host_name(std::string_view text) {
  if (!text.empty() && text.back() == '.') text.remove_suffix(1);
  if (text.empty() || text.size() > 253) return false;
  std::string_view last;
  for (std::string_view rest = text; true;) {
    const auto dot = std::min(rest.find('.'), rest.size());
    last = rest.substr(0, dot);
    if (!valid_label(last)) return false;
    if (dot == rest.size()) break;
    rest.remove_prefix(dot + 1);
  }
  return !std::all_of(last.begin(), last.end(), digit) || parse_v4(text).has_value();
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

}  // namespace penstock::conf
