#include "proxy/http/head_collector.hpp"

#include <algorithm>
#include <cstring>

namespace penstock::http {

head_collector::result head_collector::take_lines(bytes_view part, std::size_t& used) {
  const std::size_t before = bytes_.size();
  std::size_t at = 0;
  while (const void* hit = std::memchr(part.data() + at, '\n', part.size() - at)) {
    const auto lf = static_cast<std::size_t>(static_cast<const char*>(hit) - part.data());
    const char previous = lf > 0 ? part[lf - 1] : before > 0 ? bytes_.back() : '\0';
    if (previous != '\r') return result::bare_line_feed;
    used = at = lf + 1;
    const bool blank = before + lf == line_start_ + 1;
    if (blank && line_start_ > 0) return result::done;
    if (blank && first_ == blank_line::ends) return result::done;
    if (blank) return result::blank_start;
    line_start_ = before + at;
    if (at == part.size()) break;
  }
  used = part.size();
  return result::more;
}

head_collector::result head_collector::take(bytes_view in, std::size_t& consumed) {
  consumed = 0;
  for (;;) {
    const bytes_view part = in.substr(consumed, std::min(in.size() - consumed, limit_ - bytes_.size()));
    if (part.empty()) return bytes_.size() >= limit_ ? result::too_large : result::more;
    std::size_t used = 0;
    const result r = take_lines(part, used);
    consumed += used;
    if (r == result::blank_start) {
      // RFC 9112 2.2: a server ignores a blank line before the request line; one, not a flood.
      if (first_ != blank_line::skip_one || skipped_) return r;
      skipped_ = true;
      bytes_.clear();
      continue;
    }
    if (r == result::bare_line_feed) return r;
    bytes_.append(part.data(), used);
    if (r == result::more && bytes_.size() >= limit_) return result::too_large;
    return r;
  }
}

void head_collector::reset(std::size_t keep) {
  if (bytes_.capacity() > keep) {
    std::string().swap(bytes_);
  } else {
    bytes_.clear();
  }
  line_start_ = 0;
  skipped_ = false;
}

}  // namespace penstock::http
