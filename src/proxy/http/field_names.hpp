// Which header fields may cross the proxy.
#pragma once

#include <vector>

#include "proxy/http/head.hpp"

namespace penstock::http {

// What a field name (of token characters) means.
field_kind kind_of(bytes_view name);
inline field_kind kind_of(const field& f) { return f.kind != field_kind::unread ? f.kind : kind_of(f.name); }

// Fields of one connection (RFC 9110 7.6.1) and those that frame a message: never forwarded.
constexpr bool is_hop_by_hop(field_kind kind) {
  return kind == field_kind::connection || kind == field_kind::content_length ||
         kind == field_kind::transfer_encoding || kind == field_kind::hop_by_hop;
}
inline bool is_hop_by_hop(bytes_view name) { return is_hop_by_hop(kind_of(name)); }

// Fields by which gateways and sidecars steer engines. A client that sends one tries to choose where
// its KV cache is taken from or which rank serves it: refused. Compared without case, '_' equals '-'.
//   x-data-parallel-*                   vLLM and llm-d: rank or host of a data-parallel group
//   x-prefiller-*, x-encoder-*          llm-d: address of the prefill or encode engine
//   x-kv-cache-*                        llm-d: address of the engine that holds the cache
//   x-gateway-destination-endpoint*     Gateway API inference extension: address of the engine
bool is_refused_from_clients(bytes_view name);

// Fields that proxies in front of us may set in good faith and engines have no business with; they are
// left out silently: x-envoy-*, x-gateway-*, x-smg-*, x-vllm-*.
bool is_dropped_before_engines(bytes_view name);

// True when some Connection field of `fields` names `name`.
bool named_by_connection(const std::vector<field>& fields, bytes_view name);

// Calls visit(item) for each non-empty item of a comma-separated value, blanks removed.
template <class Visit>
void each_item(bytes_view list, Visit visit) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    bytes_view item = list.substr(0, comma);
    while (!item.empty() && (item.front() == ' ' || item.front() == '\t')) item.remove_prefix(1);
    while (!item.empty() && (item.back() == ' ' || item.back() == '\t')) item.remove_suffix(1);
    if (!item.empty()) visit(item);
    list.remove_prefix(comma == bytes_view::npos ? list.size() : comma + 1);
  }
}

}  // namespace penstock::http
