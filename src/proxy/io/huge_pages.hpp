// Asks the system to back memory with huge pages.
#pragma once

#include <cstddef>
#include <span>

namespace penstock::io {

// Advice for the 2 MiB pages that lie wholly inside `memory`; best given before it is touched. False where
// the system has none to give or they are switched off: everything works as well, more slowly.
bool advise_huge_pages(std::span<std::byte> memory);

}  // namespace penstock::io
