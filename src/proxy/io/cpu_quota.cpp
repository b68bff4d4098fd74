#include "proxy/io/cpu_quota.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

namespace penstock::io {
namespace {

// Our path in the unified hierarchy ("0::/path" in /proc/self/cgroup).
std::string own_group() {
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("0::", 0) == 0) return line.substr(3);
  return {};
}

double quota_of(const std::string& directory) {
  std::ifstream v2(directory + "/cpu.max");
  std::string quota;
  double period = 0;
  if (v2 >> quota >> period && quota != "max" && period > 0) return std::stod(quota) / period;
  return 0;
}

// The tightest quota from our group up to the root; 0 when there is none.
double cgroup_cpus() {
  const std::string root = "/sys/fs/cgroup";
  double least = 0;
  for (std::string group = own_group();; group.erase(group.rfind('/'))) {
    const double here = quota_of(root + group);
    if (here > 0 && (least == 0 || here < least)) least = here;
    if (group.empty() || group.rfind('/') == std::string::npos) break;
  }
  if (least > 0) return least;
  std::ifstream quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double q = 0, p = 0;
  return quota >> q && period >> p && q > 0 && p > 0 ? q / p : 0;
}

}  // namespace

worker_count count_workers(std::uint32_t configured) {
  if (configured != 0) return {configured, fmt::format("{}: server.workers", configured)};
  cpu_set_t mask;
  CPU_ZERO(&mask);
  std::uint32_t cores = 1;
  if (::sched_getaffinity(0, sizeof mask, &mask) == 0)
    cores = std::max(1u, static_cast<std::uint32_t>(CPU_COUNT(&mask)));
  const double quota = cgroup_cpus();
  if (quota > 0 && std::ceil(quota) < cores) {
    const auto workers = std::max(1u, static_cast<std::uint32_t>(std::ceil(quota)));
    return {workers, fmt::format("{}: a cgroup quota of {:.2f} CPUs", workers, quota)};
  }
  return {cores, fmt::format("{}: cores in the affinity mask", cores)};
}

}  // namespace penstock::io
