// One value of the tree as a setting of the type that its key wants.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/config/load.hpp"
#include "proxy/config/report.hpp"
#include "proxy/config/schema.hpp"
#include "proxy/config/tree.hpp"

namespace penstock::conf {

class value_reader {
 public:
  // All arguments outlive the reader.
  value_reader(std::string_view text, const environment& env, report& out)
      : text_(text), env_(env), out_(out) {}

  // Nothing when the value is wrong, which was reported then. `path` is the full key with indices.
  std::optional<setting> read(const key_spec& key, const std::string& path, const tree_value& value);

  // "the integer 30": the value as a message shows it.
  static std::string found(const tree_value& value, bool secret);

 private:
  std::optional<setting> read_text(const key_spec& key, const std::string& path, const tree_value& value);
  // A wrong item is reported under its own path and stays as an empty string, so that the others can be
  // judged and indices are those of the file.
  std::optional<setting> read_list(const key_spec& key, const std::string& path, const tree_value& value);
  std::optional<setting> read_headers(const key_spec& key, const std::string& path, const tree_value& value);
  std::optional<std::string> expanded(const std::string& path, const tree_value& value);
  std::optional<setting> mismatch(const key_spec& key, const std::string& path, const tree_value& value);
  std::optional<setting> bounded(const key_spec& key, const std::string& path, const tree_value& value,
                                 setting read);
  position inside(const tree_value& value, std::string_view token, std::size_t occurrence);
  std::size_t offset_of(position at);

  std::string_view text_;
  const environment& env_;
  report& out_;
  std::vector<std::size_t> lines_;  // offset of each line; filled when first needed
};

}  // namespace penstock::conf
