// The heads we write: every one is built, none is copied through.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "penstock/bytes.hpp"
#include "proxy/http/head.hpp"

namespace penstock::http {

// What the head of a request to an engine is made of.
struct engine_request {
  bytes_view method, path, query;  // path with the endpoint's prefix in front
  bytes_view path_prefix, authority;
  bytes_view api_key;  // replaces the client's Authorization if not empty
  const std::vector<std::pair<std::string, std::string>>* headers = nullptr;  // of the endpoint; they win
  bytes_view request_id;
  std::uint64_t content_length = 0;
  bool identity_only = false;  // scanned path: Accept-Encoding: identity
  int data_parallel_rank = -1;
};

// Appends the head of the request that asks an engine for what `client` asked for. Hop-by-hop fields,
// those named by Connection, Host, Content-Length, Transfer-Encoding, TE, Trailer, Upgrade, Expect,
// Proxy-*, x-request-id and the engine-internal routing headers do not pass; everything else does,
// trace headers (traceparent, tracestate, baggage) included.
void append_engine_head(std::string& out, const request_head& client, const engine_request& to);

enum class client_framing : std::uint8_t { length, chunked, until_close, none };

// What the head of an answer to a client is made of.
struct client_response {
  int status = 200;
  client_framing framing = client_framing::chunked;
  std::uint64_t content_length = 0;
  bool keep_alive = true;
  int minor_version = 1;  // of the client's request
  bytes_view request_id;
  const std::vector<std::pair<std::string, std::string>>* extra = nullptr;
};

// Appends an answer head. `engine` is the engine's (its end-to-end fields pass, hop-by-hop and framing
// fields, Date-less or not, do not) or null for an answer of our own, then `content_type` is used.
void append_client_head(std::string& out, const response_head* engine, bytes_view content_type,
                        const client_response& how);

// The client's id if it may be used (1..128 visible ASCII characters), else empty.
bytes_view usable_request_id(const request_head& client);

// Appends the size line of one chunk of n bytes.
void append_chunk_size(std::string& out, std::size_t n);

}  // namespace penstock::http
