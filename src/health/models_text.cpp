#include "health/models_text.hpp"

#include <simdjson.h>

#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace penstock::health {
namespace {

namespace dom = simdjson::dom;

// A string field; "" where it is absent, null, of another type or absurdly long.
std::string text_field(dom::object object, std::string_view key) {
  std::string_view value;
  if (object[key].get(value) != simdjson::SUCCESS || value.size() > max_model_id_bytes) return {};
  return std::string(value);
}

std::uint64_t count_field(dom::object object, std::string_view key) {
  std::uint64_t value = 0;
  return object[key].get(value) == simdjson::SUCCESS ? value : 0;
}

served_model read_model(dom::object object) {
  served_model m;
  m.id = text_field(object, "id");
  m.root = text_field(object, "root");
  m.parent = text_field(object, "parent");
  m.owned_by = text_field(object, "owned_by");
  m.max_model_len = count_field(object, "max_model_len");
  if (object["created"].get(m.created) != simdjson::SUCCESS) m.created = 0;
  dom::object meta;
  if (m.max_model_len == 0 && object["meta"].get(meta) == simdjson::SUCCESS) {
    m.max_model_len = count_field(meta, "n_ctx");
  }
  if (m.root.empty()) m.root = m.id;
  return m;
}

class model_list {
 public:
  bool full() const { return models_.size() >= max_models; }
  void add(served_model m) {
    if (m.id.empty() || full() || !seen_.insert(m.id).second) return;
    models_.push_back(std::move(m));
  }
  void add_aliases(dom::object object, const served_model& of) {
    dom::array aliases;
    if (of.id.empty() || object["aliases"].get(aliases) != simdjson::SUCCESS) return;
    for (dom::element alias : aliases) {
      std::string_view id;
      if (full()) return;
      if (alias.get(id) != simdjson::SUCCESS || id.size() > max_model_id_bytes) continue;
      served_model named = of;
      named.id = std::string(id);
      add(std::move(named));
    }
  }
  std::vector<served_model> take() { return std::move(models_); }

 private:
  std::vector<served_model> models_;
  std::unordered_set<std::string> seen_;
};

}  // namespace

std::optional<std::vector<served_model>> read_models(bytes_view json) {
  if (json.size() > max_models_text_bytes) return std::nullopt;
  const simdjson::padded_string text(json.data(), json.size());
  dom::parser parser(max_models_text_bytes);
  dom::object root;
  dom::array data;
  if (parser.parse(text).get(root) != simdjson::SUCCESS || root["data"].get(data) != simdjson::SUCCESS) {
    return std::nullopt;
  }
  model_list list;
  // Names come before aliases: an alias never hides a model that is listed later.
  for (dom::element entry : data) {
    dom::object object;
    if (list.full()) break;
    if (entry.get(object) == simdjson::SUCCESS) list.add(read_model(object));
  }
  for (dom::element entry : data) {
    dom::object object;
    if (list.full()) break;
    if (entry.get(object) == simdjson::SUCCESS) list.add_aliases(object, read_model(object));
  }
  return list.take();
}

}  // namespace penstock::health
