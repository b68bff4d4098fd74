#include "health/server_info_text.hpp"

#include <simdjson.h>

namespace penstock::health {

std::optional<bool> read_cache_report(bytes_view json) {
  if (json.size() > max_server_info_bytes) return std::nullopt;
  const simdjson::padded_string text(json.data(), json.size());
  simdjson::dom::parser parser(max_server_info_bytes);
  simdjson::dom::object root;
  bool on = false;
  if (parser.parse(text).get(root) != simdjson::SUCCESS) return std::nullopt;
  if (root["enable_cache_report"].get(on) != simdjson::SUCCESS) return std::nullopt;
  return on;
}

}  // namespace penstock::health
