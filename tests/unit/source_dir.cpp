#include "unit/source_dir.hpp"

namespace penstock::test {

std::string source_dir() { return PENSTOCK_SOURCE_DIR; }

}  // namespace penstock::test
