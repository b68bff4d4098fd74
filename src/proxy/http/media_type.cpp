#include "proxy/http/media_type.hpp"

#include "proxy/http/char_tables.hpp"
#include "proxy/http/field_names.hpp"

namespace penstock::http {
namespace {

bytes_view trimmed(bytes_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

struct parameter {
  bytes_view name, value;
};

// Cuts one parameter off `rest`; false when it is malformed. A quoted value is given without quotes.
bool cut_parameter(bytes_view& rest, parameter& out) {
  const std::size_t equals = rest.find('=');
  if (equals == bytes_view::npos) return false;
  out.name = trimmed(rest.substr(0, equals));
  if (out.name.empty() || !chars::all(chars::token, out.name)) return false;
  rest = trimmed(rest.substr(equals + 1));
  if (!rest.empty() && rest.front() == '"') {
    const std::size_t close = rest.find('"', 1);
    if (close == bytes_view::npos) return false;
    out.value = rest.substr(1, close - 1);
    rest = trimmed(rest.substr(close + 1));
    if (rest.empty()) return true;
    if (rest.front() != ';') return false;
    rest = trimmed(rest.substr(1));
    return true;
  }
  const std::size_t end = rest.find(';');
  out.value = trimmed(rest.substr(0, end));
  rest = end == bytes_view::npos ? bytes_view() : trimmed(rest.substr(end + 1));
  return !out.value.empty();
}

media_type read_media_type(bytes_view value) {
  if (value == "application/json") return media_type::json;
  const std::size_t semicolon = value.find(';');
  const bytes_view essence = trimmed(value.substr(0, semicolon));
  const bool json = iequals(essence, "application/json");
  const bool multipart = iequals(essence, "multipart/form-data");
  if (!json && !multipart) return media_type::other;
  bytes_view rest = semicolon == bytes_view::npos ? bytes_view() : trimmed(value.substr(semicolon + 1));
  bool boundary = false;
  while (!rest.empty()) {
    parameter p;
    if (!cut_parameter(rest, p)) return media_type::other;
    if (json && iequals(p.name, "charset") && !iequals(p.value, "utf-8") && !iequals(p.value, "utf8")) {
      return media_type::other;
    }
    boundary |= iequals(p.name, "boundary") && !p.value.empty() && p.value.size() <= 70;
  }
  if (json) return media_type::json;
  return boundary ? media_type::multipart : media_type::other;
}

}  // namespace

media_type media_type_of(const std::vector<field>& fields) {
  const field* found = nullptr;
  for (const field& f : fields) {
    if (kind_of(f) != field_kind::content_type) continue;
    if (found != nullptr) return media_type::other;
    found = &f;
  }
  return found == nullptr ? media_type::missing : read_media_type(found->value);
}

bool body_is_encoded(const std::vector<field>& fields) {
  bool encoded = false;
  for (const field& f : fields) {
    if (kind_of(f) != field_kind::content_encoding) continue;
    each_item(f.value, [&](bytes_view coding) { encoded |= !iequals(coding, "identity"); });
  }
  return encoded;
}

}  // namespace penstock::http
