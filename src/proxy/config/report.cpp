#include "proxy/config/report.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <tuple>

namespace penstock::conf {
namespace {

std::vector<problem> in_file_order(std::vector<problem> list) {
  std::stable_sort(list.begin(), list.end(), [](const problem& a, const problem& b) {
    return std::tie(a.line, a.column) < std::tie(b.line, b.column);
  });
  return list;
}

}  // namespace

position report::where(std::string_view key) const {
  while (!key.empty()) {
    if (const auto found = places_.find(key); found != places_.end()) return found->second;
    const auto cut = key.find_last_of(".[");
    key = key.substr(0, cut == std::string_view::npos ? 0 : cut);
  }
  return {1, 1};
}

void report::error(const std::string& key, position at, std::string what, std::string hint) {
  bad_.insert(key);
  // Beyond the cut nobody reads them; the count stays small whatever the file holds.
  if (errors_.size() > 4 * most_problems) return;
  errors_.push_back({file_, at.line, at.column, key, std::move(what), std::move(hint)});
}

void report::error(const std::string& key, std::string what, std::string hint) {
  error(key, where(key), std::move(what), std::move(hint));
}

void report::warn(const std::string& key, std::string what, std::string hint) {
  const auto at = where(key);
  if (warnings_.size() < most_problems)
    warnings_.push_back({file_, at.line, at.column, key, std::move(what), std::move(hint)});
}

std::vector<problem> report::errors() const {
  auto list = in_file_order(errors_);
  if (list.size() <= most_problems) return list;
  list.resize(most_problems);
  const auto& last = list.back();
  list.push_back({file_, last.line, last.column, "", "too many errors, the rest is not shown", ""});
  return list;
}

std::vector<problem> report::warnings() const { return in_file_order(warnings_); }

std::string plain_key(std::string_view key) {
  std::string out;
  bool inside = false;
  for (const char c : key) {
    if (c == '[') inside = true;
    if (!inside) out += c;
    if (c == ']') inside = false;
  }
  return out;
}

}  // namespace penstock::conf
