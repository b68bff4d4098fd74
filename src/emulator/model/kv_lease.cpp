#include "emulator/model/kv_lease.hpp"

#include <algorithm>
#include <utility>

#include "emulator/model/text.hpp"

namespace penstock::emulator {

void lease_table::grant(kv_lease lease, instant now) {
  lease.granted = now;
  lease.expires = now + length_;
  ++counters_.granted;
  std::string id = lease.id;
  open_.insert_or_assign(std::move(id), std::move(lease));
}

const kv_lease* lease_table::find(std::string_view id) const {
  const auto found = open_.find(id);
  return found == open_.end() ? nullptr : &found->second;
}

kv_content lease_table::read(std::string_view id, std::span<const block_id> blocks) {
  const auto found = open_.find(id);
  if (found != open_.end()) {
    kv_lease& lease = found->second;
    const bool same = std::equal(blocks.begin(), blocks.end(), lease.blocks.begin(), lease.blocks.end());
    if (same && !std::exchange(lease.read, true)) return {lease.content, lease.tokens};
  }
  ++counters_.wrong_reads;
  // Whatever came to be in those blocks, and the same each time.
  std::uint64_t other = hash_text(id, 3);
  for (const block_id b : blocks) other = other * 0x9e3779b97f4a7c15ULL + b;
  return {other | 1, 0};
}

bool lease_table::extend(std::string_view id, instant now) {
  const auto found = open_.find(id);
  if (found == open_.end()) return false;
  found->second.expires = std::max(found->second.expires, now + length_ * 2 / 3);
  return true;
}

std::optional<std::uint64_t> lease_table::close(std::string_view id, bool fetched) {
  const auto found = open_.find(id);
  if (found == open_.end()) {
    ++counters_.late;
    return std::nullopt;
  }
  ++(fetched ? counters_.fetched : counters_.aborted);
  const std::uint64_t sequence = found->second.sequence;
  open_.erase(found);
  return sequence;
}

void lease_table::expire(instant now, std::vector<std::uint64_t>& unpin) {
  for (auto l = open_.begin(); l != open_.end();) {
    if (l->second.expires > now) {
      ++l;
      continue;
    }
    ++counters_.expired;
    unpin.push_back(l->second.sequence);
    l = open_.erase(l);
  }
}

instant lease_table::next_expiry() const {
  instant next = never;
  for (const auto& [id, lease] : open_) next = std::min(next, lease.expires);
  return next;
}

}  // namespace penstock::emulator
