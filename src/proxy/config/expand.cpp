#include "proxy/config/expand.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "proxy/config/text.hpp"

namespace penstock::conf {
namespace {

bool valid_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !name.empty() && letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

std::size_t count_before(std::string_view text, std::size_t end, std::string_view token) {
  std::size_t n = 0;
  for (auto at = text.find(token); at < end; at = text.find(token, at + 1)) ++n;
  return n;
}

}  // namespace

std::variant<std::string, expand_error> expand(std::string_view text, const environment& env) {
  std::string out;
  std::size_t from = 0;
  while (true) {
    const auto open = text.find("${", from);
    if (open == std::string_view::npos) break;
    out += text.substr(from, open - from);
    if (open > from && text[open - 1] == '$') {  // "$${": the first "$" is already in `out`
      out += '{';
      from = open + 2;
      continue;
    }
    const auto close = text.find('}', open);
    const auto token = text.substr(open, close == std::string_view::npos ? close : close - open + 1);
    const auto fail = [&](std::string what, std::string hint) {
      return expand_error{std::string(token), count_before(text, open, token), std::move(what),
                          std::move(hint)};
    };
    if (close == std::string_view::npos)
      return fail("\"${\" without \"}\"", "write \"$${\" for a plain \"${\"");
    const auto variable = token.substr(2, token.size() - 3);
    if (!valid_name(variable))
      return fail(fmt::format("{} is no name of an environment variable", in_quotes(variable)),
                  "write ${NAME}, or \"$${\" for a plain \"${\"");
    const auto value = env ? env(variable) : std::nullopt;
    if (!value) return fail(fmt::format("environment variable {} is not set", variable), "");
    if (!valid_utf8(*value))
      return fail(fmt::format("environment variable {} holds bytes that are no UTF-8", variable), "");
    out += *value;
    from = close + 1;
  }
  out += text.substr(from);
  return out;
}

}  // namespace penstock::conf
