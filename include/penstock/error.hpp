// A refusal on its way to a client, before it has an API's shape.
#pragma once

#include <string>

#include "penstock/reason.hpp"

namespace penstock {

// What went wrong with one request. `message` is a whole sentence for the caller that says what to do
// next; `param` names the offending body member or is empty; `status` 0 means the reason's own.
// `retry_after_s` above 0 becomes a Retry-After header.
struct api_error {
  reason why = reason::internal;
  std::string message;
  std::string param;
  std::uint16_t status = 0;
  std::uint16_t retry_after_s = 0;
};

}  // namespace penstock
