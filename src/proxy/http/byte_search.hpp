// Searches for short words in event bytes: no JSON, only bytes that JSON cannot show by accident.
//
// A JSON string holds a quote only as \" , so a word between two plain quotes is always a whole string
// of the document: a key, or a value that happens to be equal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "penstock/bytes.hpp"
#include "penstock/json_blanks.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace penstock::http {

// Calls visit(position) for each i where text[i] == first and text[i + gap] == last, in order, until it
// returns true. Some 16 bytes a step where the machine has SSE2.
template <class Visit>
bool each_pair(bytes_view text, char first, char last, std::size_t gap, Visit visit) {
  const char* const data = text.data();
  const std::size_t n = text.size();
  std::size_t i = 0;
#if defined(__SSE2__)
  const __m128i firsts = _mm_set1_epi8(first);
  const __m128i lasts = _mm_set1_epi8(last);
  for (; i + gap + 16 <= n; i += 16) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + i));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + i + gap));
    const __m128i both = _mm_and_si128(_mm_cmpeq_epi8(a, firsts), _mm_cmpeq_epi8(b, lasts));
    for (auto mask = static_cast<unsigned>(_mm_movemask_epi8(both)); mask != 0; mask &= mask - 1) {
      if (visit(i + static_cast<unsigned>(__builtin_ctz(mask)))) return true;
    }
  }
#endif
  while (i + gap < n) {
    const void* hit = std::memchr(data + i, first, n - gap - i);
    if (hit == nullptr) return false;
    i = static_cast<std::size_t>(static_cast<const char*>(hit) - data);
    if (data[i + gap] == last && visit(i)) return true;
    ++i;
  }
  return false;
}

// Offset of the first `word` (two bytes or more) in `text`, or npos.
inline std::size_t find_word(bytes_view text, bytes_view word) {
  std::size_t found = bytes_view::npos;
  each_pair(text, word.front(), word.back(), word.size() - 1, [&](std::size_t at) {
    if (std::memcmp(text.data() + at, word.data(), word.size()) != 0) return false;
    found = at;
    return true;
  });
  return found;
}

// First quote or backslash at or after `from`, or npos.
inline std::size_t find_string_end(bytes_view in, std::size_t from) {
  std::size_t i = from;
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
  for (; i + 16 <= in.size(); i += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in.data() + i));
    const auto mask = static_cast<unsigned>(
        _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash))));
    if (mask != 0) return i + static_cast<unsigned>(__builtin_ctz(mask));
  }
#endif
  for (; i < in.size(); ++i) {
    if (in[i] == '"' || in[i] == '\\') return i;
  }
  return bytes_view::npos;
}

// Where the value of a key begins whose closing quote is just before `after`; npos if it is no key.
inline std::size_t value_of_key(bytes_view text, std::size_t after) {
  const std::size_t colon = skip_blanks(text, after);
  if (colon >= text.size() || text[colon] != ':') return bytes_view::npos;
  const std::size_t value = skip_blanks(text, colon + 1);
  return value < text.size() ? value : bytes_view::npos;
}

}  // namespace penstock::http
