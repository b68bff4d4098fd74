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

}  // namespace

bool is_hop_by_hop(bytes_view name) {
  switch (name.size()) {
    case 2: return iequals(name, "te");
    case 7: return iequals(name, "trailer") || iequals(name, "upgrade");
    case 10: return iequals(name, "connection") || iequals(name, "keep-alive");
    case 14: return iequals(name, "content-length") || iequals(name, "http2-settings");
    case 16: return iequals(name, "proxy-connection");
    case 17: return iequals(name, "transfer-encoding");
    case 18: return iequals(name, "proxy-authenticate");
    case 19: return iequals(name, "proxy-authorization");
    case 25: return iequals(name, "proxy-authentication-info");
    default: return false;
  }
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
    if (f.name.size() != 10 || !iequals(f.name, "connection")) continue;
    each_item(f.value, [&](bytes_view item) { named |= iequals(item, name); });
  }
  return named;
}

}  // namespace penstock::http
