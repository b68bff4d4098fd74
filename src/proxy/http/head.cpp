#include "proxy/http/head.hpp"

namespace penstock::http {

const field* find(const std::vector<field>& fields, bytes_view name) {
  for (const field& f : fields) {
    if (iequals(f.name, name)) return &f;
  }
  return nullptr;
}

}  // namespace penstock::http
