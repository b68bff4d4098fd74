// The one table that describes every key of the configuration. Validation, defaults, `penstock check` and
// conf/REFERENCE.md come from it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "proxy/config/setting.hpp"

namespace penstock::conf {

enum class value_type : std::uint8_t {
  text,
  text_list,
  boolean,
  integer,
  size,
  number,
  duration,
  choice,
  choice_or_count,  // a word, kept as -1, -2, ... in the order of the choices, or a count
  headers,
};
std::string_view name(value_type t);     // "duration"
std::string_view example(value_type t);  // "\"30s\"": as written in TOML

// Bounds and default are written as a user would write the value, without quotes; of a list, the default
// is its only item, or "" for an empty list.
struct key_spec {
  std::string_view name;
  value_type type = value_type::text;
  std::string_view fallback = {};
  std::string_view least = {};  // numbers, sizes and durations have both bounds
  std::string_view most = {};
  std::string_view special = {};  // what 0 (or -1) means, where that value stands for something else
  bool zero_allowed = false;      // 0 is allowed although below `least`
  bool reload = true;             // may change on SIGHUP
  bool required = false;
  bool secret = false;           // never shown
  std::string_view sample = {};  // of a required key, as TOML
  std::span<const std::string_view> choices = {};
  std::string_view text = {};  // what it is, and where its default comes from
  slot member = {};
};

struct section_spec {
  std::string_view path;  // "server", "pool.endpoint"
  bool repeated = false;  // [[...]]
  std::string_view text;
  std::span<const key_spec> keys;
  // The struct of a section that occurs once; null for repeated ones.
  void* (*find)(config& c) = nullptr;
  const void* (*view)(const config& c) = nullptr;

  const key_spec* key(std::string_view name) const;
  std::string header() const;  // "[server]", "[[pool]]"
};

// In the order of the reference page. The pool sections come last.
std::span<const section_spec> sections();
const section_spec& section(std::string_view path);

// Writes every default of the section into `target`, its struct.
void apply_defaults(const section_spec& s, void* target);

// Puts a value of the key's type into its member of `target`.
void store(const key_spec& key, void* target, const setting& value);

// A TOML basic string.
std::string quoted_toml(std::string_view text);

// A value as TOML source: "30s" in quotes, 64MiB in quotes, numbers bare, lists and headers in brackets.
std::string to_toml(const key_spec& key, const setting& value);

// `text` as a value of the key's type: for defaults, bounds, durations, sizes and choices. Bounds are not
// checked. An error says why and how to write it.
struct value_error {
  std::string what;
  std::string hint;
};
std::variant<setting, value_error> parse_value(const key_spec& key, std::string_view text);

// Why the value is outside of the key's bounds, or empty strings.
value_error check_bounds(const key_spec& key, const setting& value);

// "1ms to 1h, or 0s: never"; empty for keys without bounds.
std::string describe_bounds(const key_spec& key);

}  // namespace penstock::conf
