#include "tokenizer/json_text.hpp"

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace penstock::tokenizer {
namespace {

// Bit i says that p[i] is a backslash. Written out, since compilers do not unroll at -O2; most blocks have
// none, and for those one test does.
std::uint64_t backslashes(const char* p) {
#if defined(__x86_64__)
  const __m128i wanted = _mm_set1_epi8('\\');
  const auto found = [&](int at) {
    return _mm_cmpeq_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + at)), wanted);
  };
  const __m128i a = found(0), b = found(16), c = found(32), d = found(48);
  const __m128i ab = _mm_or_si128(a, b), cd = _mm_or_si128(c, d);
  if (_mm_movemask_epi8(_mm_or_si128(ab, cd)) == 0) return 0;
  const auto bits = [](__m128i x) { return std::uint64_t{static_cast<unsigned>(_mm_movemask_epi8(x))}; };
  return bits(a) | bits(b) << 16 | bits(c) << 32 | bits(d) << 48;
#else
  std::uint64_t mask = 0;
  for (int i = 0; i < 64; ++i) mask |= std::uint64_t{p[i] == '\\'} << i;
  return mask;
#endif
}

// Of neighbouring backslashes the first, third, ... start an escape. `escaped`: the first byte belongs to
// an escape that the block before began.
std::uint64_t escape_starts(std::uint64_t mask, bool escaped) {
  if (escaped) mask &= ~std::uint64_t{1};
  if ((mask & mask << 1) == 0) return mask;
  std::uint64_t starts = 0;
  while (mask != 0) {
    const std::uint64_t lowest = mask & (~mask + 1);
    starts |= lowest;
    mask &= ~(lowest | lowest << 1);
  }
  return starts;
}

// What may follow a backslash, except u.
constexpr std::array<bool, 256> simple_escapes = [] {
  std::array<bool, 256> table{};
  for (const char c : std::string_view("\"\\/bfnrt")) table[static_cast<unsigned char>(c)] = true;
  return table;
}();

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// The four digits after \u; negative when they are none.
int code_unit(const char* p) {
  int value = 0;
  for (int i = 0; i < 4; ++i) {
    const int digit = hex_value(p[i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

constexpr bool is_high(int unit) { return unit >= 0xD800 && unit < 0xDC00; }
constexpr bool is_low(int unit) { return unit >= 0xDC00 && unit < 0xE000; }

// UTF-8 bytes of one code unit; each half of a surrogate pair counts two of the pair's four.
unsigned utf8_bytes(int unit) {
  if (unit < 0x80) return 1;
  if (unit < 0x800 || is_high(unit) || is_low(unit)) return 2;
  return 3;
}

// The \u escape at p: bytes by which it is longer than what it says, less the one that every escape counts.
// 0 when it is none.
unsigned unicode_overhead(const char* p, const char* end) {
  const int unit = end - p < 6 || p[1] != 'u' ? -1 : code_unit(p + 2);
  return unit < 0 ? 0 : 5 - utf8_bytes(unit);
}

// Bits of a block that are in front of `end`.
std::uint64_t inside(const char* block, const char* end) {
  return end - block >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << (end - block)) - 1;
}

// Escape by escape: for processors without AVX2.
[[maybe_unused]] const char* check_narrow(const char* begin, const char* end, std::uint64_t& sum) {
  const char* last = nullptr;
  bool escaped = false;
  for (const char* block = begin; block < end; block += 64) {
    std::uint64_t starts = escape_starts(backslashes(block) & inside(block, end), escaped);
    escaped = starts >> 63 != 0;
    for (; starts != 0; starts &= starts - 1) {
      const char* p = last = block + std::countr_zero(starts);
      sum += 1;
      if (simple_escapes[static_cast<unsigned char>(p[1])]) continue;
      // No backslash is inside of the digits, so the next start is behind them.
      const unsigned longer = unicode_overhead(p, end);
      if (longer == 0) return p;
      sum += longer;
    }
  }
  return last != nullptr && last + 1 == end ? last : nullptr;
}

#if defined(__x86_64__)
#define PENSTOCK_WIDE __attribute__((target("avx2,popcnt")))

PENSTOCK_WIDE inline std::uint64_t bits_of(__m256i low, __m256i high) {
  const auto a = static_cast<std::uint32_t>(_mm256_movemask_epi8(low));
  const auto b = static_cast<std::uint32_t>(_mm256_movemask_epi8(high));
  return a | std::uint64_t{b} << 32;
}

// Bytes that are none of "\/bfnrt become ff: each half byte selects the sets it may belong to (high halves
// 2, 5, 6 and 7 are one bit each), and they must meet.
PENSTOCK_WIDE inline __m256i not_simple(__m256i bytes) {
  const __m256i by_low =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 1 | 4 | 8, 0, 8, 0, 4, 0, 0, 0, 0, 0, 2, 0, 4, 1));
  const __m256i by_high =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 1, 0, 0, 2, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0));
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(15));
  const __m256i sets =
      _mm256_and_si256(_mm256_shuffle_epi8(by_low, bytes), _mm256_shuffle_epi8(by_high, high));
  return _mm256_cmpeq_epi8(sets, _mm256_setzero_si256());
}

PENSTOCK_WIDE inline __m256i load(const char* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// A block at once: escapes come in bursts that no branch predictor foresees, so only \u is a branch.
PENSTOCK_WIDE const char* check_wide(const char* begin, const char* end, std::uint64_t& overhead) {
  const __m256i wanted = _mm256_set1_epi8('\\');
  std::uint64_t starts = 0, sum = 0;
  const char* block = begin;
  for (; block < end; block += 64) {
    const __m256i low = _mm256_cmpeq_epi8(load(block), wanted);
    const __m256i high = _mm256_cmpeq_epi8(load(block + 32), wanted);
    const bool escaped = starts >> 63 != 0;
    starts = 0;
    if (_mm256_testz_si256(_mm256_or_si256(low, high), wanted)) continue;
    starts = escape_starts(bits_of(low, high) & inside(block, end), escaped);
    sum += static_cast<unsigned>(std::popcount(starts));
    const std::uint64_t unusual = bits_of(not_simple(load(block + 1)), not_simple(load(block + 33)));
    for (std::uint64_t odd = starts & unusual; odd != 0; odd &= odd - 1) {
      const char* p = block + std::countr_zero(odd);
      const unsigned longer = unicode_overhead(p, end);
      if (longer == 0) return p;
      sum += longer;
    }
  }
  // A backslash at the very end, with a byte behind it that would do but is not the string's.
  const bool open = begin < end && (starts >> (end - 1 - (block - 64)) & 1) != 0;
  overhead += sum;
  return open ? end - 1 : nullptr;
}
#undef PENSTOCK_WIDE
#endif

void append_utf8(std::string& out, std::uint32_t c) {
  const auto put = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

char simple_escape(char c) {
  switch (c) {
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return c;  // " \ /
  }
}

// Reads the \u escape at `p` and, where it is half of a pair, the other half. Returns how many bytes.
std::size_t append_unicode(const char* p, const char* end, std::string& out) {
  const int unit = code_unit(p + 2);
  if (is_high(unit) && end - p >= 12 && p[6] == '\\' && p[7] == 'u') {
    const int low = code_unit(p + 8);
    if (is_low(low)) {
      append_utf8(out, 0x10000U + (static_cast<std::uint32_t>(unit - 0xD800) << 10) +
                           static_cast<std::uint32_t>(low - 0xDC00));
      return 12;
    }
  }
  append_utf8(out, is_high(unit) || is_low(unit) ? 0xFFFDU : static_cast<std::uint32_t>(unit));
  return 6;
}

const char* skip_digits(const char* p, const char* end) {
  while (p < end && *p >= '0' && *p <= '9') ++p;
  return p;
}

// Length of the valid sequence that starts text[i], 0 when there is none (RFC 3629, table in section 4).
std::size_t utf8_sequence(bytes_view text, std::size_t i) {
  const auto at = [text](std::size_t k) {
    return k < text.size() ? static_cast<unsigned char>(text[k]) : std::uint8_t{0};
  };
  const auto tail = [&at](std::size_t k) { return (at(k) & 0xC0) == 0x80; };
  const unsigned char lead = at(i), second = at(i + 1);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return tail(i + 1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool bad = !tail(i + 1) || (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F);
    return !bad && tail(i + 2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool bad = !tail(i + 1) || (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F);
    return !bad && tail(i + 2) && tail(i + 3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

bool has_escape(bytes_view raw) {
  const char* const p = raw.data();
  if (raw.size() <= 64) return (backslashes(p) & inside(p, p + raw.size())) != 0;
  return std::memchr(p, '\\', raw.size()) != nullptr;
}

const char* check_escapes(const char* begin, const char* end, std::uint64_t& overhead) {
  std::uint64_t sum = 0;
  if (end - begin <= 64 && (backslashes(begin) & inside(begin, end)) == 0) return nullptr;
#if defined(__x86_64__)
  const bool wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
  const char* fault = wide ? check_wide(begin, end, sum) : check_narrow(begin, end, sum);
#else
  const char* fault = check_narrow(begin, end, sum);
#endif
  if (!fault) overhead += sum;
  return fault;
}

void unescape(bytes_view raw, std::string& out) {
  const char* p = raw.data();
  const char* const end = p + raw.size();
  while (p < end) {
    const void* found = std::memchr(p, '\\', static_cast<std::size_t>(end - p));
    const char* at = found ? static_cast<const char*>(found) : end;
    out.append(p, at);
    if (at == end) return;
    if (at[1] == 'u') {
      p = at + append_unicode(at, end, out);
    } else {
      out.push_back(simple_escape(at[1]));
      p = at + 2;
    }
  }
}

bool is_json_number(bytes_view token) {
  const char* p = token.data();
  const char* const end = p + token.size();
  if (p < end && *p == '-') ++p;
  const char* digits = p;
  p = skip_digits(p, end);
  if (p == digits || (*digits == '0' && p - digits > 1)) return false;
  if (p < end && *p == '.') {
    digits = ++p;
    p = skip_digits(p, end);
    if (p == digits) return false;
  }
  if (p < end && (*p == 'e' || *p == 'E')) {
    ++p;
    if (p < end && (*p == '+' || *p == '-')) ++p;
    digits = p;
    p = skip_digits(p, end);
    if (p == digits) return false;
  }
  return p == end;
}

std::optional<std::int64_t> integer_of(bytes_view token) {
  using limits = std::numeric_limits<std::int64_t>;
  if (token.empty() || token[0] == '"') return std::nullopt;
  const std::int64_t beyond = token[0] == '-' ? limits::min() : limits::max();
  if (token.find_first_of(".eE") == bytes_view::npos) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
    if (error == std::errc::result_out_of_range) return beyond;
    if (error != std::errc{} || end != token.data() + token.size()) return std::nullopt;
    return value;
  }
  double value = 0;
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
  if (error != std::errc{} || end != token.data() + token.size() || value != std::trunc(value)) {
    return std::nullopt;
  }
  if (std::fabs(value) >= 9.2e18) return beyond;
  return static_cast<std::int64_t>(value);
}

std::size_t first_invalid_utf8(bytes_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const std::size_t length = utf8_sequence(text, i);
    if (length == 0) return i;
    i += length;
  }
  return i;
}

}  // namespace penstock::tokenizer
