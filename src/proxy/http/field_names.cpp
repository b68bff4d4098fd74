#include "proxy/http/field_names.hpp"

#include "proxy/http/char_tables.hpp"

namespace penstock::http {
namespace {

// `prefix` is in lower case; '_' in a name counts as '-'.
bool starts_like(bytes_view name, bytes_view prefix) {
  if (name.size() < prefix.size()) return false;
  for (std::size_t i = 0; i < prefix.size(); ++i) {
    const char c = name[i] == '_' ? '-' : chars::lower(name[i]);
    if (c != prefix[i]) return false;
  }
  return true;
}

// The letter after "x-", or '\0': most fields are told apart by it alone (SDKs send many x-stainless-*).
char letter_after_x(bytes_view name) {
  const bool x = name.size() > 6 && (name[0] == 'x' || name[0] == 'X') && (name[1] == '-' || name[1] == '_');
  return x ? chars::lower(name[2]) : '\0';
}

// A name of token characters against one in lower case of letters, digits and '-': setting the bit that tells
// the cases apart makes nothing else of a token equal to those.
bool same(bytes_view name, bytes_view lower) {
  for (std::size_t i = 0; i < lower.size(); ++i) {
    if ((name[i] | 0x20) != lower[i]) return false;
  }
  return true;
}

field_kind well_known(bytes_view name) {
  using enum field_kind;
  switch (name.size()) {
    case 2: return same(name, "te") ? hop_by_hop : other;
    case 4: return same(name, "host") ? host : other;
    case 6: return same(name, "expect") ? expect : other;
    case 7: return same(name, "trailer") || same(name, "upgrade") ? hop_by_hop : other;
    case 10: return same(name, "connection") ? connection : same(name, "keep-alive") ? hop_by_hop : other;
    case 12:
      return same(name, "content-type") ? content_type : same(name, "x-request-id") ? x_request_id : other;
    case 13: return same(name, "authorization") ? authorization : other;
    case 14:
      if (starts_like(name, "content-length")) return content_length;
      return same(name, "http2-settings") ? hop_by_hop : other;
    case 15: return same(name, "accept-encoding") ? accept_encoding : other;
    case 16:
      if (same(name, "content-encoding")) return content_encoding;
      return same(name, "proxy-connection") ? hop_by_hop : other;
    case 17: return starts_like(name, "transfer-encoding") ? transfer_encoding : other;
    case 18: return same(name, "proxy-authenticate") ? hop_by_hop : other;
    case 19: return same(name, "proxy-authorization") ? hop_by_hop : other;
    case 25: return same(name, "proxy-authentication-info") ? hop_by_hop : other;
    default: return other;
  }
}

}  // namespace

field_kind kind_of(bytes_view name) {
  const field_kind kind = well_known(name);
  if (kind != field_kind::other) return kind;
  if (is_refused_from_clients(name)) return field_kind::refused;
  return is_dropped_before_engines(name) ? field_kind::dropped : field_kind::other;
}

bool is_refused_from_clients(bytes_view name) {
  switch (letter_after_x(name)) {
    case 'd': return starts_like(name, "x-data-parallel-");
    case 'p': return starts_like(name, "x-prefiller-");
    case 'e': return starts_like(name, "x-encoder-");
    case 'k': return starts_like(name, "x-kv-cache-");
    case 'g': return starts_like(name, "x-gateway-destination-endpoint");
    default: return false;
  }
}

bool is_dropped_before_engines(bytes_view name) {
  switch (letter_after_x(name)) {
    case 'e': return starts_like(name, "x-envoy-");
    case 'g': return starts_like(name, "x-gateway-");
    case 's': return starts_like(name, "x-smg-");
    case 'v': return starts_like(name, "x-vllm-");
    default: return false;
  }
}

bool named_by_connection(const std::vector<field>& fields, bytes_view name) {
  bool named = false;
  for (const field& f : fields) {
    if (kind_of(f) != field_kind::connection) continue;
    each_item(f.value, [&](bytes_view item) { named |= iequals(item, name); });
  }
  return named;
}

}  // namespace penstock::http
