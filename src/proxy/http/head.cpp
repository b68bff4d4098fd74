#include "proxy/http/head.hpp"

#include "proxy/http/char_tables.hpp"

namespace penstock::http {

bool iequals(bytes_view a, bytes_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (chars::lower(a[i]) != chars::lower(b[i])) return false;
  }
  return true;
}

const field* find(const std::vector<field>& fields, bytes_view name) {
  for (const field& f : fields) {
    if (iequals(f.name, name)) return &f;
  }
  return nullptr;
}

}  // namespace penstock::http
