#include "proxy/http/head_scan.hpp"

#include <cstring>

#include "proxy/http/char_tables.hpp"
#include "proxy/http/field_names.hpp"

namespace penstock::http {
namespace {

constexpr scan_failure fine{};

scan_failure bad_http(std::string_view what) { return {reason::bad_http, what}; }
scan_failure bad_framing(std::string_view what) { return {reason::bad_framing, what}; }

bytes_view trim_blanks(bytes_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

// Cuts the first line off `rest`; the collector made sure that it ends in CRLF.
bytes_view cut_line(bytes_view& rest) {
  const void* lf = std::memchr(rest.data(), '\n', rest.size());
  if (lf == nullptr) return {};
  const auto n = static_cast<std::size_t>(static_cast<const char*>(lf) - rest.data());
  const bytes_view line = rest.substr(0, n == 0 ? 0 : n - 1);
  rest.remove_prefix(n + 1);
  return line;
}

// Only "chunked" alone is understood; lists, other codings and unusual spellings have more than one reading.
struct framing_fields {
  std::uint64_t length = 0;
  std::uint64_t name_marks = 0;
  bool has_length = false, has_coding = false;
  bool close = false, keep_alive = false, has_connection = false;
  unsigned hosts = 0;
  bool host_valid = true;
  bool expect_continue = false;
};

scan_failure read_length(bytes_view v, framing_fields& out) {
  if (out.has_length) return bad_framing("Content-Length is given more than once");
  out.has_length = true;
  if (v.empty()) return bad_framing("Content-Length is empty");
  if (v.size() > 1 && v.front() == '0') return bad_framing("Content-Length has leading zeros");
  if (v.size() > 18) return bad_framing("Content-Length is too large");
  for (const char c : v) {
    if (c < '0' || c > '9') return bad_framing("Content-Length is not a plain decimal number");
    out.length = out.length * 10 + static_cast<unsigned>(c - '0');
  }
  return fine;
}

scan_failure read_connection(bytes_view v, framing_fields& out) {
  while (!v.empty()) {
    const std::size_t comma = v.find(',');
    const bytes_view item = trim_blanks(v.substr(0, comma));
    out.close |= iequals(item, "close");
    out.keep_alive |= iequals(item, "keep-alive");
    v.remove_prefix(comma == bytes_view::npos ? v.size() : comma + 1);
  }
  return fine;
}

// A name that CGI-style readers take for a framing field ("Content_Length").
bool looks_like(bytes_view name, bytes_view framing_name) {
  if (name.size() != framing_name.size()) return false;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char c = name[i] == '_' ? '-' : chars::lower(name[i]);
    if (c != framing_name[i]) return false;
  }
  return true;
}

scan_failure read_framing_field(const field& f, framing_fields& out) {
  switch (f.kind) {
    case field_kind::host:
      ++out.hosts;
      out.host_valid = f.value.empty() || valid_authority(f.value);
      break;
    case field_kind::expect: out.expect_continue |= iequals(f.value, "100-continue"); break;
    case field_kind::connection: return read_connection(f.value, out);
    case field_kind::content_length:
      if (f.name[7] == '_') return bad_framing("Content_Length is not a header that may be sent");
      return read_length(f.value, out);
    case field_kind::transfer_encoding:
      if (f.name[8] == '_') return bad_framing("Transfer_Encoding is not a header that may be sent");
      if (out.has_coding) return bad_framing("Transfer-Encoding is given more than once");
      if (!iequals(f.value, "chunked")) return bad_framing("the only transfer coding known is chunked");
      out.has_coding = true;
      break;
    default: break;
  }
  return fine;
}

scan_failure scan_field(bytes_view line, field& out) {
  if (line.front() == ' ' || line.front() == '\t') return bad_http("a header line starts with a blank");
  std::size_t colon = 0;
  while (colon < line.size() && chars::in(chars::token, line[colon])) ++colon;
  if (colon == line.size()) return bad_http("a header line has no colon");
  if (line[colon] != ':') {
    const bool blank = line[colon] == ' ' || line[colon] == '\t';
    return bad_http(blank ? "a header name has a blank before its colon"
                          : "a header name has a character that is not allowed");
  }
  if (colon == 0) return bad_http("a header name is empty");
  out.name = line.substr(0, colon);
  out.value = trim_blanks(line.substr(colon + 1));
  const bool one_blank = line.size() > colon + 2 && line[colon + 1] == ' ';
  out.plain = one_blank && out.value.size() == line.size() - colon - 2;
  if (!chars::all_field_value(out.value)) return bad_http("a header value has a control character");
  return fine;
}

scan_failure scan_fields(bytes_view rest, std::size_t max_fields, known_lines& known, unread_parts& unread,
                         std::vector<field>& fields, framing_fields& framing) {
  fields.clear();
  known.rewind();
  for (;;) {
    field& f = fields.emplace_back();
    bytes_view line;
    std::size_t size = 0;
    const bool is_known = known.take(rest, f, size);
    if (!is_known) line = cut_line(rest);
    if (!is_known && line.empty()) break;
    if (fields.size() > max_fields) return {reason::head_too_large, "there are too many headers"};
    if (is_known) {
      unread.skip(rest.substr(0, size));
      rest.remove_prefix(size);
    } else {
      if (const scan_failure e = scan_field(line, f)) return e;
      f.kind = kind_of(f.name);
      known.pass(f.name);
    }
    if (const scan_failure e = read_framing_field(f, framing)) return e;
    framing.name_marks |= name_mark(f.name);
  }
  fields.pop_back();
  unread.end();
  return fine;
}

// "HTTP/1.0" or "HTTP/1.1" and nothing else; other protocols that look like one are bad_version.
scan_failure scan_version(bytes_view v, int& minor) {
  if (v.size() == 8 && v.substr(0, 7) == "HTTP/1." && (v[7] == '0' || v[7] == '1')) {
    minor = v[7] - '0';
    return fine;
  }
  const std::size_t slash = v.find('/');
  bool looks_right = slash != bytes_view::npos && slash > 0 && v.size() == slash + 4 && v[slash + 2] == '.';
  for (std::size_t i = 0; looks_right && i < v.size(); ++i) {
    const char c = v[i];
    if (i < slash) looks_right = c >= 'A' && c <= 'Z';
    if (i == slash + 1 || i == slash + 3) looks_right = c >= '0' && c <= '9';
  }
  if (looks_right) return {reason::bad_version, "only HTTP/1.0 and HTTP/1.1 are spoken here"};
  return bad_http("the request line has no valid HTTP version");
}

bool known_method(bytes_view m) {
  switch (m.size()) {
    case 3: return m == "GET" || m == "PUT";
    case 4: return m == "POST" || m == "HEAD";
    case 5: return m == "PATCH" || m == "TRACE";
    case 6: return m == "DELETE";
    case 7: return m == "OPTIONS";
    default: return false;
  }
}

scan_failure scan_target(bytes_view method, bytes_view target) {
  for (const char c : target) {
    const auto u = static_cast<unsigned char>(c);
    if (u <= 0x20 || u >= 0x7f) return {reason::bad_target, "the target has a byte that needs encoding"};
    if (c == '#') return {reason::bad_target, "the target has a fragment"};
  }
  if (target.front() == '/') return fine;
  if (target == "*" && method == "OPTIONS") return fine;
  const std::size_t scheme = target.find("://");
  if (scheme == bytes_view::npos) return {reason::bad_target, "the target is not a path"};
  if (!iequals(target.substr(0, scheme), "http") && !iequals(target.substr(0, scheme), "https")) {
    return {reason::bad_target, "the target has an unknown scheme"};
  }
  const bytes_view after = target.substr(scheme + 3);
  if (valid_authority(after.substr(0, after.find_first_of("/?")))) return fine;
  return {reason::bad_target, "the target has no valid host"};
}

scan_failure scan_request_line(bytes_view line, request_head& head) {
  const std::size_t a = line.find(' ');
  const std::size_t b = a == bytes_view::npos ? a : line.find(' ', a + 1);
  if (b == bytes_view::npos) return bad_http("the request line is not METHOD target HTTP/1.1");
  head.method = line.substr(0, a);
  head.target = line.substr(a + 1, b - a - 1);
  if (head.method.empty() || !chars::all(chars::token, head.method))
    return bad_http("the method is malformed");
  if (head.target.empty()) return bad_http("the request line has no target");
  if (const scan_failure e = scan_version(line.substr(b + 1), head.minor_version)) return e;
  if (!known_method(head.method)) return {reason::not_implemented, "this method is not known here"};
  return scan_target(head.method, head.target);
}

bool stays_open(int minor, const framing_fields& f) { return !f.close && (minor == 1 || f.keep_alive); }

scan_failure scan_status_line(bytes_view line, response_head& head) {
  if (line.size() < 12 || line.substr(0, 7) != "HTTP/1." || (line[7] != '0' && line[7] != '1') ||
      line[8] != ' ') {
    return bad_http("the status line is not HTTP/1.1 and a status");
  }
  head.minor_version = line[7] - '0';
  head.status = 0;
  for (std::size_t i = 9; i < 12; ++i) {
    if (line[i] < '0' || line[i] > '9') return bad_http("the status is not a number");
    head.status = head.status * 10 + (line[i] - '0');
  }
  if (head.status < 100 || head.status > 599) return bad_http("the status is out of range");
  if (line.size() > 12 && line[12] != ' ') return bad_http("the status is not followed by a space");
  head.phrase = line.size() > 13 ? line.substr(13) : bytes_view();
  if (!chars::all_field_value(head.phrase)) return bad_http("the reason phrase has a control character");
  return fine;
}

bool forbidden_in_trailers(bytes_view name) {
  for (const bytes_view n :
       {"content-length", "transfer-encoding", "host", "connection", "upgrade", "te", "expect", "trailer",
        "authorization", "content-type", "content-encoding", "proxy-connection"}) {
    if (looks_like(name, n)) return true;
  }
  return false;
}

}  // namespace

bool valid_authority(bytes_view s) {
  std::size_t port = 0;
  if (!s.empty() && s.front() == '[') {
    const std::size_t close = s.find(']');
    if (close == bytes_view::npos || close < 3) return false;
    for (const char c : s.substr(1, close - 1)) {
      if (chars::hex(c) < 0 && c != ':' && c != '.') return false;
    }
    port = close + 1;
  } else {
    while (port < s.size() && chars::in(chars::unreserved, s[port])) ++port;
    if (port == 0) return false;
  }
  if (port == s.size()) return true;
  if (s[port] != ':' || s.size() - port > 6) return false;
  for (const char c : s.substr(port + 1)) {
    if (c < '0' || c > '9') return false;
  }
  return true;
}

scan_failure scan_request_head(bytes_view raw, std::size_t max_fields, known_lines& known,
                               unread_parts& unread, request_head& head) {
  bytes_view rest = raw;
  unread.begin(raw);
  if (const scan_failure e = scan_request_line(cut_line(rest), head)) return e;
  framing_fields f;
  if (const scan_failure e = scan_fields(rest, max_fields, known, unread, head.fields, f)) return e;
  if (f.hosts > 1) return bad_http("Host is given more than once");
  if (f.hosts == 0 && head.minor_version == 1) return bad_http("Host is missing");
  if (!f.host_valid) return bad_http("Host is not a host name");
  if (f.has_length && f.has_coding) return bad_framing("both Content-Length and Transfer-Encoding are given");
  if (f.has_coding && head.minor_version == 0) return bad_framing("HTTP/1.0 knows no Transfer-Encoding");
  head.framing = f.has_coding                   ? body_framing::chunked
                 : f.has_length && f.length > 0 ? body_framing::length
                                                : body_framing::none;
  head.content_length = f.length;
  head.name_marks = f.name_marks;
  head.keep_alive = stays_open(head.minor_version, f);
  // RFC 9110 10.1.1: a 100-continue expectation in HTTP/1.0 is ignored.
  head.expect_continue = f.expect_continue && head.minor_version == 1;
  return fine;
}

scan_failure scan_response_head(bytes_view raw, std::size_t max_fields, bool no_body, known_lines& known,
                                unread_parts& unread, response_head& head) {
  bytes_view rest = raw;
  unread.begin(raw);
  if (const scan_failure e = scan_status_line(cut_line(rest), head)) return e;
  framing_fields f;
  if (const scan_failure e = scan_fields(rest, max_fields, known, unread, head.fields, f)) return e;
  if (head.status == 101) return bad_http("nobody asked for another protocol");
  if (f.has_length && f.has_coding) return bad_framing("both Content-Length and Transfer-Encoding are given");
  if (f.has_coding && head.minor_version == 0) return bad_framing("HTTP/1.0 knows no Transfer-Encoding");
  if (head.status < 200 && (f.has_coding || f.length > 0)) return bad_framing("an interim answer has a body");
  head.content_length = f.length;
  head.keep_alive = stays_open(head.minor_version, f);
  if (no_body || head.status < 200 || head.status == 204 || head.status == 304) {
    head.framing = body_framing::none;
    // RFC 9112 6.1 forbids a coding here. Whether chunks follow is anybody's guess: not reused.
    if (head.status == 204 && f.has_coding) head.keep_alive = false;
  } else if (f.has_coding) {
    head.framing = body_framing::chunked;
  } else if (f.has_length) {
    head.framing = f.length > 0 ? body_framing::length : body_framing::none;
  } else {
    head.framing = body_framing::until_close;
    head.keep_alive = false;
  }
  return fine;
}

scan_failure scan_trailers(bytes_view raw, std::size_t max_fields, std::vector<field>& scratch) {
  scratch.clear();
  bytes_view rest = raw;
  for (bytes_view line = cut_line(rest); !line.empty(); line = cut_line(rest)) {
    if (scratch.size() == max_fields) return {reason::head_too_large, "there are too many trailers"};
    field f;
    if (const scan_failure e = scan_field(line, f)) return e;
    if (forbidden_in_trailers(f.name)) return bad_framing("a trailer has a name that only a head may have");
    scratch.push_back(f);
  }
  return fine;
}

}  // namespace penstock::http
