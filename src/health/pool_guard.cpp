#include "health/pool_guard.hpp"

#include <array>
#include <cstddef>

namespace penstock::health {
namespace {

// The best of those that are out but accept connections; nullptr: none.
guard_member* best_to_hold(std::span<guard_member> members, endpoint_role role) {
  guard_member* best = nullptr;
  for (auto& m : members) {
    if (m.role != role || m.effective != life::down || !m.accepts_connections) continue;
    const bool better = !best || (m.proven != best->proven ? m.proven : m.last_good > best->last_good);
    if (better) best = &m;
  }
  return best;
}

void guard_role(std::span<guard_member> members, endpoint_role role) {
  std::size_t all = 0, in = 0;
  for (const auto& m : members) {
    if (m.role != role || m.draining) continue;
    ++all;
    if (m.effective != life::down) ++in;
  }
  for (const auto least = (all + 1) / 2; in < least; ++in) {
    auto* held = best_to_hold(members, role);
    if (!held) return;
    held->effective = life::suspect;
  }
}

}  // namespace

void guard_pool(std::span<guard_member> members) {
  for (auto& m : members) m.effective = m.draining ? life::draining : m.state;
  for (const auto role : std::array{endpoint_role::both, endpoint_role::prefill, endpoint_role::decode}) {
    guard_role(members, role);
  }
}

}  // namespace penstock::health
