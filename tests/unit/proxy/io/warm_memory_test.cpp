#include "proxy/io/warm_memory.hpp"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

using penstock::io::warm_memory;

TEST_CASE("warm memory: whole pages become resident, nothing else changes") {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  constexpr std::size_t pages = 16;
  void* const mapped =
      ::mmap(nullptr, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(mapped != MAP_FAILED);
  auto* const bytes = static_cast<std::byte*>(mapped);
  bytes[3 * page] = std::byte{7};
  warm_memory({bytes + 1, pages * page - 2});
  std::vector<unsigned char> resident(pages);
  REQUIRE(::mincore(mapped, pages * page, resident.data()) == 0);
  for (std::size_t i = 1; i + 1 < pages; ++i) CHECK((resident[i] & 1) == 1);
  CHECK(bytes[3 * page] == std::byte{7});
  CHECK(bytes[4 * page] == std::byte{0});
  ::munmap(mapped, pages * page);
}

TEST_CASE("warm memory: less than a page is left alone") {
  std::vector<std::byte> small(10);
  warm_memory(small);
  warm_memory({});
  CHECK(small == std::vector<std::byte>(10));
}
