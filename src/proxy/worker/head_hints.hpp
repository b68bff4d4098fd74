// What a request's head says of whose it is: the tenant, and the session.
#pragma once

#include <string>
#include <string_view>

#include "penstock/bytes.hpp"
#include "penstock/config.hpp"
#include "proxy/http/head.hpp"

namespace penstock::worker {

// Views into the head; empty where it says nothing, or is not asked.
struct head_hints {
  bytes_view tenant, session;
};

// By routing.tenant_salt and routing.session_headers.
inline head_hints hints_of(const http::request_head& head, const routing_config& how) {
  constexpr std::size_t longest_session = 256;
  constexpr std::string_view header_kind = "header:";
  head_hints out;
  if (!how.tenant_salt.empty()) {
    const http::field* f = http::find(head, std::string_view(how.tenant_salt).substr(header_kind.size()));
    // Requests of nobody are a tenant too: they share with each other and with no one else.
    out.tenant = f != nullptr && !f->value.empty() ? f->value : bytes_view("-");
  }
  for (const std::string& name : how.session_headers) {
    const http::field* f = http::find(head, name);
    if (f == nullptr || f->value.empty()) continue;
    out.session = f->value.substr(0, longest_session);
    break;
  }
  return out;
}

}  // namespace penstock::worker
