#include "proxy/http/answer_reader.hpp"

#include <cstring>
#include <utility>

#include "proxy/http/byte_search.hpp"
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

// The end of a string or scalar that begins at `at`; npos when it is not all here.
std::size_t flat_value(bytes_view in, std::size_t at) {
  if (in[at] != '"') {
    const std::size_t end = find_structural(in, at, true);
    return end != npos && end != at ? end : npos;
  }
  for (std::size_t from = at + 1;;) {
    const std::size_t end = find_string_end(in, from);
    if (end == npos) return npos;
    if (in[end] == '"') return end + 1;
    from = end + 2;
  }
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
  value_ = overflow_ ? wanted::nothing : meaning(kept_);
  if (value_ == wanted::usage) {
    place_ = {at_, npos};
    kept_.reserve(usual_usage);
  }
  kept_.clear();
  overflow_ = false;
}

answer_reader::wanted answer_reader::meaning(bytes_view key) const {
  if (key == "usage") return wanted::usage;
  return key == "id" && api_ == api_kind::responses ? wanted::id : wanted::nothing;
}

void answer_reader::take_value(wanted what, bytes_view value) {
  if (what == wanted::usage && value.front() == '{' && value.size() <= max_kept) {
    read_usage_json(value, usage_);
  } else if (what == wanted::id && value.size() > 2 && value.size() <= max_id && value.front() == '"') {
    const std::size_t end = value.find('"', 1);
    const bytes_view id = value.substr(1, end == npos ? 0 : end - 1);
    if (id.find('\\') == npos) response_id_.assign(id);
  }
}

// A member of the outermost object is over; kept_ has ": value" of a wanted one.
void answer_reader::value_ended() {
  if (value_ == wanted::usage) place_.end = at_;
  if (value_ != wanted::nothing && !overflow_) {
    const std::size_t begin = kept_.find_first_not_of(": \t\r\n");
    if (begin != npos) take_value(value_, bytes_view(kept_).substr(begin));
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

// Takes members of the outermost object that are whole in `in` without keeping anything of them, since most
// answers come in one piece. Returns where feed() goes on, in the state that reading byte by byte leads to.
std::size_t answer_reader::whole_members(bytes_view in, std::size_t at) {
  for (;;) {
    const std::size_t begin = skip_blanks(in, at);
    if (begin == in.size() || in[begin] != '"') return begin;
    const std::size_t key_end = find_string_end(in, begin + 1);
    if (key_end == npos || in[key_end] != '"') return begin;
    const std::size_t value = value_of_key(in, key_end + 1);
    if (value == npos) return begin;
    const wanted what = meaning(in.substr(begin + 1, key_end - begin - 1));
    const bool nested = in[value] == '{' || in[value] == '[';
    if (nested) depth_ = 2;
    const std::size_t end = nested ? skip_nested(in, value + 1) : flat_value(in, value);
    const std::size_t next = end == npos ? in.size() : skip_blanks(in, end);
    const bool whole = depth_ == 1 && next < in.size() && (in[next] == ',' || in[next] == '}');
    if (!whole && !nested) return begin;
    if (what == wanted::usage) place_ = {key_end, whole ? next : npos};
    if (!whole) {
      key_next_ = false;
      value_ = what;
      if (what != wanted::nothing) keep(in.substr(key_end + 1, end - key_end - 1));
      return end;
    }
    if (what != wanted::nothing) take_value(what, in.substr(value, end - value));
    done_ = in[next] == '}';
    at = next + 1;
    if (done_) return at;
  }
}

void answer_reader::feed(bytes_view in) {
  std::size_t at = 0;
  place_ = {};
  while (at < in.size() && !done_) {
    if (depth_ == 1 && key_next_ && !in_string_) {
      at = whole_members(in, at);
      if (at == in.size() || done_) return;
    }
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
