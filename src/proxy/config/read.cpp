#include "proxy/config/read.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "proxy/config/read_value.hpp"
#include "proxy/config/schema.hpp"
#include "proxy/config/text.hpp"
#include "proxy/config/unknown_key.hpp"

namespace penstock::conf {
namespace {

class file_reader {
 public:
  file_reader(std::string_view text, const environment& env, report& out)
      : values_(text, env, out), out_(out) {}

  void read_root(const tree_value& root, config& c) {
    for (const auto& member : root.members) {
      if (member.key == "pool") {
        read_pools(member, c);
        continue;
      }
      const auto all = sections();
      const auto s = std::find_if(all.begin(), all.end(), [&](const section_spec& one) {
        return one.find != nullptr && one.path == member.key;
      });
      if (s == all.end())
        unknown_section(member);
      else if (is_table(member.value, member.key, fmt::format("write [{}]", member.key)))
        read_section(member.value, *s, s->find(c), member.key);
    }
  }

 private:
  void unknown_section(const tree_member& member) {
    const auto& items = member.value.items;
    const bool tables = !items.empty() && items[0].kind == value_kind::table;
    const bool section = member.value.kind == value_kind::table || tables;
    out_.error(member.key, member.at,
               fmt::format("unknown {} {}", section ? "section" : "key", in_quotes(member.key)),
               section ? unknown_section_hint(member.key) : misplaced_key_hint(member.key));
  }

  bool is_table(const tree_value& value, const std::string& path, std::string hint) {
    if (value.kind == value_kind::table) return true;
    out_.error(path, value.at,
               fmt::format("{}: found {}, but a table is wanted", plain_key(path),
                           value_reader::found(value, false)),
               std::move(hint));
    return false;
  }

  static bool is_section(std::string_view parent, std::string_view key) {
    const auto all = sections();
    return std::any_of(all.begin(), all.end(),
                       [&](const section_spec& s) { return s.path == fmt::format("{}.{}", parent, key); });
  }

  // The members of `table` that are keys of `s`; sections inside of it are left out.
  void read_section(const tree_value& table, const section_spec& s, void* target, const std::string& path) {
    out_.place(path, table.at);
    for (const auto& member : table.members) {
      if (is_section(s.path, member.key)) continue;
      const auto* key = s.key(member.key);
      const auto key_path = fmt::format("{}.{}", path, member.key);
      if (key == nullptr) {
        out_.error(key_path, member.at,
                   fmt::format("unknown key {} in {}", in_quotes(member.key), s.header()),
                   unknown_key_hint(s, member.key));
        continue;
      }
      out_.place(key_path, member.value.at);
      if (const auto value = values_.read(*key, key_path, member.value)) store(*key, target, *value);
    }
    for (const auto& key : s.keys)
      if (key.required && !out_.has(fmt::format("{}.{}", path, key.name)))
        out_.error(fmt::format("{}.{}", path, key.name), table.at,
                   fmt::format("{}: \"{}\" is missing", s.path, key.name),
                   fmt::format("as in {} = {}", key.name, key.sample));
  }

  // Calls `each(table, path)` for the items of an array of tables, with null for what is no table: indices
  // of the file and of the config stay the same.
  template <class Each>
  void read_array(const tree_member& member, const std::string& path, std::string_view header, Each each) {
    out_.place(path, member.at);
    const auto hint = fmt::format("write {}, once for each", header);
    if (member.value.kind != value_kind::array) {
      out_.error(path, member.value.at,
                 fmt::format("{}: found {}, but a list of tables is wanted", plain_key(path),
                             value_reader::found(member.value, false)),
                 hint);
      return;
    }
    for (std::size_t i = 0; i < member.value.items.size(); ++i) {
      const auto item_path = fmt::format("{}[{}]", path, i);
      const auto& item = member.value.items[i];
      each(is_table(item, item_path, hint) ? &item : nullptr, item_path);
    }
  }

  void read_pools(const tree_member& member, config& c) {
    read_array(member, "pool", "[[pool]]", [&](const tree_value* table, const std::string& path) {
      auto& pool = c.pools.emplace_back();
      apply_defaults(section("pool"), &pool);
      apply_defaults(section("pool.disaggregation"), &pool.disaggregation);
      if (table == nullptr) return;
      read_section(*table, section("pool"), &pool, path);
      for (const auto& inner : table->members) {
        if (inner.key == "endpoint") read_endpoints(inner, path + ".endpoint", pool);
        if (inner.key == "disaggregation") read_disaggregation(inner, path + ".disaggregation", pool);
      }
    });
  }

  void read_disaggregation(const tree_member& member, const std::string& path, pool_config& pool) {
    out_.place(path, member.at);
    if (!is_table(member.value, path, "write [pool.disaggregation], once for each [[pool]]")) return;
    pool.disaggregation.enabled = true;
    read_section(member.value, section("pool.disaggregation"), &pool.disaggregation, path);
  }

  void read_endpoints(const tree_member& member, const std::string& path, pool_config& pool) {
    read_array(member, path, "[[pool.endpoint]]", [&](const tree_value* table, const std::string& item_path) {
      auto& endpoint = pool.endpoints.emplace_back();
      apply_defaults(section("pool.endpoint"), &endpoint);
      if (table != nullptr) read_section(*table, section("pool.endpoint"), &endpoint, item_path);
    });
  }

  value_reader values_;
  report& out_;
};

}  // namespace

config read(const tree_value& root, std::string_view text, const environment& env, report& out) {
  auto c = defaults();
  file_reader(text, env, out).read_root(root, c);
  return c;
}

}  // namespace penstock::conf
