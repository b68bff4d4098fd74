#include "proxy/http/answer_reader.hpp"

#include <cstring>
#include <utility>

#include "proxy/http/event_json.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace penstock::http {
namespace {

constexpr std::size_t max_kept = 4096;
constexpr std::size_t max_id = 256;
constexpr std::size_t max_key = 64;
constexpr std::size_t usual_usage = 256;
constexpr std::size_t npos = bytes_view::npos;

bool is_structural(char c) { return c == '"' || c == '{' || c == '}' || c == '[' || c == ']' || c == ','; }

// First quote or backslash at or after `from`, or npos.
std::size_t find_string_end(bytes_view in, std::size_t from) {
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
  return npos;
}

// First byte that opens, closes or separates something, or npos. Deeper than the outermost object
// commas do not matter, which is what makes arrays of numbers cheap.
std::size_t find_structural(bytes_view in, std::size_t from, bool commas) {
  std::size_t i = from;
#if defined(__SSE2__)
  // '[' and '{', ']' and '}' differ in bit 5 only.
  const __m128i bit = _mm_set1_epi8(0x20), open = _mm_set1_epi8('{'), close = _mm_set1_epi8('}');
  const __m128i quote = _mm_set1_epi8('"'), comma = _mm_set1_epi8(commas ? ',' : '"');
  for (; i + 16 <= in.size(); i += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in.data() + i));
    const __m128i low = _mm_or_si128(v, bit);
    const __m128i brackets = _mm_or_si128(_mm_cmpeq_epi8(low, open), _mm_cmpeq_epi8(low, close));
    const __m128i others = _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, comma));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(brackets, others)));
    if (mask != 0) return i + static_cast<unsigned>(__builtin_ctz(mask));
  }
#endif
  for (; i < in.size(); ++i) {
    if (is_structural(in[i]) && (commas || in[i] != ',')) return i;
  }
  return npos;
}

#if defined(__SSE2__)
// A bit for each of 16 bytes that is a quote, a backslash or a bracket.
unsigned marks_of(const char* bytes) {
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  const __m128i low = _mm_or_si128(v, _mm_set1_epi8(0x20));
  const __m128i brackets =
      _mm_or_si128(_mm_cmpeq_epi8(low, _mm_set1_epi8('{')), _mm_cmpeq_epi8(low, _mm_set1_epi8('}')));
  const __m128i strings =
      _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
  return static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(brackets, strings)));
}
#endif

}  // namespace

// What lies deeper than the members of the outermost object is most of an answer, and of it only the end
// is of interest: strings and brackets are followed.
std::size_t answer_reader::skip_nested(bytes_view in, std::size_t at) {
  std::uint32_t depth = depth_;
  bool string = in_string_, escaped = escaped_;
  const auto leave = [&](std::size_t next) {
    depth_ = depth;
    in_string_ = string;
    escaped_ = escaped;
    return next;
  };
  // True when the outermost object's level is reached.
  const auto take = [&](char c) {
    if (c == '"') {
      string = !string;
    } else if (!string && (c == '{' || c == '[')) {
      ++depth;
    } else if (!string && (c == '}' || c == ']')) {
      return --depth == 1;
    }
    return false;
  };
#if defined(__SSE2__)
  for (; at + 16 <= in.size(); at += 16) {
    unsigned marks = marks_of(in.data() + at);
    if (std::exchange(escaped, false)) marks &= ~1U;
    for (; marks != 0; marks &= marks - 1) {
      const auto bit = static_cast<unsigned>(__builtin_ctz(marks));
      const char c = in[at + bit];
      if (c != '\\') {
        if (take(c)) return leave(at + bit + 1);
      } else if (string) {
        escaped = bit == 15;
        marks &= ~(2U << bit);  // what a backslash is before means nothing
      }
    }
  }
#endif
  for (; at < in.size(); ++at) {
    if (std::exchange(escaped, false)) continue;
    escaped = string && in[at] == '\\';
    if (take(in[at])) return leave(at + 1);
  }
  return leave(at);
}

answer_reader::answer_reader(api_kind api) : api_(api) {}

void answer_reader::keep(bytes_view bytes) {
  const std::size_t limit = reading_key_ ? max_key : max_kept;
  if (kept_.size() + bytes.size() > limit) {
    overflow_ = true;
    return;
  }
  kept_.append(bytes);
}

void answer_reader::string_begins() {
  in_string_ = true;
  if (depth_ == 1 && key_next_) {
    reading_key_ = true;
    overflow_ = false;
    kept_.clear();
  }
}

void answer_reader::string_ended() {
  in_string_ = false;
  if (!reading_key_) return;
  reading_key_ = key_next_ = false;
  value_ = wanted::nothing;
  if (!overflow_ && kept_ == "usage") {
    value_ = wanted::usage;
    place_ = {at_, npos};
    kept_.reserve(usual_usage);
  }
  if (!overflow_ && kept_ == "id" && api_ == api_kind::responses) value_ = wanted::id;
  kept_.clear();
  overflow_ = false;
}

// A member of the outermost object is over; kept_ has ": value" of a wanted one.
void answer_reader::value_ended() {
  if (value_ == wanted::usage) place_.end = at_;
  if (value_ != wanted::nothing && !overflow_) {
    bytes_view value = kept_;
    const std::size_t begin = value.find_first_not_of(": \t\r\n");
    value = begin == npos ? bytes_view() : value.substr(begin);
    if (value_ == wanted::usage && !value.empty() && value.front() == '{') {
      read_usage_json(value, usage_);
    } else if (value_ == wanted::id && value.size() > 2 && value.size() <= max_id && value.front() == '"') {
      const std::size_t end = value.find('"', 1);
      const bytes_view id = value.substr(1, end == npos ? 0 : end - 1);
      if (id.find('\\') == npos) response_id_.assign(id);
    }
  }
  value_ = wanted::nothing;
  kept_.clear();
  overflow_ = false;
}

void answer_reader::structural(char c) {
  switch (c) {
    case '{':
    case '[':
      if (depth_ == 0 && c == '[') done_ = true;
      if (++depth_ == 1) key_next_ = true;
      break;
    case '}':
    case ']':
      if (depth_ == 0 || --depth_ == 0) {
        value_ended();
        done_ = true;
      }
      break;
    default:
      if (depth_ == 1) {
        value_ended();
        key_next_ = true;
      }
  }
}

std::size_t answer_reader::inside_string(bytes_view in, std::size_t at) {
  if (escaped_) {
    escaped_ = false;
    if (reading_key_ || value_ != wanted::nothing) keep(in.substr(at, 1));
    return at + 1;
  }
  const std::size_t end = find_string_end(in, at);
  const std::size_t stop = end == npos ? in.size() : end;
  // The closing quote belongs to a wanted value, not to a key.
  const bool quote = end != npos && in[end] == '"';
  const std::size_t take = end == npos ? stop : quote && reading_key_ ? stop : stop + 1;
  if (reading_key_ || value_ != wanted::nothing) keep(in.substr(at, take - at));
  if (end == npos) return in.size();
  at_ = end;
  if (quote) {
    string_ended();
  } else {
    escaped_ = true;
  }
  return end + 1;
}

std::size_t answer_reader::outside_string(bytes_view in, std::size_t at) {
  const std::size_t end = find_structural(in, at, depth_ <= 1);
  const std::size_t stop = end == npos ? in.size() : end;
  if (value_ != wanted::nothing) keep(in.substr(at, stop - at));
  if (end == npos) return in.size();
  const char c = in[end];
  const bool closes = depth_ == 1 && (c == '}' || c == ',');
  if (value_ != wanted::nothing && !closes) keep(in.substr(end, 1));
  at_ = end;
  if (c == '"') {
    string_begins();
  } else {
    structural(c);
  }
  return end + 1;
}

void answer_reader::feed(bytes_view in) {
  std::size_t at = 0;
  place_ = {};
  while (at < in.size() && !done_) {
    if (depth_ > 1) {
      const std::size_t from = at;
      at = skip_nested(in, from);
      if (value_ != wanted::nothing) keep(in.substr(from, at - from));
    } else {
      at = in_string_ ? inside_string(in, at) : outside_string(in, at);
    }
  }
}

void answer_reader::finish() {
  done_ = true;
  std::string().swap(kept_);
}

}  // namespace penstock::http
