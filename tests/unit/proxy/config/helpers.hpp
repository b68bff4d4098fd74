// What the tests of this room share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "proxy/config/load.hpp"

namespace penstock::conf::testing {

// A pool that is right: what tests of other sections append.
inline constexpr std::string_view good_pool = "[[pool]]\n[[pool.endpoint]]\nurl = \"http://engine:8000\"\n";

inline std::string with_pool(std::string_view sections) { return std::string(sections).append(good_pool); }

// A configuration and the lines that are said about it.
struct sample {
  std::string_view title;
  std::string text;
  std::string_view said;
};

inline std::optional<std::string> variable(std::string_view name) {
  if (name == "PORT") return "8000";
  if (name == "KEY") return "sk-very-secret";
  if (name == "EMPTY") return "";
  if (name == "WITH_BREAK") return "sk-very-secret\n";
  return std::nullopt;
}

inline loaded load_text(std::string_view text) { return load(text, "c.toml", variable); }

inline std::vector<std::string> lines(const std::vector<problem>& list) {
  std::vector<std::string> out;
  for (const auto& p : list) out.push_back(to_string(p));
  return out;
}

inline std::string joined(const std::vector<problem>& list) {
  std::string out;
  for (const auto& p : list) out += to_string(p) + "\n";
  return out;
}

}  // namespace penstock::conf::testing
