#include "proxy/worker/local_answers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "proxy/http/shapes.hpp"
#include "routing/model_index.hpp"

namespace penstock::worker {
namespace {

constexpr std::size_t most_models = 100'000;

// What an engine of the pool that would be asked says of a model; of a name that none lists, the name.
served_model description(const fleet_view& fleet, const std::string& model) {
  const std::uint32_t pool = routing::choose_pool(fleet, model);
  if (pool != routing::no_pool)
    for (const std::uint32_t i : fleet.pools[pool].endpoints)
      for (const served_model& m : fleet.endpoints[i].models)
        if (m.id == model) return m;
  return {.id = model, .owned_by = "penstock"};
}

void append_text(std::string& out, std::string_view key, std::string_view value) {
  out += fmt::format(",\"{}\":\"", key);
  http::append_json_escaped(out, value);
  out += '"';
}

void append_model(std::string& out, const served_model& m) {
  out += "{\"id\":\"";
  http::append_json_escaped(out, m.id);
  out += fmt::format("\",\"object\":\"model\",\"created\":{}", m.created);
  append_text(out, "owned_by", m.owned_by.empty() ? "penstock" : m.owned_by);
  if (!m.root.empty()) append_text(out, "root", m.root);
  if (!m.parent.empty()) append_text(out, "parent", m.parent);
  if (m.max_model_len != 0) fmt::format_to(std::back_inserter(out), ",\"max_model_len\":{}", m.max_model_len);
  out += '}';
}

}  // namespace

std::string models_body(const fleet_view& fleet) {
  std::string out = "{\"object\":\"list\",\"data\":[";
  bool first = true;
  for (const std::string& model : routing::known_models(fleet, most_models)) {
    if (!first) out += ',';
    first = false;
    append_model(out, description(fleet, model));
  }
  return out + "]}";
}

std::optional<std::string> model_body(const fleet_view& fleet, std::string_view id) {
  const std::vector<std::string> known = routing::known_models(fleet, most_models);
  if (!std::binary_search(known.begin(), known.end(), id)) return std::nullopt;
  std::string out;
  append_model(out, description(fleet, std::string(id)));
  return out;
}

}  // namespace penstock::worker
