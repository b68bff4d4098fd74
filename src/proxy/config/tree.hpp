// A TOML text as a plain tree with the place of every key and value, so that the library stays in one
// file of this room.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace penstock::conf {

// Counted from 1; columns count characters (code points).
struct position {
  unsigned line = 0;
  unsigned column = 0;

  friend bool operator==(const position&, const position&) = default;
  friend auto operator<=>(const position&, const position&) = default;
};

enum class value_kind : std::uint8_t { string, integer, number, boolean, date, array, table };

struct tree_member;

struct tree_value {
  value_kind kind = value_kind::table;
  position at;
  position end;                      // one past the last character
  std::string text;                  // string
  std::int64_t integer = 0;          // integer
  double number = 0;                 // number
  bool boolean = false;              // boolean
  std::vector<tree_value> items;     // array
  std::vector<tree_member> members;  // table, in the order of the text
};

struct tree_member {
  std::string key;
  position at;
  tree_value value;
};

struct syntax_error {
  position at;
  std::string what;
  std::string hint;
};

// The root table, or the first place where `text` is no TOML 1.0. Depth is bounded (32 nested values, 16
// dots a key); outside comments and one-line strings only ASCII is read.
std::variant<tree_value, syntax_error> parse_toml(std::string_view text);

}  // namespace penstock::conf
