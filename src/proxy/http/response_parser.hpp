// HTTP/1 from engines: the mirror of request_parser, with the same strictness.
#pragma once

#include <string_view>

#include "proxy/http/request_parser.hpp"

namespace penstock::http {

// One per engine connection. 1xx answers are skipped inside (101 fails). Ambiguous framing fails; nothing
// after it is trusted.
class response_parser {
 public:
  explicit response_parser(std::size_t head_limit = 64 * 1024);
  ~response_parser();
  response_parser(response_parser&&) noexcept;
  response_parser& operator=(response_parser&&) noexcept;

  // To be called before each answer: a HEAD request's answer has no body whatever its head says.
  void expect(bool head_request);

  parse_result feed(bytes_view in, body_spans& body);

  // The engine closed its side. True when that is a proper end (framing until_close, head seen):
  // the message is complete; also when it was complete before. False: it was cut.
  bool finish();

  const response_head& head() const;
  // After a failure: what is wrong with the answer, in static text.
  std::string_view fault() const;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace penstock::http
