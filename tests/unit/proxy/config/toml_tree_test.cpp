#include "proxy/config/tree.hpp"

#include <doctest/doctest.h>
#include <fmt/core.h>

#include <string>

using namespace penstock::conf;

namespace {

tree_value parsed(std::string_view text) {
  auto r = parse_toml(text);
  if (auto* bad = std::get_if<syntax_error>(&r))
    FAIL(fmt::format("{}:{} {}", bad->at.line, bad->at.column, bad->what));
  return std::get<tree_value>(std::move(r));
}

std::string wrong(std::string_view text) {
  const auto r = parse_toml(text);
  const auto* bad = std::get_if<syntax_error>(&r);
  INFO(text);
  REQUIRE(bad != nullptr);
  return fmt::format("{}:{} {}", bad->at.line, bad->at.column, bad->what);
}

std::string repeated(std::string_view piece, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += piece;
  return out;
}

}  // namespace

TEST_CASE("every key and value knows its place") {
  const auto root = parsed(
      "\xef\xbb\xbf"
      "text = \"é\" # ü\r\n"
      "[a.b]\r\n"
      "  list = [ 1, 2.5,\n  true ]\n"
      "[[c]]\n"
      "when = 2020-01-01\n"
      "in.side = { k = 'v' }\n");
  REQUIRE(root.members.size() == 3);
  CHECK(root.members[0].key == "text");
  CHECK(root.members[0].at == position{1, 1});
  CHECK(root.members[0].value.text == "é");
  CHECK(root.members[0].value.at == position{1, 8});
  CHECK(root.members[0].value.end == position{1, 11});
  const auto& b = root.members[1].value.members[0].value;
  CHECK(b.at == position{2, 1});
  const auto& list = b.members[0].value;
  REQUIRE(list.items.size() == 3);
  CHECK(list.at == position{3, 10});
  CHECK(list.items[0].integer == 1);
  CHECK(list.items[1].number == 2.5);
  CHECK(list.items[2].boolean);
  CHECK(list.items[2].at == position{4, 3});
  const auto& c = root.members[2].value;
  CHECK(c.kind == value_kind::array);
  CHECK(c.items[0].at == position{5, 1});
  CHECK(c.items[0].members[0].value.kind == value_kind::date);
  CHECK(c.items[0].members[1].key == "in");
  CHECK(c.items[0].members[1].value.members[0].value.members[0].value.text == "v");
}

TEST_CASE("members keep the order of the text") {
  const auto root = parsed("z = 1\na = 2\nm = 3\n");
  CHECK(root.members[0].key == "z");
  CHECK(root.members[1].key == "a");
  CHECK(root.members[2].key == "m");
}

// Words and columns are the library's and differ between its versions; the line is ours to rely on.
TEST_CASE("texts that are no TOML") {
  for (const std::string_view text :
       {std::string_view("a = "), std::string_view("a = \"b\n"), std::string_view("a = \"\xff\"\n"),
        std::string_view("[a\n"), std::string_view("a = \"\0\"\n", 8), std::string_view("a = [1, 2"),
        std::string_view("a"), std::string_view("a = 99999999999999999999\n"),
        std::string_view("a = \"\\q\"")})
    CHECK(wrong(text).substr(0, 2) == "1:");
  for (const std::string_view text :
       {"[=", "[!]", "[[ ]]", "[]", "[a.]", "[a.=]", "a. = 1", "= 1", ". = 1", "[\"", "a.\n"})
    CHECK(wrong(text).substr(0, 2) == "1:");
  CHECK(wrong("\na = 01\n").substr(0, 2) == "2:");
  CHECK(wrong("a = 1\na = 2\n").find("not valid TOML: ") != std::string::npos);
  CHECK(wrong("a = 1\na = 2\n").find("redefine existing integer 'a'") != std::string::npos);
  // What is repeated of the file is fit for a terminal.
  const auto controls = wrong("a = t\x1b[31m\n");
  CHECK(controls.find('\x1b') == std::string::npos);
  const auto unquoted = parse_toml("a = localhost\n");
  CHECK(std::get<syntax_error>(unquoted).hint == "strings need quotes");
  const auto open = parse_toml("a = \"localhost\n");
  CHECK(std::get<syntax_error>(open).hint == "is the closing quote missing?");
}

TEST_CASE("deep nesting is refused, not recursed into") {
  CHECK(wrong(repeated("a.", 17) + "a = 1") == "1:34 a key of more than 16 dots");
  CHECK(wrong("[" + repeated("a.", 100000) + "a]") == "1:35 a key of more than 16 dots");
  CHECK(wrong("x = 1\n\"y.y\" = 2\n[" + repeated("'b.b' . ", 17) + "c]").substr(0, 2) == "3:");
  CHECK(wrong("a = " + repeated("[", 100000)).substr(0, 2) == "1:");
  CHECK(wrong("a = " + repeated("{a=", 100000)).substr(0, 2) == "1:");
  parsed(repeated("a.", 16) + "a = 1");
  // Dots of different keys and of numbers do not add up.
  parsed("a = [" + repeated("1.5, ", 1000) + "]");
  parsed(repeated("[x.y.z]\n", 1));
  parsed("s = \"" + repeated(".", 1000) + "\" # " + repeated(".", 1000) + "\nt = 1.5\n");
}

TEST_CASE("non-ASCII text is read in comments and one-line strings only") {
  CHECK(wrong("ü = 1") == "1:1 a character that is not ASCII outside of strings and comments");
  CHECK(wrong("a = 1\nb = é") == "2:5 a character that is not ASCII outside of strings and comments");
  CHECK(wrong("a = \"ü\" é") == "1:9 a character that is not ASCII outside of strings and comments");
  CHECK(wrong("a = \"\"\"\nü\"\"\"") == "2:1 a character that is not ASCII in a multi-line string");
  CHECK(wrong("a = [4\"é") == "1:7 a quote in the middle of a key or value");
  CHECK(wrong("a = \"b\"\"c\"") == "1:8 a quote in the middle of a key or value");
  CHECK(wrong("a = \"\\ü\"").substr(0, 2) == "1:");
  const auto root = parsed(
      "\"ü\" = 'é' # ö\n'ä' = \"ß\\\"é\" # \"\nx = \"\"\"a\\\"\"\"\"\n# é\ny = '''a''b'''''\n# é\nz = \"\" # "
      "é\n");
  CHECK(root.members[1].value.text == "ß\"é");
  CHECK(root.members[2].value.text == "a\"");
  CHECK(root.members[3].value.text == "a''b''");
  CHECK(root.members[4].value.text == "");
}
