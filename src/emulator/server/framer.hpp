// HTTP/1 answers as uvicorn writes them, and the faults of framing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "emulator/server/fault.hpp"

namespace penstock::emulator {

// What one request has written, and how the connection goes on when that is sent. The connection owns it;
// whoever answers appends.
struct wire {
  enum class ending : std::uint8_t {
    open,        // more will come
    keep_alive,  // the answer is complete
    close,       // FIN
    reset,       // RST, at once
    hang,        // nothing more comes, the connection stays
    exit,        // the process exits once the bytes are sent
  };
  std::string bytes;
  ending end = ending::open;
  std::uint16_t status = 0;  // of the answer; 0: none yet
};

// Which framing the client can take.
struct framing {
  bool chunked = true;  // false: HTTP/1.0, the end of the connection ends a stream
  bool keep_alive = true;
  bool head_only = false;  // HEAD
};

class framer {
 public:
  framer(wire& out, const framing& how, const fault_plan& plan) : out_(out), how_(how), plan_(plan) {}

  void stream_head();
  // One server-sent event, its empty line included.
  void event(std::string_view text);
  void end_stream();
  // `extra`: further header lines, each with its CRLF.
  void whole(int status, std::string_view content_type, std::string_view extra, std::string_view body);
  // Break off with bytes that are half of what `text` would have been.
  void half(std::string_view text);
  void half_whole(std::string_view body);
  void garbage();
  void finish(wire::ending end) { out_.end = end; }
  void done() { out_.end = how_.keep_alive ? wire::ending::keep_alive : wire::ending::close; }

 private:
  void head(int status, std::string_view content_type, std::string_view extra);
  void chunk(std::string_view bytes);

  wire& out_;
  framing how_;
  const fault_plan& plan_;
  std::string merged_;  // events that wait for their chunk to fill
  std::uint32_t merged_count_ = 0;
};

std::string_view status_text(int status);

}  // namespace penstock::emulator
