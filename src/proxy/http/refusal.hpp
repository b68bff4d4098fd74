// Builds the refusals of this room: what is wrong, then what to do next.
#pragma once

#include "penstock/bytes.hpp"
#include "penstock/error.hpp"

namespace penstock::http {

// `what` begins in lower case and has no full stop; the reason's advice follows it.
inline api_error refusal(reason why, std::string_view what, bytes_view param = {}) {
  api_error e;
  e.why = why;
  e.message.append(what).append("; ").append(traits(why).advice).append(".");
  if (!e.message.empty() && e.message[0] >= 'a' && e.message[0] <= 'z') e.message[0] -= 'a' - 'A';
  e.param = param;
  return e;
}

}  // namespace penstock::http
