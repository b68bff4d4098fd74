#include "routing/prefix_table.hpp"

#include <algorithm>
#include <cstdlib>

#include "routing/prefix_word.hpp"

namespace penstock::routing {
namespace {

namespace word = prefix_word;
constexpr auto relaxed = std::memory_order_relaxed;
using word_ref = std::atomic_ref<std::uint64_t>;
using ring_ref = std::atomic_ref<std::int32_t>;

// How many entries ahead a bucket is fetched: some 100 ns of work.
constexpr std::size_t prefetch_ahead = 12;
// An epoch is this part of the endpoint's capacity: the grain of the LRU.
constexpr std::uint64_t epochs_per_capacity = 32;
constexpr std::uint64_t least_buckets = 1024;
// Makes of a block's key the one under which the tokens generated behind it are kept.
constexpr std::uint64_t crowd_mark = 0x6a09e667f3bcc909ULL;

// What is left of the budget for words after rings and slots.
constexpr std::uint64_t bucket_count(std::uint64_t bytes, std::uint64_t fixed) {
  const std::uint64_t n = bytes > fixed ? (bytes - fixed) / 64 : 0;
  return std::clamp<std::uint64_t>(n, least_buckets, std::uint64_t{1} << 32);
}

template <class T>
T* aligned(void* p, std::size_t to) {
  const auto a = reinterpret_cast<std::uintptr_t>(p);
  return reinterpret_cast<T*>((a + to - 1) / to * to);
}
// Large tables start on a huge page, so that the kernel can use those where it is set to.
constexpr std::size_t huge_page = std::size_t{1} << 21;
constexpr std::size_t alignment_of(std::size_t bytes) { return bytes >= 8 * huge_page ? huge_page : 64; }

}  // namespace

void prefix_table::freer::operator()(void* p) const { std::free(p); }

prefix_table::prefix_table(std::uint64_t bytes, std::uint64_t default_tokens, std::uint64_t placement)
    : default_units_(std::max<std::uint64_t>(default_tokens / 16, 1)),
      placement_(placement),
      buckets_(
          bucket_count(bytes, max_endpoints * (sizeof(slot_state) + sizeof(std::uint64_t) + ring_bytes))),
      rings_(std::make_unique<std::int32_t[]>(max_endpoints * epochs)),
      windows_(std::make_unique<std::atomic<std::uint64_t>[]>(max_endpoints)),
      slots_(std::make_unique<slot_state[]>(max_endpoints)) {
  // Zeroed pages that are touched when first used. Where the system refuses, a smaller table serves too.
  for (;; buckets_ /= 2) {
    memory_.reset(std::calloc(buckets_ * 64 + alignment_of(buckets_ * 64), 1));
    if (memory_ || buckets_ == 1) break;
  }
  words_ = aligned<std::uint64_t>(memory_.get(), alignment_of(buckets_ * 64));
}

template <class F>
bool prefix_table::change_window(std::uint16_t slot, F change) {
  std::uint64_t old = windows_[slot].load(relaxed);
  for (;;) {
    window w = unpack(old);
    if (!change(w)) return false;
    if (windows_[slot].compare_exchange_weak(old, pack(w), relaxed)) return true;
  }
}

void prefix_table::adopt(endpoint_id id, std::uint64_t capacity_tokens, double started_s, bool fixed) {
  if (id.slot >= max_endpoints) return;
  const bool taken = change_window(id.slot, [id](window& w) {
    const auto ahead = static_cast<std::int16_t>(static_cast<std::uint16_t>(id.generation - w.generation));
    if (w.owned && ahead <= 0) return false;
    w.owned = true;
    w.generation = id.generation;
    w.trust = 100;
    return true;
  });
  slot_state& s = slots_[id.slot];
  if (taken) {
    s.started_ms.store(0, relaxed);
    s.base.store(0, relaxed);  // what was learned of the slot's last owner goes with it
    empty_slot(id.slot);
  } else if (!owned_by(id)) {
    return;  // a newer owner has the slot
  }
  // More than 2^32 tokens are as good as endless, or a lie.
  const std::uint64_t tokens = std::min<std::uint64_t>(capacity_tokens, std::uint64_t{1} << 32);
  const std::uint64_t units = tokens == 0 ? default_units_ : std::max<std::uint64_t>(tokens / 16, 1);
  const std::uint64_t base = std::uint64_t{tokens != 0} << 63 | std::uint64_t{fixed} << 62 | units;
  if (s.base.load(relaxed) != base) {
    s.base.store(base, relaxed);
    s.capacity.store(units, relaxed);
    s.trust.store(1, relaxed);
    s.missing.store(0, relaxed);
    s.seen_queries.store(0, relaxed);
  }
  if (!(started_s > 0) || !(started_s < 1e11)) return;
  const auto ms = static_cast<std::uint64_t>(started_s * 1e3);
  std::uint64_t known = s.started_ms.load(relaxed);
  // Forwards only: a worker with an older fleet view must not undo it. Two seconds are rounding.
  while (known == 0 || ms > known + 2000) {
    if (!s.started_ms.compare_exchange_weak(known, ms, relaxed)) continue;
    if (known != 0) empty_slot(id.slot);
    return;
  }
}

void prefix_table::drop(endpoint_id id) {
  if (owned_by(id)) empty_slot(id.slot);
}

// Every word of the slot becomes older than any window; the ring starts anew.
void prefix_table::empty_slot(std::uint16_t slot) {
  change_window(slot, [](window& w) {
    w.epoch += epochs + word::lead;
    w.span = 0;
    return true;
  });
  for (std::uint32_t e = 0; e < epochs; ++e) ring_ref(ring(slot, e)).store(0, relaxed);
}

// One enter(): what it counts in and out of the slot's ring is gathered, and added when an epoch is full or
// the pass is over, for three atomic additions a block would be most of its cost.
struct prefix_table::pass {
  pass(prefix_table& t, std::uint16_t s) : table(t), slot(s) { look(); }
  pass(const pass&) = delete;
  pass& operator=(const pass&) = delete;
  ~pass() {
    flush_out();
    if (in != 0) table.count_in(slot, now.epoch, in);
  }

  void add(std::int32_t units) {
    in += units;
    if (in < room) return;
    flush_out();
    table.count_in(slot, now.epoch, in);
    look();
  }
  // `old` of this slot is no more in the table.
  void remove(std::uint64_t old) {
    if (word::epoch(old) == (now.epoch & word::epoch_mask)) {
      in -= word::units(old);
      return;
    }
    if (word::epoch(old) != word::epoch(leaving)) flush_out();
    leaving = old;
    out += word::units(old);
  }

  prefix_table& table;
  const std::uint16_t slot;
  window now;

 private:
  void look() {
    now = table.window_of(slot);
    in = 0;
    const auto full = static_cast<std::int64_t>(table.full_epoch(slot));
    room = full - ring_ref(table.ring(slot, now.epoch)).load(relaxed);
  }
  void flush_out() {
    if (out != 0) table.count_out(leaving, out);
    out = 0;
  }

  std::int64_t room = 0;  // units until the epoch is full
  std::int32_t in = 0, out = 0;
  std::uint64_t leaving = 0;  // a word of the epoch that `out` is counted out of
};

entered_blocks prefix_table::enter(endpoint_id id, std::uint64_t seed, std::span<const std::uint64_t> keys,
                                   std::span<const std::uint8_t> units, block_mark mark) {
  if (!owned_by(id)) return {};
  pass p(*this, id.slot);
  entered_blocks done{0, 0, p.now.epoch, {}};
  cache_evidence& e = done.evidence;
  std::uint32_t held_age = 0, ghost_age = 0;
  std::uint64_t fresh = 0;
  // Tail first: the head of a prompt is the last that its engine evicts.
  const std::size_t n = std::min(keys.size(), units.size());
  for (std::size_t i = n; i-- > 0;) {
    if (i >= prefetch_ahead) __builtin_prefetch(locate(keys[i - prefetch_ahead], seed, id.slot).bucket, 1);
    const met m = upsert(p, locate(keys[i], seed, id.slot), units[i], mark);
    if (!m.known) fresh += units[i];
    // The generated tokens behind the last known block are among the blocks of the longer prompt now.
    if (m.known && e.ghost_blocks == 0 && i + 1 < n) erase(p, locate(keys[i] ^ crowd_mark, seed, id.slot));
    if (m.known && e.ghost_blocks == 0) e.ghost_blocks = static_cast<std::uint32_t>(i + 1);
    if (m.known) ghost_age = std::max(ghost_age, m.age);
    if (m.held && e.held_blocks == 0) e.held_blocks = static_cast<std::uint32_t>(i + 1);
    if (m.held) held_age = std::max(held_age, m.age);
    e.in_flight = e.in_flight || m.in_flight;
    if (m.mark == block_mark::confirmed) continue;
    if (done.end == 0) done.end = i + 1;
    done.first = i;
  }
  const auto before = [&](std::uint32_t age) {
    const std::uint64_t d = distance(id.slot, done.epoch, age);
    return 16 * (d - std::min(d, fresh));
  };
  if (e.held_blocks > 0) e.held_distance = before(held_age);
  if (e.ghost_blocks > e.held_blocks) e.ghost_distance = before(ghost_age);
  return done;
}

// Units used since the middle of the epoch that is `age` before `epoch`.
std::uint64_t prefix_table::distance(std::uint16_t slot, std::uint32_t epoch, std::uint32_t age) const {
  const auto units = [&](std::uint32_t a) {
    return static_cast<std::uint64_t>(std::max(ring_ref(ring(slot, epoch - a)).load(relaxed), 0));
  };
  age = std::min(age, static_cast<std::uint32_t>(epochs - 2 * word::lead));
  std::uint64_t sum = units(age) / 2;
  for (std::uint32_t a = 0; a < age; ++a) sum += units(a);
  return sum;
}

prefix_table::met prefix_table::upsert(pass& p, const place& at, std::uint8_t units, block_mark mark) {
  const std::uint64_t who = word::identity(at.tag, p.slot);
  for (std::size_t i = 0; i < ways; ++i) {
    const word_ref cell(at.bucket[i]);
    std::uint64_t old = cell.load(relaxed);
    if (old == 0 || word::identity(old) != who) continue;
    met m{.known = true, .age = word::age(old, p.now.epoch)};
    // An entry that fell out of its endpoint's window says nothing any more, its mark included.
    m.held = m.age <= p.now.span;
    m.in_flight = m.held && word::mark(old) != block_mark::confirmed;
    m.mark = m.in_flight && mark != block_mark::confirmed ? block_mark::awaited
             : m.held                                     ? std::max(word::mark(old), mark)
                                                          : mark;
    const std::uint64_t next = word::make(who, p.now.epoch, units, m.mark);
    if (next == old) return m;
    // A lost race was won by another use of the same bucket: as good as ours.
    if (!cell.compare_exchange_strong(old, next, relaxed)) return {};
    p.remove(old);
    p.add(units);
    return m;
  }
  if (!insert(at, word::make(who, p.now.epoch, units, mark))) return {};
  p.add(units);
  return {.mark = mark};
}

bool prefix_table::erase(pass& p, const place& at) {
  const std::uint64_t who = word::identity(at.tag, p.slot);
  for (std::size_t i = 0; i < ways; ++i) {
    const word_ref cell(at.bucket[i]);
    std::uint64_t old = cell.load(relaxed);
    if (old == 0 || word::identity(old) != who) continue;
    if (!cell.compare_exchange_strong(old, 0, relaxed)) return false;
    p.remove(old);
    return true;
  }
  return false;
}

// Into an empty word, else over the stalest one, by each endpoint's own window.
bool prefix_table::insert(const place& at, std::uint64_t fresh) {
  std::size_t victim = 0;
  std::uint64_t old = 0;
  std::uint32_t worst = 0;
  for (std::size_t i = 0; i < ways; ++i) {
    const std::uint64_t w = word_ref(at.bucket[i]).load(relaxed);
    // Epochs are parts of a capacity, so ages of unequal endpoints compare; what is evicted goes first.
    const window now = window_of(word::slot(w));
    const std::uint32_t age = word::age(w, now.epoch);
    const std::uint32_t rank = w == 0 ? ~0U : age > now.span ? epochs + 1 : age;
    if (i == 0 || rank > worst) {
      victim = i;
      old = w;
      worst = rank;
    }
    if (w == 0) break;
  }
  if (!word_ref(at.bucket[victim]).compare_exchange_strong(old, fresh, relaxed)) return false;
  if (old != 0) count_out(old, word::units(old));
  return true;
}

void prefix_table::count_out(std::uint64_t w, std::int32_t units) {
  const std::uint16_t slot = word::slot(w);
  const std::uint32_t now = window_of(slot).epoch, age = word::age(w, now);
  // Older epochs have given their place in the ring to newer ones.
  if (age < epochs - word::lead) ring_ref(ring(slot, now - age)).fetch_sub(units, relaxed);
}

// Units that end an epoch.
std::uint64_t prefix_table::full_epoch(std::uint16_t slot) const {
  return std::max<std::uint64_t>(slots_[slot].capacity.load(relaxed) / epochs_per_capacity, 1);
}

void prefix_table::count_in(std::uint16_t slot, std::uint32_t epoch, std::int32_t units) {
  const std::int32_t sum = ring_ref(ring(slot, epoch)).fetch_add(units, relaxed) + units;
  if (sum > 0 && static_cast<std::uint64_t>(sum) >= full_epoch(slot)) advance(slot, epoch);
}

// Ends `epoch` and moves the horizon: as many epochs as fit the capacity stay.
void prefix_table::advance(std::uint16_t slot, std::uint32_t epoch) {
  const std::uint64_t capacity = slots_[slot].capacity.load(relaxed);
  std::uint64_t sum = 0;
  std::uint32_t span = 0;
  while (span < epochs - 2 * word::lead) {
    const std::int32_t units = ring_ref(ring(slot, epoch - span)).load(relaxed);
    sum += static_cast<std::uint64_t>(std::max(units, 0));
    if (sum > capacity) break;
    ++span;
  }
  const bool ended = change_window(slot, [epoch, span](window& w) {
    if (w.epoch != epoch) return false;  // another thread has ended it
    w.epoch = epoch + 1;
    w.span = span;
    return true;
  });
  if (ended) ring_ref(ring(slot, epoch + 1)).store(0, relaxed);
}

// Calls `change(cell, word)` for each block of the range that this endpoint has pending.
template <class Change>
void prefix_table::each_pending(endpoint_id id, std::uint64_t seed, std::span<const std::uint64_t> keys,
                                Change change) {
  if (!owned_by(id)) return;
  for (std::size_t k = 0; k < keys.size(); ++k) {
    if (k + prefetch_ahead < keys.size()) {
      __builtin_prefetch(locate(keys[k + prefetch_ahead], seed, id.slot).bucket, 1);
    }
    const place at = locate(keys[k], seed, id.slot);
    const std::uint64_t who = word::identity(at.tag, id.slot);
    for (std::size_t i = 0; i < ways; ++i) {
      const word_ref cell(at.bucket[i]);
      const std::uint64_t old = cell.load(relaxed);
      if (old != 0 && word::identity(old) == who && word::mark(old) != block_mark::confirmed) change(cell, old);
    }
  }
}

void prefix_table::confirm(endpoint_id id, std::uint64_t seed, std::span<const std::uint64_t> keys,
                           std::span<const std::uint8_t> units) {
  if (!owned_by(id)) return;
  pass p(*this, id.slot);
  const std::size_t n = std::min(keys.size(), units.size());
  for (std::size_t k = n; k-- > 0;) {
    if (k >= prefetch_ahead) __builtin_prefetch(locate(keys[k - prefetch_ahead], seed, id.slot).bucket, 1);
    const place at = locate(keys[k], seed, id.slot);
    const std::uint64_t who = word::identity(at.tag, id.slot);
    bool there = false;
    for (std::size_t i = 0; i < ways && !there; ++i) {
      const word_ref cell(at.bucket[i]);
      std::uint64_t old = cell.load(relaxed);
      there = old != 0 && word::identity(old) == who;
      if (!there || word::mark(old) == block_mark::confirmed) continue;
      const std::uint64_t next = word::make(
          who, word::epoch(old), static_cast<std::uint8_t>(word::units(old)), block_mark::confirmed);
      cell.compare_exchange_strong(old, next, relaxed);
    }
    if (!there && insert(at, word::make(who, p.now.epoch, units[k], block_mark::confirmed))) p.add(units[k]);
  }
}

void prefix_table::withdraw(endpoint_id id, std::uint64_t seed, std::span<const std::uint64_t> keys) {
  each_pending(id, seed, keys, [this](const word_ref& cell, std::uint64_t old) {
    if (word::mark(old) == block_mark::awaited) {
      const std::uint64_t next = word::make(word::identity(old), word::epoch(old),
                                            static_cast<std::uint8_t>(word::units(old)), block_mark::pending);
      cell.compare_exchange_strong(old, next, relaxed);
    } else if (cell.compare_exchange_strong(old, 0, relaxed)) {
      count_out(old, word::units(old));
    }
  });
}

void prefix_table::crowd(endpoint_id id, std::uint64_t tokens, std::uint64_t seed, std::uint64_t after) {
  if (!owned_by(id)) return;
  // At most a capacity's worth of epochs, whatever an engine claims to have generated.
  const std::uint64_t capacity = slots_[id.slot].capacity.load(relaxed);
  std::uint64_t left = std::min(tokens / 16, capacity);
  if (after != 0 && left > 0) {
    const std::uint64_t kept = std::min<std::uint64_t>(left, 255);
    pass p(*this, id.slot);
    upsert(p, locate(after ^ crowd_mark, seed, id.slot), static_cast<std::uint8_t>(kept),
           block_mark::confirmed);
    left -= kept;
  }
  const std::uint64_t step = std::max<std::uint64_t>(capacity / epochs_per_capacity, 1);
  for (std::uint64_t i = 0; left > 0 && i < epochs_per_capacity; ++i) {
    const std::uint64_t part = std::min({left, step, std::uint64_t{1} << 30});
    count_in(id.slot, window_of(id.slot).epoch, static_cast<std::int32_t>(part));
    left -= part;
  }
}

std::uint64_t prefix_table::believed_tokens(endpoint_id id) const {
  if (!owned_by(id)) return 0;
  const window w = window_of(id.slot);
  std::uint64_t sum = 0;
  for (std::uint32_t age = 0; age <= w.span; ++age) {
    sum += static_cast<std::uint64_t>(std::max(ring_ref(ring(id.slot, w.epoch - age)).load(relaxed), 0));
  }
  return sum * 16;
}

}  // namespace penstock::routing
