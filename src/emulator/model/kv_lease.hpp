// What a prefill engine holds for decode engines: blocks under a lease, and what a reader of them gets.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/model/block_pool.hpp"
#include "penstock/time.hpp"

namespace penstock::emulator {

struct kv_lease {
  std::string id;              // of the hand-off, as the decode leg will name it
  std::uint64_t sequence = 0;  // whose pinned blocks these are
  std::uint64_t content = 0;   // content_of() the prompt
  std::uint32_t tokens = 0;
  std::vector<block_id> blocks;
  instant granted{}, expires{};
  bool read = false;  // somebody was given the content: it is spent
};

struct lease_counters {
  std::uint64_t granted = 0;
  std::uint64_t fetched = 0;  // closed by the reader that fetched it
  std::uint64_t aborted = 0;  // closed by a decode engine that did not need it any more
  std::uint64_t expired = 0;
  std::uint64_t late = 0;         // notifications for what was no longer held
  std::uint64_t wrong_reads = 0;  // readers that were given foreign content
};

// What a decode engine is given: is it what it asked for? Nobody tells it, as nobody tells vLLM.
struct kv_content {
  std::uint64_t content = 0;
  std::uint32_t tokens = 0;
};

// The leases of one engine, after vLLM's NIXL connector (0.22 on): granted for a time, extended by heartbeats
// of the decode engine, closed by its notification or by expiry. As in vLLM a read is not checked: after the
// end of the lease, a second time, or with other block ids it yields content of another prompt. Real engines
// do so once the blocks were reused; this one always, so that luck is no help. Times are the caller's.
class lease_table {
 public:
  explicit lease_table(duration length) : length_(length) {}

  // `lease.expires` and `granted` are set here. Ids are unique among open leases.
  void grant(kv_lease lease, instant now);
  // A reader takes the content.
  kv_content read(std::string_view id, std::span<const block_id> blocks);
  // A heartbeat: at least two thirds of a lease are left, as in vLLM. False when it is not open.
  bool extend(std::string_view id, instant now);
  // The reader is done with it, or does not want it. The sequence to unpin; nothing when it is not open.
  std::optional<std::uint64_t> close(std::string_view id, bool fetched);
  // Ends what has expired and appends the sequences to unpin.
  void expire(instant now, std::vector<std::uint64_t>& unpin);
  instant next_expiry() const;

  const kv_lease* find(std::string_view id) const;
  const std::map<std::string, kv_lease, std::less<>>& open() const { return open_; }
  const lease_counters& counters() const { return counters_; }
  duration length() const { return length_; }

 private:
  duration length_;
  std::map<std::string, kv_lease, std::less<>> open_;
  lease_counters counters_;
};

}  // namespace penstock::emulator
