// The little HTTP/1.1 and SSE that the benchmark's own engine and clients need. It trusts its peer: whatever
// it does not expect is `bad` and counts as an error of the run.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace penstock::perf {

enum class read_status : std::uint8_t { more, done, bad };

struct message_head {
  std::string start_line;
  std::uint64_t content_length = 0;
  bool has_length = false;
  bool chunked = false;
};

// `head` is everything up to and with the blank line. False: not a head we understand.
bool parse_head(std::string_view head, message_head& out);

// Chunked transfer coding without trailers: hands out payload as it comes.
class chunk_reader {
 public:
  // Takes what it uses off the front of `bytes`.
  template <class Payload>
  read_status feed(std::string_view& bytes, Payload&& payload) {
    while (!bytes.empty()) {
      if (state_ == state::data) {
        const auto n = std::min<std::uint64_t>(left_, bytes.size());
        payload(bytes.substr(0, n));
        bytes.remove_prefix(n);
        left_ -= n;
        if (left_ == 0) state_ = state::data_end;
        continue;
      }
      const char c = bytes.front();
      bytes.remove_prefix(1);
      if (const auto status = step(c); status != read_status::more) return status;
    }
    return read_status::more;
  }
  void reset() { *this = {}; }

 private:
  enum class state : std::uint8_t { size, size_end, data, data_end, last_line };
  read_status step(char c);

  state state_ = state::size;
  bool has_digits_ = false;
  std::uint64_t left_ = 0;
};

// One message after the other on a keep-alive connection.
class message_reader {
 public:
  // Takes one message, or a part of it, off the front of `bytes`; after `done` call reset().
  template <class Payload>
  read_status feed(std::string_view& bytes, Payload&& payload) {
    if (!in_body_) {
      if (const auto status = feed_head(bytes); status != read_status::done) return status;
    }
    if (head_.chunked) return chunks_.feed(bytes, payload);
    const auto n = std::min<std::uint64_t>(left_, bytes.size());
    if (n > 0) payload(bytes.substr(0, n));
    bytes.remove_prefix(n);
    left_ -= n;
    return left_ == 0 ? read_status::done : read_status::more;
  }
  // Bytes of a sized body that are still to come; 0 for a chunked one.
  std::uint64_t left() const { return in_body_ ? left_ : 0; }
  // The caller threw away n bytes of the body without reading them.
  read_status skipped(std::uint64_t n);
  const message_head& head() const { return head_; }
  bool head_done() const { return in_body_; }
  void reset();

 private:
  read_status feed_head(std::string_view& bytes);

  std::string partial_;
  message_head head_;
  bool in_body_ = false;
  std::uint64_t left_ = 0;
  chunk_reader chunks_;
};

// Counts SSE events (blank lines) over pieces of any size, and knows the last bytes that came.
class event_counter {
 public:
  // Returns how many events this piece ended.
  std::uint32_t feed(std::string_view payload) {
    keep_tail(payload);
    std::uint32_t events = 0;
    const char* at = payload.data();
    const char* const end = at + payload.size();
    while (at < end) {
      const auto* newline =
          static_cast<const char*>(std::memchr(at, '\n', static_cast<std::size_t>(end - at)));
      if (newline == nullptr) {
        after_newline_ = false;
        break;
      }
      const bool blank = newline == at && after_newline_;
      events += blank ? 1U : 0U;
      after_newline_ = !blank;
      at = newline + 1;
    }
    return events;
  }
  bool ended_with_done() const {
    return std::string_view(tail_, sizeof tail_) == std::string_view("data: [DONE]\n\n");
  }

 private:
  void keep_tail(std::string_view payload) {
    const auto n = std::min(payload.size(), sizeof tail_);
    std::memmove(tail_, tail_ + n, sizeof tail_ - n);
    std::memcpy(tail_ + sizeof tail_ - n, payload.data() + payload.size() - n, n);
  }
  bool after_newline_ = false;
  char tail_[14] = {};
};

}  // namespace penstock::perf
