// Bytes that belong to somebody else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

// A borrowed range of bytes; its owner and lifetime are stated where it is passed.
using bytes_view = std::string_view;

// One edit of a body: at `offset` of the original bytes, leave out `erase` bytes and put `insert`
// there. A list of splices is sorted by offset and does not overlap.
struct splice {
  std::size_t offset = 0;
  std::size_t erase = 0;
  std::string insert;
};

}  // namespace penstock
