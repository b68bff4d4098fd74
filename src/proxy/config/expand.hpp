// ${NAME} in strings.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "proxy/config/load.hpp"

namespace penstock::conf {

// What could not be expanded: the "${..." as written, so that its place can be found in the file.
struct expand_error {
  std::string token;
  std::size_t occurrence = 0;  // how many equal tokens come before it
  std::string what;
  std::string hint;
};

// Replaces each ${NAME} by its value, once (values are not looked into); "$${" gives "${", and any other
// "$" stays.
std::variant<std::string, expand_error> expand(std::string_view text, const environment& env);

}  // namespace penstock::conf
