#include "proxy/handoff/raw_json.hpp"

namespace penstock::handoff {
namespace {

namespace ondemand = simdjson::ondemand;
using simdjson::SUCCESS;

// simdjson's raw text of a value goes on to the next token.
bytes_view trimmed(std::string_view raw) {
  const std::size_t last = raw.find_last_not_of(" \t\r\n");
  return raw.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

}  // namespace

bytes_view raw_json::text_of(ondemand::value value) {
  ondemand::json_type type{};
  std::string_view raw;
  if (value.type().get(type) != SUCCESS) return {};
  if (type == ondemand::json_type::object) {
    ondemand::object object;
    if (value.get_object().get(object) != SUCCESS || object.raw_json().get(raw) != SUCCESS) return {};
  } else if (type == ondemand::json_type::array) {
    ondemand::array array;
    if (value.get_array().get(array) != SUCCESS || array.raw_json().get(raw) != SUCCESS) return {};
  } else {
    raw = value.raw_json_token();
  }
  return trimmed(raw);
}

bytes_view raw_json::member(bytes_view object, std::string_view name) const {
  bytes_view found;
  each_member(object, [&](std::string_view key, std::size_t, bytes_view value) {
    if (found.empty() && key == name) found = value;
  });
  return found;
}

bytes_view raw_json::first(bytes_view array) const {
  bytes_view found;
  each_element(array, [&found](bytes_view value) {
    if (found.empty()) found = value;
  });
  return found;
}

std::string with_value(bytes_view object, std::string_view name, std::string_view value) {
  const raw_json text(object);
  const bytes_view old = text.member(text.whole(), name);
  std::string out(object);
  if (!old.empty()) out.replace(text.place(old), old.size(), value);
  return out;
}

}  // namespace penstock::handoff
