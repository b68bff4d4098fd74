// From the tree of a file to the config struct: names, types, units, variables and bounds of single values.
#pragma once

#include <string_view>

#include "penstock/config.hpp"
#include "proxy/config/load.hpp"
#include "proxy/config/report.hpp"
#include "proxy/config/tree.hpp"

namespace penstock::conf {

// `text` is what `root` was parsed from: it tells the place inside of a string. Keys that are wrong or
// absent keep their defaults; mistakes and places go to `out`.
config read(const tree_value& root, std::string_view text, const environment& env, report& out);

}  // namespace penstock::conf
