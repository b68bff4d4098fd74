// HTTP/1 from clients: bytes in, head, body and end out. llhttp behind a strict look at the raw head.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "penstock/bytes.hpp"
#include "penstock/error.hpp"
#include "penstock/inline_vector.hpp"
#include "proxy/http/head.hpp"

namespace penstock::http {

// Body bytes found in one call; views into the input.
using body_spans = inline_vector<bytes_view, 64>;

struct request_limits {
  std::size_t head_bytes = 32 * 1024;
  std::size_t head_fields = 100;
};

// What a call to feed() came to.
enum class parse_status : std::uint8_t {
  more,      // all input consumed, the message goes on
  head,      // head() is ready; the rest of the input was not looked at
  progress,  // body spans were filled and there may be more in the rest of the input
  complete,  // the message ended; the rest of the input belongs to the next one
  failed,    // error() says why; the connection is of no further use
};

struct parse_result {
  parse_status status = parse_status::more;
  std::size_t consumed = 0;
};

// One per client connection. head() stays valid until next(). Accepts exactly what RFC 9112 allows and
// one reading allows: bare LF or CR, obs-fold, NUL, CL with TE, differing or non-digit CL, any coding
// but a single final "chunked", chunk sizes with anything but hex digits, HTTP/0.9, 2.0, RTSP are
// failed with bad_http, bad_framing or bad_version; too large a head with head_too_large. Trailers and
// chunk extensions are skipped (within the head limit). Methods outside GET HEAD POST OPTIONS PUT DELETE
// PATCH CONNECT TRACE fail with not_implemented (CONNECT too: 501). Missing or doubled Host on 1.1: bad_http.
// The first blank line (CRLF) before a request line is skipped, at most one. More is refused because other
// readers read it otherwise: a Content-Length that is repeated, has leading zeros or more than 18 digits,
// Content_Length and Transfer_Encoding, a Host that is no host name, trailers that frame or authorise,
// more than one extension a chunk, or other than ;token[=token|"text"], chunks of 2^60 bytes.
//
// llhttp reads every head and every chunk as well, and what the two do not read alike is refused.
class request_parser {
 public:
  explicit request_parser(request_limits limits);
  ~request_parser();
  request_parser(request_parser&&) noexcept;
  request_parser& operator=(request_parser&&) noexcept;

  // Consumes some of `in`. Returns at each head, at the end of each message, and when `body` is full.
  // `more` may come with body spans. After the head of a message without a body the next call returns
  // `complete`, even for no input; after `complete` nothing is consumed until next(), after `failed` never.
  parse_result feed(bytes_view in, body_spans& body);

  // True before the first byte of a head: the connection is idle.
  bool idle() const;
  const request_head& head() const;
  const api_error& error() const;

  // Body bytes of a sized body still to come, if they may be read straight into their destination
  // (framing length, head delivered); 0 otherwise. Such bytes are reported with took_directly().
  std::uint64_t wanted_directly() const;
  // `n` <= wanted_directly() bytes were received elsewhere. True when they completed the message.
  bool took_directly(std::uint64_t n);

  // Forgets the message and waits for the next head, unless it failed. Frees what an idle connection does
  // not need.
  void next();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace penstock::http
