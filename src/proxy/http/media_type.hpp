// What Content-Type and Content-Encoding of a request say about its body.
#pragma once

#include <vector>

#include "proxy/http/head.hpp"

namespace penstock::http {

enum class media_type : std::uint8_t {
  missing,    // no Content-Type
  json,       // application/json, UTF-8
  multipart,  // multipart/form-data with a boundary
  other,      // anything else, also two Content-Types or another charset
};

media_type media_type_of(const std::vector<field>& fields);

// True when the body has a coding other than identity.
bool body_is_encoded(const std::vector<field>& fields);

}  // namespace penstock::http
