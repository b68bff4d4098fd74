#include "proxy/config/load.hpp"

#include <fmt/core.h>

#include "proxy/config/check.hpp"
#include "proxy/config/endpoint_url.hpp"
#include "proxy/config/read.hpp"
#include "proxy/config/report.hpp"
#include "proxy/config/schema.hpp"
#include "proxy/config/tree.hpp"

namespace penstock::conf {

std::string to_string(const problem& p) {
  auto out = p.line == 0 ? fmt::format("{}: {}", p.file, p.what)
                         : fmt::format("{}:{}:{}: {}", p.file, p.line, p.column, p.what);
  if (!p.hint.empty()) out += fmt::format(" ({})", p.hint);
  return out;
}

config defaults() {
  config c;
  for (const auto& s : sections())
    if (s.find != nullptr) apply_defaults(s, s.find(c));
  return c;
}

loaded load(std::string_view text, std::string_view file_name, const environment& env) {
  const std::string file(file_name);
  loaded out;
  if (text.size() > most_text) {
    out.errors.push_back({file, 0, 0, "",
                          fmt::format("{} bytes are too long for a configuration", text.size()),
                          "4MiB is the most"});
    return out;
  }
  auto parsed = parse_toml(text);
  if (auto* bad = std::get_if<syntax_error>(&parsed)) {
    out.errors.push_back(
        {file, bad->at.line, bad->at.column, "", std::move(bad->what), std::move(bad->hint)});
    return out;
  }
  report found(file);
  auto c = read(std::get<tree_value>(parsed), text, env, found);
  c.source = file;
  check_listeners(c, found);
  check_sections(c, found);
  check_pools(c, found);
  take_urls_apart(c);
  out.errors = found.errors();
  out.warnings = found.warnings();
  if (!found.failed()) out.value = std::make_shared<const config>(std::move(c));
  return out;
}

}  // namespace penstock::conf
