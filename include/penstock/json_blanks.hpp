// JSON's white space, for those who walk over text that nobody parsed.
#pragma once

#include <cstddef>

#include "penstock/bytes.hpp"

namespace penstock {

// Offset of the first byte at or after `from` that is not JSON white space.
inline std::size_t skip_blanks(bytes_view text, std::size_t from) {
  while (from < text.size() &&
         (text[from] == ' ' || text[from] == '\n' || text[from] == '\t' || text[from] == '\r')) {
    ++from;
  }
  return from;
}

}  // namespace penstock
