#include "proxy/config/expand.hpp"

#include <doctest/doctest.h>

using namespace penstock::conf;

namespace {

std::optional<std::string> variable(std::string_view name) {
  if (name == "A") return "1";
  if (name == "LONG_name9") return "long";
  if (name == "BYTES") return "\xff";
  if (name == "EMPTY") return "";
  if (name == "NESTED") return "${A}";
  return std::nullopt;
}

std::string expanded(std::string_view text) {
  const auto r = expand(text, variable);
  INFO(text);
  REQUIRE(std::holds_alternative<std::string>(r));
  return std::get<std::string>(r);
}

expand_error failed(std::string_view text) {
  const auto r = expand(text, variable);
  INFO(text);
  REQUIRE(std::holds_alternative<expand_error>(r));
  return std::get<expand_error>(r);
}

}  // namespace

TEST_CASE("variables are replaced once, escapes and single dollars stay") {
  CHECK(expanded("") == "");
  CHECK(expanded("plain $ text $A {A} }") == "plain $ text $A {A} }");
  CHECK(expanded("${A}") == "1");
  CHECK(expanded("x${A}${LONG_name9}y") == "x1longy");
  CHECK(expanded("[${EMPTY}]") == "[]");
  CHECK(expanded("${NESTED}") == "${A}");
  CHECK(expanded("$${A}") == "${A}");
  CHECK(expanded("$$${A}") == "$${A}");
  CHECK(expanded("${A}$${A}${A}") == "1${A}1");
  CHECK(expanded("$${${A}") == "${1");
  CHECK(expanded("$") == "$");
  CHECK(expanded("$$") == "$$");
}

TEST_CASE("what cannot be replaced is named with its token") {
  CHECK(failed("x${B}").what == "environment variable B is not set");
  CHECK(failed("x${B}").token == "${B}");
  CHECK(failed("$${B} ${B}").occurrence == 1);
  CHECK(failed("${A").what == "\"${\" without \"}\"");
  CHECK(failed("${BYTES}").what == "environment variable BYTES holds bytes that are no UTF-8");
  CHECK(failed("${}").what == "\"\" is no name of an environment variable");
  CHECK(failed("${A:-x}").what == "\"A:-x\" is no name of an environment variable");
  CHECK(failed("${9A}").what == "\"9A\" is no name of an environment variable");
  // Without an environment nothing is set.
  const auto r = expand("${A}", environment{});
  CHECK(std::holds_alternative<expand_error>(r));
}
