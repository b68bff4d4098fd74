// Header lines that a connection repeats: read once by both readers, then only compared.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "penstock/bytes.hpp"
#include "penstock/inline_vector.hpp"
#include "proxy/http/head.hpp"
#include "proxy/http/head_collector.hpp"

namespace penstock::http {

// The header lines of a connection's last accepted head. A peer that keeps its connection repeats nearly all
// of them byte for byte, and what both readers took from a line holds for its next copy: to either a line
// stands for itself, but for those about framing and the connection, which are never known here.
class known_lines {
 public:
  // Before the first line of a head.
  void rewind() { next_ = 0; }

  // If `rest` begins with a known line: its field and its size, CRLF included. Lines are looked for in the
  // order of the last head; one that is gone there does no harm.
  bool take(bytes_view rest, field& out, std::size_t& size) {
    for (std::size_t i = next_; i < lines_.size() && i < next_ + 2; ++i) {
      const line& l = lines_[i];
      if (l.size == 0 || l.size > rest.size() ||
          std::memcmp(rest.data(), bytes_.data() + l.begin, l.size) != 0)
        continue;
      out.name = {rest.data(), l.name};
      out.value = {rest.data() + l.value, l.value_size};
      out.plain = l.plain;
      out.kind = l.kind;
      size = l.size;
      next_ = i + 1;
      return true;
    }
    return false;
  }
  // The next line of the head is not known; the last head had this one in its place if the names are equal.
  void pass(bytes_view name) {
    if (next_ < lines_.size() && bytes_view(bytes_).substr(lines_[next_].begin, lines_[next_].name) == name)
      ++next_;
  }

  // Takes over the bytes of an accepted head, whose fields these are; forgets all lines if it is larger than
  // `most_bytes` or has more than `most_fields` fields.
  void remember(head_collector& raw, const std::vector<field>& fields, std::size_t most_bytes,
                std::size_t most_fields);

 private:
  // Offsets in bytes_, and in the line itself. Size 0: never known.
  struct line {
    std::uint32_t begin, size, name, value, value_size;
    bool plain;
    field_kind kind;
  };
  std::string bytes_;
  std::vector<line> lines_;
  std::size_t next_ = 0;
};

// What of a head the second reader has to read: all but lines that it read before. Views into the head.
class unread_parts {
 public:
  void begin(bytes_view head) {
    parts_.clear();
    rest_ = head;
  }
  // `line` of the head needs no second reading.
  void skip(bytes_view line) {
    if (parts_.size() + 1 == parts_.capacity()) return;  // to read more than is needed does no harm
    const auto before = static_cast<std::size_t>(line.data() - rest_.data());
    if (before != 0) parts_.push_back(rest_.substr(0, before));
    rest_.remove_prefix(before + line.size());
  }
  void end() { parts_.push_back(rest_); }
  std::span<const bytes_view> all() const { return {parts_.data(), parts_.size()}; }

 private:
  inline_vector<bytes_view, 16> parts_;
  bytes_view rest_;
};

}  // namespace penstock::http
