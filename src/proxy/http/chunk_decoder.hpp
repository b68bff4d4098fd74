// Takes the chunked coding off a body, strictly, without copying.
#pragma once

#include <cstdint>

#include "proxy/http/head_collector.hpp"
#include "proxy/http/head_scan.hpp"
#include "proxy/http/request_parser.hpp"

namespace penstock::http {

// One per message. Chunk sizes are 1 to 16 plain hex digits below 2^60; a chunk
// may have one extension, ;token[=token|"text"] without blanks (llhttp 8.1 and 9.2 differ on more). It is
// dropped, as are trailers; both are bounded.
class chunk_decoder {
 public:
  explicit chunk_decoder(std::size_t overhead_limit)
      : limit_(overhead_limit), trailers_(overhead_limit, head_collector::blank_line::ends) {}

  // Appends the data found to `body` and says how much of `in` was used: all of it unless `body` is
  // full, the message ended, or it failed.
  std::size_t decode(bytes_view in, body_spans& body);

  // How many bytes of the last decode() came before the trailer section.
  std::size_t before_trailers() const { return before_trailers_; }

  bool done() const { return state_ == state::done; }
  const scan_failure& failure() const { return failure_; }
  void reset();

 private:
  enum class state : std::uint8_t {
    size_start,
    size,
    extension_name_start,
    extension_name,
    extension_value_start,
    extension_value,
    extension_quoted,
    extension_after,
    size_lf,
    data,
    data_cr,
    data_lf,
    trailers,
    done,
    failed
  };

  void framing_byte(char c);
  void size_byte(char c);
  void extension_byte(char c);
  void after_extension(char c);
  void size_line_ended();
  std::size_t take_trailers(bytes_view in);
  void fail(std::string_view what) { fail(reason::bad_framing, what); }
  void fail(reason why, std::string_view what);

  std::uint64_t left_ = 0;  // of the size being read, then of the data
  std::size_t limit_;
  std::size_t overhead_ = 0;  // extension bytes of the message so far
  std::size_t before_trailers_ = 0;
  unsigned digits_ = 0;
  state state_ = state::size_start;
  scan_failure failure_;
  head_collector trailers_;
};

}  // namespace penstock::http
