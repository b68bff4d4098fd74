// A body whose length was announced, counted in one place for requests and answers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "proxy/http/request_parser.hpp"

namespace penstock::http {

// Takes from `in` what belongs to a body with `left` bytes to come. `complete` when none is left, `progress`
// when `body` is full, else `more`.
inline parse_result take_sized(std::uint64_t& left, bytes_view in, body_spans& body) {
  const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(left, in.size()));
  if (n > 0) {
    if (body.full()) return {parse_status::progress, 0};
    body.push_back(in.substr(0, n));
    left -= n;
  }
  return {left > 0 ? parse_status::more : parse_status::complete, n};
}

}  // namespace penstock::http
