#include "proxy/http/head.hpp"

#include "proxy/http/field_names.hpp"

namespace penstock::http {

const field* find(const std::vector<field>& fields, bytes_view name) {
  for (const field& f : fields) {
    if (iequals(f.name, name)) return &f;
  }
  return nullptr;
}

const field* find(const std::vector<field>& fields, field_kind kind) {
  for (const field& f : fields) {
    if (kind_of(f) == kind) return &f;
  }
  return nullptr;
}

bool is_event_stream(const response_head& head) {
  const field* type = find(head.fields, field_kind::content_type);
  constexpr bytes_view sse = "text/event-stream";
  return type != nullptr && type->value.size() >= sse.size() &&
         iequals(type->value.substr(0, sse.size()), sse);
}

}  // namespace penstock::http
