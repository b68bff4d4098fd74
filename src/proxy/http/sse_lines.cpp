#include "proxy/http/sse_lines.hpp"

#include <cstring>

namespace penstock::http {
namespace {

constexpr std::size_t npos = bytes_view::npos;

std::size_t find_byte(bytes_view in, std::size_t from, std::size_t to, char c) {
  const void* hit = std::memchr(in.data() + from, c, to - from);
  if (hit == nullptr) return npos;
  return static_cast<std::size_t>(static_cast<const char*>(hit) - in.data());
}

// Walks line ends without looking at a byte twice, even where CR and LF are mixed.
class line_finder {
 public:
  explicit line_finder(bytes_view in) : in_(in) {}

  // Offset of the first CR or LF at or after `from`, or npos.
  std::size_t next(std::size_t from) {
    if (!lf_known_ || (lf_ != npos && lf_ < from)) {
      lf_ = find_byte(in_, from, in_.size(), '\n');
      lf_known_ = true;
    }
    const std::size_t cr = find_byte(in_, from, lf_ == npos ? in_.size() : lf_, '\r');
    return cr != npos ? cr : lf_;
  }

 private:
  bytes_view in_;
  std::size_t lf_ = npos;
  bool lf_known_ = false;
};

void take_line(bytes_view line, event_fields& out, std::string& joined) {
  const bool data = line.substr(0, 4) == "data" && (line.size() == 4 || line[4] == ':');
  const bool event = !data && line.substr(0, 6) == "event:";
  if (!data && !event) return;
  bytes_view value = line.substr(event ? 6 : line.size() == 4 ? 4 : 5);
  if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (event) {
    out.name = value;
  } else if (!out.has_data) {
    out.has_data = true;
    out.data = value;
  } else {
    if (out.data.data() != joined.data() || joined.empty()) joined.assign(out.data);
    joined += '\n';
    joined += value;
    out.data = joined;
  }
}

}  // namespace

std::size_t event_splitter::skip_bom(bytes_view in) {
  std::size_t at = 0;
  while (at < in.size() && bom_ < byte_order_mark.size()) {
    if (in[at] != byte_order_mark[bom_]) {
      if (bom_ > 0) line_empty_ = false;
      bom_ = 4;
      return at;
    }
    ++bom_;
    ++at;
  }
  return at;
}

std::size_t event_splitter::find_end(bytes_view in) {
  std::size_t at = bom_ < byte_order_mark.size() ? skip_bom(in) : 0;
  line_finder lines(in);
  while (at < in.size()) {
    if (blank_cr_) {
      blank_cr_ = false;
      return in[at] == '\n' ? at + 1 : at;
    }
    if (after_cr_) {
      after_cr_ = false;
      style_ = in[at] == '\n' ? line_end::crlf : line_end::cr;
      if (in[at] == '\n') {
        ++at;
        continue;
      }
    }
    const std::size_t end = lines.next(at);
    if (end == npos) {
      line_empty_ = false;
      return npos;
    }
    const bool blank = line_empty_ && end == at;
    const bool cr = in[end] == '\r';
    at = end + 1;
    line_empty_ = true;
    if (!blank) {
      after_cr_ = cr;
      if (!cr) style_ = line_end::lf;
    } else if (!cr) {
      return at;
    } else if (style_ == line_end::cr) {
      after_cr_ = true;
      return at;
    } else {
      blank_cr_ = true;
    }
  }
  return npos;
}

event_fields read_event(bytes_view event, std::string& joined) {
  event_fields out;
  joined.clear();
  line_finder lines(event);
  std::size_t at = 0;
  while (at < event.size()) {
    std::size_t end = lines.next(at);
    if (end == npos) end = event.size();
    if (end > at) take_line(event.substr(at, end - at), out, joined);
    at = end + 1;
  }
  return out;
}

}  // namespace penstock::http
