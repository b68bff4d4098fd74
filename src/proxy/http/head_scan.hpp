// The strict look at a raw head: one reading or none.
#pragma once

#include "penstock/reason.hpp"
#include "proxy/http/head.hpp"
#include "proxy/http/known_lines.hpp"

namespace penstock::http {

// Why a head was refused; `what` is a sentence with static storage, empty when it was not.
struct scan_failure {
  reason why = reason::ok;
  std::string_view what;
  explicit operator bool() const { return why != reason::ok; }
};

// Reads a whole head (`raw` ends in CRLFCRLF) into views of `raw`. Everything that RFC 9112 forbids or
// leaves to the reader is refused: see request_parser. Lines that are `known` are taken from there, and what
// is `unread` afterwards is for the second reader.
scan_failure scan_request_head(bytes_view raw, std::size_t max_fields, known_lines& known,
                               unread_parts& unread, request_head& head);

// The same for an answer. `no_body`: it answers HEAD. 1xx, 204 and 304 have none either. 101 is refused.
scan_failure scan_response_head(bytes_view raw, std::size_t max_fields, bool no_body, known_lines& known,
                                unread_parts& unread, response_head& head);

// Reads a trailer section; fields that frame or route a message are refused there (RFC 9110 6.5.1).
scan_failure scan_trailers(bytes_view raw, std::size_t max_fields, std::vector<field>& scratch);

// host [ ":" port ] without user information: what Host and absolute targets may name.
bool valid_authority(bytes_view s);

}  // namespace penstock::http
