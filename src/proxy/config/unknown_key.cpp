#include "proxy/config/unknown_key.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "proxy/config/text.hpp"

namespace penstock::conf {
namespace {

// "[server], [admin]": every section that has the key.
std::string sections_with(std::string_view key) {
  std::string out;
  for (const auto& s : sections())
    if (s.key(key) != nullptr) out += (out.empty() ? "" : " or ") + s.header();
  return out;
}

std::vector<std::string_view> names_in(const section_spec& s) {
  std::vector<std::string_view> out;
  for (const auto& key : s.keys) out.push_back(key.name);
  for (const auto& inner : sections())
    if (inner.path.starts_with(std::string(s.path) + "."))
      out.push_back(inner.path.substr(s.path.size() + 1));
  return out;
}

}  // namespace

std::string unknown_key_hint(const section_spec& in, std::string_view key) {
  if (const auto homes = sections_with(key); !homes.empty())
    return fmt::format("\"{}\" belongs to {}", key, homes);
  const auto names = names_in(in);
  if (const auto near = nearest(key, names)) return fmt::format("did you mean \"{}\"?", *near);
  return "known keys: " + join(names);
}

std::string unknown_section_hint(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& s : sections()) names.push_back(s.path.substr(s.path.rfind('.') + 1));
  if (const auto near = nearest(name, names)) {
    const auto all = sections();
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const section_spec& s) { return s.path.ends_with(*near); });
    return fmt::format("did you mean {}?", found->header());
  }
  if (const auto homes = sections_with(name); !homes.empty())
    return fmt::format("\"{}\" belongs to {}", name, homes);
  std::string known;
  for (const auto& s : sections()) known += (known.empty() ? "" : ", ") + s.header();
  return "known sections: " + known;
}

std::string misplaced_key_hint(std::string_view key) {
  const auto homes = sections_with(key);
  return homes.empty() ? unknown_section_hint(key) : fmt::format("\"{}\" belongs to {}", key, homes);
}

}  // namespace penstock::conf
