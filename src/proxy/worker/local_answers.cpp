#include "proxy/worker/local_answers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "proxy/http/shapes.hpp"

namespace penstock::worker {
namespace {

bool lists(const pool_view& pool, std::string_view model) {
  return std::find(pool.models.begin(), pool.models.end(), model) != pool.models.end();
}

// By name, so that the answer is the same from every replica.
std::map<std::string, served_model> served_here(const fleet_view& fleet) {
  std::map<std::string, served_model> all;
  for (const endpoint_view& e : fleet.endpoints) {
    const pool_view& pool = fleet.pools[e.pool];
    for (const served_model& m : e.models)
      if (lists(pool, "*") || lists(pool, m.id) || (!m.parent.empty() && lists(pool, m.parent)))
        all.emplace(m.id, m);
  }
  for (const pool_view& pool : fleet.pools)
    for (const std::string& model : pool.models)
      if (model != "*") all.emplace(model, served_model{.id = model, .owned_by = "penstock"});
  return all;
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
  for (const auto& [id, model] : served_here(fleet)) {
    if (!first) out += ',';
    first = false;
    append_model(out, model);
  }
  return out + "]}";
}

std::optional<std::string> model_body(const fleet_view& fleet, std::string_view id) {
  const auto all = served_here(fleet);
  const auto found = all.find(std::string(id));
  if (found == all.end()) return std::nullopt;
  std::string out;
  append_model(out, found->second);
  return out;
}

}  // namespace penstock::worker
