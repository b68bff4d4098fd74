#include "wire.hpp"

#include <charconv>

namespace penstock::perf {
namespace {

constexpr std::size_t head_bytes_max = 64 * 1024;

bool is_field(std::string_view line, std::string_view lower_name) {
  if (line.size() <= lower_name.size() || line[lower_name.size()] != ':') return false;
  for (std::size_t i = 0; i < lower_name.size(); ++i) {
    const char c = line[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) != lower_name[i]) return false;
  }
  return true;
}

bool read_field(std::string_view line, message_head& out) {
  if (is_field(line, "content-length")) {
    auto value = line.substr(sizeof "content-length:" - 1);
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), out.content_length);
    out.has_length = error == std::errc() && end == value.data() + value.size();
    return out.has_length;
  }
  if (is_field(line, "transfer-encoding")) out.chunked = line.find("chunked") != std::string_view::npos;
  return true;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

bool parse_head(std::string_view head, message_head& out) {
  bool first = true;
  while (!head.empty()) {
    const auto end = head.find("\r\n");
    if (end == std::string_view::npos) return false;
    const auto line = head.substr(0, end);
    head.remove_prefix(end + 2);
    if (first) {
      out.start_line = line;
      first = false;
    } else if (!read_field(line, out)) {
      return false;
    }
  }
  return !first;
}

read_status chunk_reader::step(char c) {
  switch (state_) {
    case state::size:
      if (const int digit = hex_digit(c); digit >= 0) {
        left_ = left_ * 16 + static_cast<std::uint64_t>(digit);
        has_digits_ = true;
      } else if (c == '\r' && has_digits_) {
        state_ = state::size_end;
      } else {
        return read_status::bad;
      }
      return read_status::more;
    case state::size_end:
      if (c != '\n') return read_status::bad;
      state_ = left_ == 0 ? state::last_line : state::data;
      return read_status::more;
    case state::data: return read_status::bad;
    case state::data_end:
      if (c == '\n') {
        state_ = state::size;
        has_digits_ = false;
      }
      return c == '\r' || c == '\n' ? read_status::more : read_status::bad;
    case state::last_line:
      if (c == '\n') return read_status::done;
      return c == '\r' ? read_status::more : read_status::bad;
  }
  return read_status::bad;
}

read_status message_reader::feed_head(std::string_view& bytes) {
  const auto had = partial_.size();
  partial_.append(bytes.substr(0, head_bytes_max - std::min(had, head_bytes_max)));
  const auto end = partial_.find("\r\n\r\n", had < 3 ? 0 : had - 3);
  if (end == std::string::npos) {
    bytes = {};
    return partial_.size() < head_bytes_max ? read_status::more : read_status::bad;
  }
  bytes.remove_prefix(end + 4 - had);
  if (!parse_head(std::string_view(partial_).substr(0, end + 2), head_)) return read_status::bad;
  left_ = head_.chunked ? 0 : head_.content_length;
  in_body_ = true;
  return read_status::done;
}

read_status message_reader::skipped(std::uint64_t n) {
  if (n > left_) return read_status::bad;
  left_ -= n;
  return left_ == 0 ? read_status::done : read_status::more;
}

void message_reader::reset() {
  partial_.clear();
  head_ = {};
  in_body_ = false;
  left_ = 0;
  chunks_.reset();
}

}  // namespace penstock::perf
