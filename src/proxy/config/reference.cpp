#include "proxy/config/reference.hpp"

#include <fmt/core.h>

#include "proxy/config/endpoint_url.hpp"
#include "proxy/config/schema.hpp"

namespace penstock::conf {
namespace {

constexpr std::string_view introduction = R"(# Configuration reference

<!-- Generated from the table of keys in src/proxy/config/schema_table.cpp. A test compares them;
     UPDATE_GOLDEN=1 rewrites this page. -->

Penstock reads one TOML file. `penstock check FILE` reports every mistake in it with file, line and column;
`--print` shows the configuration that results. SIGHUP reads the file again: a wrong file changes nothing, and a key
whose column "reload" says no needs a restart.

- **Durations** are strings of whole numbers with units, `"30s"`, `"1m30s"`, `"250ms"`: us, ms, s, m, h.
- **Sizes** are strings with a unit, `"64MiB"`, `"1MB"` (KiB = 1024, kB = 1000), or a plain number of bytes.
- **`${NAME}`** in any string is the environment variable of that name; one that is not set is an error. `$${` is
  a plain `${`.
- Unknown keys are errors.
- **Deadlines that contain each other** must not contradict: `first_token` and `between_events` are at most
  `total`, `connect` and `routing.hold` at most `first_token`, `drain_settle` at most `drain`, `health.timeout` at most
  `health.interval`. The inner one, if it is not written, gives way to a shorter outer one.

The smallest configuration:

```toml
[[pool]]
[[pool.endpoint]]
url = "http://127.0.0.1:8000"
```
)";

std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

std::string default_cell(const key_spec& key) {
  if (key.required) return "required";
  return fmt::format("`{}`", to_toml(key, std::get<setting>(parse_value(key, key.fallback))));
}

std::string values_cell(const key_spec& key) {
  std::string out;
  for (const auto& c : key.choices) out += fmt::format("{}`\"{}\"`", out.empty() ? "" : ", ", c);
  const auto bounds = describe_bounds(key);
  return out + (out.empty() || bounds.empty() ? "" : "; ") + bounds;
}

std::string section_markdown(const section_spec& s) {
  auto out = fmt::format("\n## {}\n\n", s.header());
  if (!s.text.empty()) out += fmt::format("{}\n\n", s.text);
  out += "| key | type | default | values | reload | meaning |\n|---|---|---|---|---|---|\n";
  for (const auto& key : s.keys)
    out +=
        fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", key.name, name(key.type), cell(default_cell(key)),
                    cell(values_cell(key)), key.reload ? "yes" : "no", cell(key.text));
  return out;
}

std::string section_toml(const section_spec& s, const void* target) {
  auto out = s.header() + "\n";
  for (const auto& key : s.keys) {
    auto value = key.member.get(target);
    // An absent key and an empty one differ: an empty api_key is an error.
    if (key.secret && (value == setting{std::string()} || value == setting{header_list{}})) continue;
    out += fmt::format("{} = {}\n", key.name, to_toml(key, value));
  }
  return out;
}

}  // namespace

std::string reference_markdown() {
  std::string out(introduction);
  for (const auto& s : sections()) out += section_markdown(s);
  return out;
}

std::string effective_toml(const config& c) {
  std::string out;
  for (const auto& s : sections())
    if (s.view != nullptr) out += section_toml(s, s.view(c)) + "\n";
  for (const auto& pool : c.pools) {
    out += section_toml(section("pool"), &pool) + "\n";
    if (pool.disaggregation.enabled)
      out += section_toml(section("pool.disaggregation"), &pool.disaggregation) + "\n";
    for (const auto& endpoint : pool.endpoints)
      out += section_toml(section("pool.endpoint"), &endpoint) + "\n";
  }
  if (!out.empty()) out.pop_back();
  return out;
}

std::string reload_conflict(const config& running, const config& next) {
  std::string out;
  for (const auto& s : sections()) {
    if (s.view == nullptr) continue;
    for (const auto& key : s.keys) {
      if (key.reload || key.member.get(s.view(running)) == key.member.get(s.view(next))) continue;
      out += fmt::format("{}{}.{}", out.empty() ? "" : ", ", s.path, key.name);
    }
  }
  return out;
}

}  // namespace penstock::conf
