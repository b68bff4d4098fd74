// Where the checkout stands, for tests that compare with files of the tree. The one place that knows the
// path: were it on every compile line, ccache would find nothing of another checkout.
#pragma once

#include <string>

namespace penstock::test {

// Absolute, without a slash at its end.
std::string source_dir();

}  // namespace penstock::test
