#include "proxy/http/cached_tokens.hpp"

#include <charconv>
#include <utility>

namespace penstock::http {
namespace {

// Digits of a number, and what they say.
struct digits {
  std::size_t begin = 0, end = 0;
  std::uint64_t value = 0;
  explicit operator bool() const { return end != 0; }
};

// The number of the last member with this name (quotes and colon included). A quote inside of a string is
// escaped, so what is found is a name.
digits last_number(bytes_view text, bytes_view name) {
  const std::size_t at = text.rfind(name);
  if (at == bytes_view::npos) return {};
  const std::size_t colon = text.find_first_not_of(" \t\r\n", at + name.size());
  if (colon == bytes_view::npos || text[colon] != ':') return {};
  digits d;
  d.begin = text.find_first_not_of(" \t\r\n", colon + 1);
  if (d.begin == bytes_view::npos) return {};
  const char* const last = text.data() + text.size();
  const auto [end, ec] = std::from_chars(text.data() + d.begin, last, d.value);
  // A number of another shape (1e3, 2.0) is nothing that an engine counts.
  if (ec != std::errc{} || end == last || *end == '.' || *end == 'e' || *end == 'E') return {};
  d.end = static_cast<std::size_t>(end - text.data());
  return d;
}

// `one` and `other` do not overlap.
void replace_two(bytes_view text, const digits& one, std::uint64_t first, const digits& other,
                 std::uint64_t second, std::string& out) {
  const bool in_order = one.begin < other.begin;
  const digits& left = in_order ? one : other;
  const digits& right = in_order ? other : one;
  if (!in_order) std::swap(first, second);
  out.assign(text.substr(0, left.begin));
  out += std::to_string(first);
  out += text.substr(left.end, right.begin - left.end);
  out += std::to_string(second);
  out += text.substr(right.end);
}

}  // namespace

bool correct_cached(api_kind api, bytes_view text, std::uint64_t cached, std::string& out) {
  if (api == api_kind::messages) {
    const digits read = last_number(text, "\"cache_read_input_tokens\"");
    const digits input = last_number(text, "\"input_tokens\"");
    if (!read || !input || cached > read.value + input.value) return false;
    replace_two(text, read, cached, input, read.value + input.value - cached, out);
    return true;
  }
  const digits told = last_number(text, "\"cached_tokens\"");
  if (!told) return false;
  out.assign(text.substr(0, told.begin));
  out += std::to_string(cached);
  out += text.substr(told.end);
  return true;
}

}  // namespace penstock::http
