// Text that was agreed on and stands in the tree.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "unit/source_dir.hpp"

namespace penstock::test {

// Compares with a file below the checkout, line by line, so that a difference names its line. With
// UPDATE_GOLDEN=1 in the environment the file is written anew instead.
inline void check_golden(const std::string& file, const std::string& now) {
  const std::string path = source_dir() + "/" + file;
  if (std::getenv("UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << now;
    return;
  }
  std::ifstream in(path);
  std::stringstream agreed;
  agreed << in.rdbuf();
  std::istringstream left(agreed.str()), right(now);
  for (std::string a, b; std::getline(right, b);) {
    std::getline(left, a);
    REQUIRE(a == b);
  }
  CHECK(agreed.str().size() == now.size());
}

}  // namespace penstock::test
