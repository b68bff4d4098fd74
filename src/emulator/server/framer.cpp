#include "emulator/server/framer.hpp"

#include <fmt/format.h>

#include <ctime>
#include <iterator>

namespace penstock::emulator {
namespace {

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[40];
  return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

}  // namespace

std::string_view status_text(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 413: return "Request Entity Too Large";
    case 429: return "Too Many Requests";
    case 500: return "Internal Server Error";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "Error";
  }
}

void framer::head(int status, std::string_view content_type, std::string_view extra) {
  if (plan_.informational) out_.bytes += "HTTP/1.1 103 Early Hints\r\nlink: </>; rel=preload\r\n\r\n";
  out_.status = static_cast<std::uint16_t>(status);
  fmt::format_to(std::back_inserter(out_.bytes), "HTTP/1.1 {} {}\r\ndate: {}\r\nserver: uvicorn\r\n{}",
                 status, status_text(status), http_date(), extra);
  if (!content_type.empty())
    fmt::format_to(std::back_inserter(out_.bytes), "content-type: {}\r\n", content_type);
  out_.bytes += "vary: Origin\r\n";
  if (!how_.keep_alive) out_.bytes += "connection: close\r\n";
}

void framer::stream_head() {
  head(200, "text/event-stream; charset=utf-8", "");
  if (how_.chunked) out_.bytes += "transfer-encoding: chunked\r\n";
  out_.bytes += "\r\n";
}

void framer::chunk(std::string_view bytes) {
  if (!how_.chunked) {
    out_.bytes += bytes;
    return;
  }
  const std::size_t most = plan_.chunk_bytes > 0 ? plan_.chunk_bytes : bytes.size();
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, most);
    fmt::format_to(std::back_inserter(out_.bytes), "{:x}\r\n{}\r\n", piece.size(), piece);
    bytes.remove_prefix(piece.size());
  }
}

void framer::event(std::string_view text) {
  if (plan_.events_per_chunk <= 1) return chunk(text);
  merged_ += text;
  if (++merged_count_ < plan_.events_per_chunk) return;
  chunk(merged_);
  merged_.clear();
  merged_count_ = 0;
}

void framer::end_stream() {
  chunk(merged_);
  merged_.clear();
  if (plan_.no_last_chunk || !how_.chunked) return finish(wire::ending::close);
  out_.bytes += "0\r\n\r\n";
  done();
}

void framer::whole(int status, std::string_view content_type, std::string_view extra, std::string_view body) {
  head(status, content_type, fmt::format("{}content-length: {}\r\n", extra, body.size()));
  out_.bytes += "\r\n";
  if (!how_.head_only) out_.bytes += body;
  done();
}

void framer::half(std::string_view text) {
  chunk(merged_);
  merged_.clear();
  if (how_.chunked) fmt::format_to(std::back_inserter(out_.bytes), "{:x}\r\n", text.size());
  out_.bytes += text.substr(0, text.size() / 2);
  finish(wire::ending::close);
}

void framer::half_whole(std::string_view body) {
  whole(200, "application/json", "", body);
  out_.bytes.resize(out_.bytes.size() - body.size() + body.size() / 2);
  finish(wire::ending::close);
}

void framer::garbage() {
  out_.bytes += "\x16\x03zz not http at all\xff\r\n\r\n";
  finish(wire::ending::close);
}

}  // namespace penstock::emulator
