// Which call a request line means: the closed surface of paths.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "penstock/api.hpp"
#include "penstock/error.hpp"
#include "proxy/http/head.hpp"

namespace penstock::http {

struct route {
  api_kind api = api_kind::chat;
  std::string path;      // decoded target path, without the query
  std::string query;     // raw, without '?'; empty if none
  std::string model_id;  // api_kind::model: the percent-decoded id (may contain '/')
};

// Maps method and target (origin form, or absolute form whose authority is ignored) to a call, or says
// why not: not_implemented (CONNECT), bad_target ("//", dot segments, encoded unreserved characters or
// slashes outside a model id, control or non-ASCII bytes, '#'), method_not_allowed, not_found. Also checks
// the head rules that do not need the body: Content-Type (unsupported_media_type), Content-Encoding
// (unsupported_encoding), Expect other than 100-continue (expectation_failed), x-data-parallel-rank and
// the routing headers of sidecars (field_not_allowed).
//
// Other POST paths under /v1/ pass unless a segment is a word that engines use for their own management
// (adapters, weights, sleep, profiling, ...: the list is in route.cpp); `passthrough` lists more exact
// paths, and those win over that list. multipart/form-data is taken on such paths only. A GET or HEAD may
// have a body: it is framed and to be thrown away, as other proxies' users expect; its type is not looked
// at. A known path with a wrong method is method_not_allowed, a path that only passes is not_found then.
std::variant<route, api_error> find_route(const request_head& head,
                                          const std::vector<std::string>& passthrough);

// What a refused request's target names: its path, without scheme, host and query, and the call that it would
// have been; `unknown` where that path does not exist. Views into `target`.
struct named_call {
  bytes_view path;
  api_kind api = api_kind::unknown;
};
named_call name_call(bytes_view target, const std::vector<std::string>& passthrough);

// The Allow header of a path; empty for unknown paths.
std::string_view allowed_methods(bytes_view path, const std::vector<std::string>& passthrough = {});

}  // namespace penstock::http
