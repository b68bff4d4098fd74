// Where everything stands in the file, and what was found wrong with it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/config/load.hpp"
#include "proxy/config/tree.hpp"

namespace penstock::conf {

// Keys are dotted with 0-based indices: "server.listen[1]", "pool[0].endpoint[2].url".
class report {
 public:
  explicit report(std::string_view file) : file_(file) {}

  void place(const std::string& key, position at) { places_.insert_or_assign(key, at); }
  // Whether the file says anything about the key.
  bool has(const std::string& key) const { return places_.count(key) != 0; }
  // The place of the key or of the nearest section around it; line 1 if the file has none of them.
  position where(std::string_view key) const;

  // An error in this key. What was read for it is not to be judged any further: see usable().
  void error(const std::string& key, position at, std::string what, std::string hint);
  void error(const std::string& key, std::string what, std::string hint);
  void warn(const std::string& key, std::string what, std::string hint);
  bool usable(const std::string& key) const { return bad_.count(key) == 0; }
  // More errors than are shown: exact places are no longer worth their search.
  bool crowded() const { return errors_.size() > most_problems; }
  bool failed() const { return !errors_.empty(); }

  // Sorted by place; errors cut at most_problems.
  std::vector<problem> errors() const;
  std::vector<problem> warnings() const;

 private:
  std::string file_;
  std::map<std::string, position, std::less<>> places_;
  std::set<std::string, std::less<>> bad_;
  std::vector<problem> errors_;
  std::vector<problem> warnings_;
};

// "pool[0].endpoint[2].url" as people say it: "pool.endpoint.url".
std::string plain_key(std::string_view key);

}  // namespace penstock::conf
