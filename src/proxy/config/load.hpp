// Text of a configuration file in, an immutable config out, or every mistake in it with its place.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/config.hpp"

namespace penstock::conf {

// One mistake or one suspicious value. Lines and columns count from 1; columns count characters, not
// bytes. A problem of the file as a whole has line 0.
struct problem {
  std::string file;
  unsigned line = 0;
  unsigned column = 0;
  std::string key;  // dotted, with 0-based indices: "pool[0].endpoint[2].url"; empty for syntax errors
  std::string what;
  std::string hint;  // may be empty

  friend bool operator==(const problem&, const problem&) = default;
};

// "file:line:column: what (hint)". Control bytes of the file's text are escaped; secrets never occur.
std::string to_string(const problem& p);

struct loaded {
  std::shared_ptr<const config> value;  // null if there are errors
  std::vector<problem> errors;          // in file order; at most `most_problems`, then a line that says so
  std::vector<problem> warnings;        // in file order
};

inline constexpr std::size_t most_problems = 200;
// A longer text is refused unread: nobody writes it by hand, and the parser keeps a tree of it.
inline constexpr std::size_t most_text = 4U << 20;

// The value of an environment variable, nothing if it is not set.
using environment = std::function<std::optional<std::string>(std::string_view)>;

// Reads a whole configuration. Pure: `text` is the file's content, `file_name` only labels problems and
// fills config::source. Syntax errors are reported alone (the rest of the text has no meaning then), all
// others at once. Throws nothing but std::bad_alloc.
loaded load(std::string_view text, std::string_view file_name, const environment& env);

// Every key at its default, and no pool: what demo and tests start from.
config defaults();

}  // namespace penstock::conf
