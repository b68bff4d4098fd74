// A look over a text before the TOML library sees it, for what the library handles badly.
#pragma once

#include <optional>
#include <string_view>

#include "proxy/config/tree.hpp"

namespace penstock::conf {

// toml++ recurses once per dot of a key without a bound, and its test for Unicode white space runs into
// undefined behaviour on most characters above U+00A0 (seen in 3.3.0). So keys of more than 16 dots,
// non-ASCII bytes outside comments and one-line strings, and quotes that follow a value directly are
// refused here.
std::optional<syntax_error> prescan(std::string_view text);

}  // namespace penstock::conf
