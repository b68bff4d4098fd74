// Collects a message head (or a trailer section) until its blank line, in any pieces, in linear time.
#pragma once

#include <cstddef>
#include <string>

#include "penstock/bytes.hpp"

namespace penstock::http {

// Owns the raw bytes of one head, CRLFCRLF included. A line feed without a carriage return before it
// is noticed as soon as it arrives, so nobody waits for the end of a head that cannot be good.
class head_collector {
 public:
  enum class result : std::uint8_t { more, done, too_large, bare_line_feed, blank_start };
  // What a blank line before any other line means.
  enum class blank_line : std::uint8_t { skip_one, refuse, ends };

  head_collector(std::size_t limit, blank_line first) : limit_(limit), first_(first) {}

  // Takes bytes from `in` up to the end of the head; `consumed` says how many.
  result take(bytes_view in, std::size_t& consumed);

  bytes_view bytes() const { return bytes_; }
  bool empty() const { return bytes_.empty(); }

  // Hands over the bytes for another buffer, which reset() is to empty.
  void exchange(std::string& buffer) { bytes_.swap(buffer); }

  // Forgets everything; keeps the buffer unless it holds more than `keep` bytes of capacity.
  void reset(std::size_t keep);

 private:
  result take_lines(bytes_view part, std::size_t& used);

  std::string bytes_;
  std::size_t limit_;
  std::size_t line_start_ = 0;  // offset in bytes_ where the current line begins
  blank_line first_;
  bool skipped_ = false;
};

}  // namespace penstock::http
