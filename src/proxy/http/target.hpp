// The path of a request target, checked so that no two readers can see different paths in it.
#pragma once

#include <string>
#include <variant>

#include "penstock/bytes.hpp"
#include "penstock/error.hpp"

namespace penstock::http {

// Parts of a target: path and query as sent, views into it.
struct target_parts {
  bytes_view path;   // starts with '/', or is "*"
  bytes_view query;  // without '?'
};

// Splits an origin-form or absolute-form target (whose authority is ignored) and refuses with bad_target
// what has two readings: "//", dot segments, characters outside RFC 3986, malformed percent-encodings,
// encoded unreserved characters, slashes, backslashes and control characters. Inside the id of
// /v1/models/{id} an encoded slash is allowed: names like org/model are common.
std::variant<target_parts, api_error> split_target(bytes_view target);

// Replaces percent-encodings; `s` has passed split_target.
std::string percent_decoded(bytes_view s);

}  // namespace penstock::http
