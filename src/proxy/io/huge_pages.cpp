#include "proxy/io/huge_pages.hpp"

#include <sys/mman.h>

#include <cstdint>

namespace penstock::io {

bool advise_huge_pages(std::span<std::byte> memory) {
  constexpr std::uintptr_t page = std::uintptr_t{1} << 21;
  const auto from = reinterpret_cast<std::uintptr_t>(memory.data());
  const std::uintptr_t first = (from + page - 1) / page * page, end = (from + memory.size()) / page * page;
  if (first >= end) return false;
  return ::madvise(memory.data() + (first - from), end - first, MADV_HUGEPAGE) == 0;
}

}  // namespace penstock::io
