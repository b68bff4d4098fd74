#include "proxy/http/heads.hpp"

#include <algorithm>
#include <charconv>

#include "proxy/http/char_tables.hpp"
#include "proxy/http/field_names.hpp"

namespace penstock::http {
namespace {

using header_list = std::vector<std::pair<std::string, std::string>>;

void append_field(std::string& out, bytes_view name, bytes_view value) {
  out.append(name);
  out += ": ";
  out.append(value);
  out += "\r\n";
}

void append_number(std::string& out, std::uint64_t n) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, n);
  out.append(digits, end.ptr);
}

void append_count_field(std::string& out, bytes_view name, std::uint64_t n) {
  out.append(name);
  out += ": ";
  append_number(out, n);
  out += "\r\n";
}

bool listed(const header_list* list, bytes_view name) {
  if (list == nullptr || list->empty()) return false;
  return std::any_of(list->begin(), list->end(), [&](const auto& h) { return iequals(h.first, name); });
}

// A field of a head that was read: nearly all are written as we would write them.
void append_read_field(std::string& out, const field& f) {
  if (!f.plain) return append_field(out, f.name, f.value);
  out.append(f.name.data(), f.name.size() + f.value.size() + 4);
}

// A Connection field that names more than the two words everybody sends.
bool names_fields(const std::vector<field>& fields) {
  for (const field& f : fields) {
    if (kind_of(f) == field_kind::connection && !iequals(f.value, "keep-alive") && !iequals(f.value, "close"))
      return true;
  }
  return false;
}

bool passes_to_engine(const field& f, const request_head& client, const engine_request& to,
                      bool check_named) {
  switch (kind_of(f)) {
    case field_kind::connection:
    case field_kind::content_length:
    case field_kind::transfer_encoding:
    case field_kind::hop_by_hop:
    case field_kind::host:
    case field_kind::expect:
    case field_kind::x_request_id:
    case field_kind::refused:
    case field_kind::dropped: return false;
    case field_kind::authorization:
      if (!to.api_key.empty()) return false;
      break;
    case field_kind::accept_encoding:
      if (to.identity_only) return false;
      break;
    default: break;
  }
  return !listed(to.headers, f.name) && !(check_named && named_by_connection(client.fields, f.name));
}

bytes_view phrase_of(int status) {
  switch (status) {
    case 100: return "Continue";
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "";
  }
}

void append_status_line(std::string& out, int status, bytes_view phrase) {
  out += "HTTP/1.1 ";
  append_number(out, static_cast<std::uint64_t>(status));
  out += ' ';
  out.append(phrase);
  out += "\r\n";
}

void append_engine_fields(std::string& out, const response_head& engine, const client_response& how) {
  const bool check_named = names_fields(engine.fields);
  for (const field& f : engine.fields) {
    const field_kind kind = kind_of(f);
    if (is_hop_by_hop(kind) || (kind == field_kind::x_request_id && !how.request_id.empty())) continue;
    if (listed(how.extra, f.name)) continue;
    if (check_named && named_by_connection(engine.fields, f.name)) continue;
    append_read_field(out, f);
  }
}

}  // namespace

void append_engine_head(std::string& out, const request_head& client, const engine_request& to) {
  // Room for the client's fields and some of our own, so that the string does not grow in steps.
  std::size_t room = 512 + to.path_prefix.size() + to.path.size() + to.query.size();
  for (const field& f : client.fields) room += f.name.size() + f.value.size() + 4;
  out.reserve(out.size() + room);
  out.append(to.method);
  out += ' ';
  out.append(to.path_prefix);
  out.append(to.path);
  if (!to.query.empty()) {
    out += '?';
    out.append(to.query);
  }
  out += " HTTP/1.1\r\n";
  append_field(out, "Host", to.authority);
  const bool check_named = names_fields(client.fields);
  for (const field& f : client.fields) {
    if (passes_to_engine(f, client, to, check_named)) append_read_field(out, f);
  }
  if (!to.api_key.empty() && !listed(to.headers, "authorization")) {
    out += "Authorization: Bearer ";
    out.append(to.api_key);
    out += "\r\n";
  }
  if (to.identity_only && !listed(to.headers, "accept-encoding"))
    append_field(out, "Accept-Encoding", "identity");
  if (to.headers != nullptr) {
    for (const auto& [name, value] : *to.headers) {
      if (!is_hop_by_hop(name) && !iequals(name, "host") && !iequals(name, "x-request-id")) {
        append_field(out, name, value);
      }
    }
  }
  if (!to.request_id.empty()) append_field(out, "X-Request-Id", to.request_id);
  if (to.data_parallel_rank >= 0) {
    append_count_field(out, "X-Data-Parallel-Rank", static_cast<std::uint64_t>(to.data_parallel_rank));
  }
  // A request without a body that has no meaning for one says nothing (RFC 9110 8.6).
  if (to.content_length > 0 || (to.method != "GET" && to.method != "HEAD" && to.method != "OPTIONS")) {
    append_count_field(out, "Content-Length", to.content_length);
  }
  out += "\r\n";
}

void append_client_head(std::string& out, const response_head* engine, bytes_view content_type,
                        const client_response& how) {
  const bool engine_phrase = engine != nullptr && engine->status == how.status;
  append_status_line(out, how.status, engine_phrase ? engine->phrase : phrase_of(how.status));
  if (engine != nullptr) {
    append_engine_fields(out, *engine, how);
  } else if (!content_type.empty()) {
    append_field(out, "Content-Type", content_type);
  }
  if (!how.request_id.empty()) append_field(out, "X-Request-Id", how.request_id);
  if (how.extra != nullptr) {
    for (const auto& [name, value] : *how.extra) append_field(out, name, value);
  }
  switch (how.framing) {
    case client_framing::length: append_count_field(out, "Content-Length", how.content_length); break;
    case client_framing::chunked: out += "Transfer-Encoding: chunked\r\n"; break;
    case client_framing::until_close:
    case client_framing::none: break;
  }
  const bool open = how.keep_alive && how.framing != client_framing::until_close;
  if (!open) {
    out += "Connection: close\r\n";
  } else if (how.minor_version == 0) {
    out += "Connection: keep-alive\r\n";
  }
  out += "\r\n";
}

bytes_view usable_request_id(const request_head& client) {
  bytes_view id;
  for (const field& f : client.fields) {
    if (kind_of(f) != field_kind::x_request_id) continue;
    if (!id.empty()) return {};  // two ids: neither can be trusted to be the one in the caller's log
    id = f.value;
  }
  if (id.empty() || id.size() > 128) return {};
  for (const char c : id) {
    if (c <= 0x20 || c >= 0x7f) return {};
  }
  // vLLM's P2P connectors read the addresses of both engines of a hand-off out of the request id.
  if (id.find("___prefill_addr_") != bytes_view::npos || id.find("___decode_addr_") != bytes_view::npos)
    return {};
  return id;
}

void append_chunk_size(std::string& out, std::size_t n) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, n, 16);
  out.append(digits, end.ptr);
  out += "\r\n";
}

}  // namespace penstock::http
