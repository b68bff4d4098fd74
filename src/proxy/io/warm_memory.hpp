// Memory that the data path looks into at random, made ready before the first request.
#pragma once

#include <cstddef>
#include <span>

namespace penstock::io {

// Has the kernel fill in the pages now (after advise_huge_pages(), where that is wanted) rather than one page
// fault at a time under the first requests. Above `most_warmed` pages come as they are used, since zeroing
// them would delay the start. What the kernel refuses is no error: pages then come when used.
inline constexpr std::size_t most_warmed = std::size_t{1} << 30;
void warm_memory(std::span<std::byte> memory);

}  // namespace penstock::io
