#include "proxy/io/warm_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace penstock::io {

void warm_memory(std::span<std::byte> memory) {
  // Whole pages only: what lies beside belongs to others.
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(memory.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(memory.data() + memory.size()) / page * page;
  if (end <= begin) return;
#ifdef MADV_POPULATE_WRITE
  if (memory.size() <= most_warmed)
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_WRITE);
#endif
}

}  // namespace penstock::io
