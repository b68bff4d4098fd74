#include "proxy/handoff/raw_json.hpp"

#include <cstdint>
#include <utility>

#include "penstock/json_blanks.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace penstock::handoff {
namespace {

constexpr std::size_t npos = bytes_view::npos;
constexpr unsigned most_depth = 64;  // a bit each

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// The byte at a place, or one that nothing begins with.
char byte_at(bytes_view text, std::size_t at) { return at < text.size() ? text[at] : '\0'; }

// First byte that does not stand for itself in a string: quote, backslash or control character; or the end.
std::size_t plain_end(bytes_view text, std::size_t at) {
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), controls = _mm_set1_epi8(0x1f);
  for (; at + 16 <= text.size(); at += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + at));
    const __m128i marks = _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash));
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, controls), v);
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(marks, low)));
    if (mask != 0) return at + static_cast<unsigned>(__builtin_ctz(mask));
  }
#endif
  while (at < text.size() && text[at] != '"' && text[at] != '\\' &&
         static_cast<unsigned char>(text[at]) > 0x1f)
    ++at;
  return at;
}

std::size_t escape_end(bytes_view text, std::size_t at) {
  const char c = byte_at(text, at + 1);
  if (c != 'u') return c != '\0' && bytes_view("\"\\/bfnrt").find(c) != npos ? at + 2 : npos;
  for (std::size_t i = at + 2; i < at + 6; ++i)
    if (!is_hex(byte_at(text, i))) return npos;
  return at + 6;
}

std::size_t string_end(bytes_view text, std::size_t at) {
  if (byte_at(text, at) != '"') return npos;
  for (++at;;) {
    at = plain_end(text, at);
    const char c = byte_at(text, at);
    if (c == '"') return at + 1;
    at = c == '\\' ? escape_end(text, at) : npos;
    if (at == npos) return npos;
  }
}

std::size_t digits_end(bytes_view text, std::size_t at) {
  const std::size_t from = at;
  while (is_digit(byte_at(text, at))) ++at;
  return at == from ? npos : at;
}

std::size_t number_end(bytes_view text, std::size_t at) {
  if (text[at] == '-') ++at;
  const bool zero = byte_at(text, at) == '0';
  at = zero ? at + 1 : digits_end(text, at);
  if (at != npos && byte_at(text, at) == '.') at = digits_end(text, at + 1);
  if (at == npos || (byte_at(text, at) | 0x20) != 'e') return at;
  const char sign = byte_at(text, ++at);
  return digits_end(text, sign == '+' || sign == '-' ? at + 1 : at);
}

std::size_t scalar_end(bytes_view text, std::size_t at) {
  const char c = byte_at(text, at);
  if (c == '"') return string_end(text, at);
  if (c == '-' || is_digit(c)) return number_end(text, at);
  for (const std::string_view word : {"true", "false", "null"})
    if (text.substr(std::min(at, text.size())).starts_with(word)) return at + word.size();
  return npos;
}

// Where the value of the member begins whose name ends before `at`.
std::size_t value_begin(bytes_view text, std::size_t at) {
  if (at == npos) return npos;
  at = skip_blanks(text, at);
  return byte_at(text, at) == ':' ? skip_blanks(text, at + 1) : npos;
}

// `at` is where an element of an array begins. Goes on to the beginning of a later one, as long as elements
// are integers without a sign, a comma and at most one blank between them. A bit for each of 64 bytes.
std::size_t skip_integers(bytes_view text, std::size_t at) {
  std::size_t i = at;
#if defined(__SSE2__)
  constexpr std::size_t window = 64;
  const __m128i zero = _mm_set1_epi8('0'), nine = _mm_set1_epi8(9), comma = _mm_set1_epi8(','),
                blank = _mm_set1_epi8(' ');
  std::uint64_t digit = 0, separator = 0, first_zero = 0;  // what the byte before the window is
  for (; i + window <= text.size(); i += window) {
    const auto* const from = reinterpret_cast<const __m128i*>(text.data() + i);
    const __m128i v[] = {_mm_loadu_si128(from), _mm_loadu_si128(from + 1), _mm_loadu_si128(from + 2),
                         _mm_loadu_si128(from + 3)};
    const auto bits = [&v](auto equal) {
      const auto part = [&](int n) {
        return std::uint64_t{static_cast<unsigned>(_mm_movemask_epi8(equal(v[n])))};
      };
      return part(0) | part(1) << 16 | part(2) << 32 | part(3) << 48;
    };
    const std::uint64_t digits = bits([&](__m128i x) {
      const __m128i from_zero = _mm_sub_epi8(x, zero);
      return _mm_cmpeq_epi8(_mm_min_epu8(from_zero, nine), from_zero);
    });
    const std::uint64_t zeros = bits([&](__m128i x) { return _mm_cmpeq_epi8(x, zero); });
    const std::uint64_t commas = bits([&](__m128i x) { return _mm_cmpeq_epi8(x, comma); });
    const std::uint64_t blanks = bits([&](__m128i x) { return _mm_cmpeq_epi8(x, blank); });
    const std::uint64_t after_digit = digits << 1 | digit, first_zeros = zeros & ~after_digit;
    const std::uint64_t bad = ~((digits & ~(first_zeros << 1 | first_zero)) | (commas & after_digit) |
                                (blanks & (commas << 1 | separator)));
    if (bad != 0) {
      i += static_cast<unsigned>(__builtin_ctzll(bad));
      break;
    }
    digit = digits >> 63;
    separator = commas >> 63;
    first_zero = first_zeros >> 63;
  }
#endif
  while (i > at && text[i - 1] != ',') --i;
  return i;
}

}  // namespace

std::size_t value_end(bytes_view text, std::size_t at) {
  std::uint64_t objects = 0;  // one bit for each level that is open, the innermost lowest
  for (unsigned depth = 0;;) {
    const char c = byte_at(text, at);
    bool begins = c == '{' || c == '[';
    if (begins) {
      if (depth++ == most_depth) return npos;
      objects = objects << 1 | (c == '{' ? 1U : 0U);
      at = skip_blanks(text, at + 1);
    } else {
      at = scalar_end(text, at);
    }
    // Behind a value, or inside an object or array that begins.
    for (;; begins = false) {
      if (at == npos || depth == 0) return at;
      at = skip_blanks(text, at);
      const bool object = (objects & 1) != 0;
      const char next = byte_at(text, at);
      if (next == (object ? '}' : ']')) {
        ++at;
        --depth;
        objects >>= 1;
        continue;
      }
      if (!begins && next != ',') return npos;
      if (!begins) at = skip_blanks(text, at + 1);
      if (object) at = value_begin(text, string_end(text, at));
      if (!object && begins) at = skip_blanks(text, skip_integers(text, at));
      if (at == npos) return npos;
      break;
    }
  }
}

raw_walk::raw_walk(bytes_view text, char opens) : text_(text), closes_(opens == '{' ? '}' : ']') {
  at_ = skip_blanks(text, 0);
  if (byte_at(text, at_) != opens) return;
  at_ = skip_blanks(text, at_ + 1);
  more_ = byte_at(text, at_) != closes_;
  well_formed_ = !more_ && skip_blanks(text, at_ + 1) == text.size();
}

bool raw_walk::next() {
  if (!std::exchange(more_, false)) return false;
  const bool named = closes_ == '}';
  const std::size_t begin = at_, name = named ? string_end(text_, begin) : begin;
  const std::size_t value = named ? value_begin(text_, name) : begin;
  const std::size_t end = value == npos ? npos : value_end(text_, value);
  if (end == npos) return false;
  here_ = {.name = {}, .value = text_.substr(value, end - value), .text = text_.substr(begin, end - begin)};
  if (named) here_.name = text_.substr(begin + 1, name - begin - 2);
  at_ = skip_blanks(text_, end);
  const char c = byte_at(text_, at_);
  more_ = c == ',';
  well_formed_ = c == closes_ && skip_blanks(text_, at_ + 1) == text_.size();
  at_ = skip_blanks(text_, at_ + 1);
  return more_ || c == closes_;
}

std::string with_value(bytes_view object, std::string_view name, std::string_view value) {
  const bytes_view old = member_of(object, name);
  std::string out(object);
  if (!old.empty()) out.replace(static_cast<std::size_t>(old.data() - object.data()), old.size(), value);
  return out;
}

}  // namespace penstock::handoff
