// How many workers this process may keep busy.
#pragma once

#include <cstdint>
#include <string>

namespace penstock::io {

struct worker_count {
  std::uint32_t workers = 1;
  std::string reason;  // "2: cgroup quota 150000/100000" - for the start-up line
};

// The smaller of the cgroup's CPU quota (v2 cpu.max, v1 cfs_quota; rounded up) and the affinity mask; not
// the host's cores, which a container may not use. `configured` > 0 wins.
worker_count count_workers(std::uint32_t configured);

}  // namespace penstock::io
