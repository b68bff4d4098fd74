// The longest held prefix for many endpoints at once: searches that run in step, so that their cache
// misses overlap, and that learn from each other.
#include <algorithm>
#include <array>
#include <bit>

#include "routing/prefix_table.hpp"
#include "routing/prefix_word.hpp"

namespace penstock::routing {
namespace {

namespace word = prefix_word;
constexpr std::size_t most_probes = 128;  // one batch; also what keeps the scratch at some 15 KiB of stack
// Lost words stepped over in one search. They are rare, and an adversary shall not make them cost.
constexpr std::uint8_t most_holes = 4;
// Groups that search on their own; the others start where those found the edge, which is the end of the
// system prompt for most endpoints and most prompts.
constexpr std::size_t pilots = 3;

}  // namespace

class depth_search {
 public:
  depth_search(const prefix_table& table, std::span<const prefix_block> blocks, std::uint32_t likely)
      : table_(table),
        blocks_(blocks),
        end_(static_cast<std::uint32_t>(blocks.size())),
        likely_(std::min(likely, end_)) {}

  void run(std::span<prefix_probe> probes) {
    probes_ = probes;
    groups_ = 0;
    for (std::size_t i = 0; i < probes.size(); i += 8) table_.prefetch_window(probes[i].endpoint.slot);
    find_rows(probes[0].seed);
    for (std::size_t i = 0; i < probes.size();) i = open_group(i);
    const std::size_t first = std::min(pilots, groups_);
    for (std::size_t g = 0; g < first; ++g) begin(g, likely_);
    finish();
    const std::uint32_t guess = usual_depth(first);
    for (std::size_t g = first; g < groups_; ++g) begin(g, guess);
    finish();
  }

 private:
  // Neighbouring probes whose slots share cache lines and whose engines share a seed.
  struct group {
    std::uint64_t seed;
    std::uint16_t first_slot;
    std::uint8_t mask;
    std::array<std::uint8_t, prefix_table::lanes> probe;
    std::array<std::uint32_t, prefix_table::lanes> epoch, span;
  };
  // Endpoints of one group with the same answers so far: `low` blocks are held, block `high` is not.
  struct search {
    std::uint64_t* bucket;
    std::uint64_t want;  // tag and group, as words carry them
    std::uint32_t low, high, at, guess;
    std::uint8_t group, mask, holes;
  };

  // The rows of the blocks around the likely depth: what all groups are about to ask for, fetched while they
  // are opened. Probes with another seed than the first ones' fetch in vain.
  void find_rows(std::uint64_t seed) {
    rows_ = 0;
    if (likely_ == 0) return;
    for (std::uint32_t at = likely_ - 1; at < std::min(likely_ + 2, end_); ++at)
      row_[rows_++] = table_.row_of(blocks_[at].key, seed);
  }

  std::size_t open_group(std::size_t i) {
    group& g = group_[groups_];
    g.seed = probes_[i].seed;
    g.first_slot = static_cast<std::uint16_t>(probes_[i].endpoint.slot & ~(prefix_table::lanes - 1));
    for (std::size_t r = 0; r < rows_; ++r)
      __builtin_prefetch(table_.bucket_of(row_[r], static_cast<std::uint16_t>(g.first_slot % max_endpoints)));
    unsigned mask = 0, seen = 0;
    for (; i < probes_.size(); ++i) {
      const prefix_probe& p = probes_[i];
      const unsigned lane = p.endpoint.slot % prefix_table::lanes;
      const bool same = p.endpoint.slot - lane == g.first_slot && p.seed == g.seed && (seen >> lane & 1) == 0;
      if (!same) break;
      seen |= 1U << lane;
      if (p.endpoint.slot >= max_endpoints) continue;
      const prefix_table::window w = table_.window_of(p.endpoint.slot);
      if (!w.owned || w.generation != p.endpoint.generation) continue;
      g.epoch[lane] = w.epoch;
      g.span[lane] = w.span;
      g.probe[lane] = static_cast<std::uint8_t>(i);
      probes_[i].trust = w.trust;
      mask |= 1U << lane;
    }
    g.mask = static_cast<std::uint8_t>(mask);
    if (mask != 0) ++groups_;  // else the next group takes its place
    return i;
  }

  // Without a guess block 0 is asked first, as most endpoints know nothing of a new prompt.
  void begin(std::size_t g, std::uint32_t guess) {
    search s{nullptr,        0, 0, end_, guess == 0 ? 0 : guess - 1, guess, static_cast<std::uint8_t>(g),
             group_[g].mask, 0};
    ask(s);
  }

  std::uint32_t usual_depth(std::size_t groups) const {
    std::array<std::uint32_t, pilots * prefix_table::lanes> depth;
    std::size_t n = 0;
    for (std::size_t g = 0; g < groups; ++g) {
      for (unsigned lane = 0; lane < prefix_table::lanes; ++lane) {
        if ((group_[g].mask >> lane & 1) != 0) depth[n++] = probes_[group_[g].probe[lane]].depth;
      }
    }
    if (n == 0) return 0;
    // The middle one. They are a dozen: little code counts, it is out of the caches as well.
    for (std::size_t i = 1; i < n; ++i)
      for (std::size_t k = i; k > 0 && depth[k] < depth[k - 1]; --k) std::swap(depth[k], depth[k - 1]);
    return depth[n / 2];
  }

  void ask(search& s) {
    const group& g = group_[s.group];
    // Most ask for the block that the one before asked for.
    if (s.at != asked_at_ || g.seed != asked_seed_) {
      asked_at_ = s.at;
      asked_seed_ = g.seed;
      asked_ = table_.row_of(blocks_[s.at].key, g.seed);
    }
    s.bucket = table_.bucket_of(asked_, g.first_slot);
    s.want = word::identity(asked_.tag, g.first_slot) >> prefix_table::group_bits;
    __builtin_prefetch(s.bucket);
    searches_[next_][count_++] = s;
  }

  // Where a search looks next: at the edge that others found; else in the middle; and when it has
  // converged, one block behind the edge: a block that is held there means that the one at the edge was
  // lost to the table and not to the engine, which evicts tails first.
  void go_on(search& s) {
    if (s.low < s.high) {
      s.at = s.low == s.guess ? s.low : s.low + (s.high - s.low) / 2;
    } else if (s.low + 1 < end_ && s.holes < most_holes) {
      s.at = s.low + 1;
    } else {
      return settle(s, s.mask);
    }
    ask(s);
  }

  void settle(const search& s, unsigned mask) {
    for (unsigned lane = 0; lane < prefix_table::lanes; ++lane) {
      if ((mask >> lane & 1) != 0) probes_[group_[s.group].probe[lane]].depth = s.low;
    }
  }

  void finish() {
    while (count_ > 0) {
      const std::size_t n = count_, now = next_;
      next_ = 1 - now;
      count_ = 0;
      for (std::size_t i = 0; i < n; ++i) step(searches_[now][i]);
    }
  }

  void step(const search& s) {
    const unsigned held = held_lanes(s) & s.mask, gone = s.mask & ~held;
    const bool edge = s.low == s.high;
    if (held != 0) {
      search up = s;
      up.mask = static_cast<std::uint8_t>(held);
      up.low = s.at + 1;
      if (edge) {
        up.high = end_;
        ++up.holes;
      }
      go_on(up);
    }
    if (gone == 0) return;
    if (edge) return settle(s, gone);
    search down = s;
    down.mask = static_cast<std::uint8_t>(gone);
    down.high = s.at;
    go_on(down);
  }

  unsigned held_lanes(const search& s) const {
    const group& g = group_[s.group];
    std::array<std::uint64_t, prefix_table::ways> words;
    unsigned held = 0, alike = 0;
    for (std::size_t i = 0; i < prefix_table::ways; ++i) {
      words[i] = std::atomic_ref<std::uint64_t>(s.bucket[i]).load(std::memory_order_relaxed);
      alike |= unsigned{word::identity(words[i]) >> prefix_table::group_bits == s.want} << i;
    }
    for (; alike != 0; alike &= alike - 1) {
      const std::uint64_t w = words[static_cast<std::size_t>(std::countr_zero(alike))];
      if (w == 0) continue;
      const unsigned lane = word::slot(w) % prefix_table::lanes;
      if ((s.mask >> lane & 1) != 0 && word::age(w, g.epoch[lane]) <= g.span[lane]) held |= 1U << lane;
    }
    return held;
  }

  const prefix_table& table_;
  std::span<const prefix_block> blocks_;
  std::uint32_t end_, likely_;
  std::span<prefix_probe> probes_;
  std::array<prefix_table::row, 3> row_;
  std::size_t rows_ = 0;
  prefix_table::row asked_;  // where the block `asked_at_` stands
  std::uint64_t asked_seed_ = 0;
  std::uint32_t asked_at_ = ~0U;
  std::size_t count_ = 0, groups_ = 0, next_ = 0;
  // Masks of one group are disjoint, so there are never more searches than probes.
  std::array<group, most_probes> group_;
  std::array<std::array<search, most_probes>, 2> searches_;  // of this round and, by next_, of the coming one
};

void prefix_table::longest(std::span<const prefix_block> blocks, std::span<prefix_probe> probes,
                           std::uint32_t likely) const {
  for (prefix_probe& p : probes) p.depth = 0, p.trust = 100;
  if (blocks.empty()) return;
  depth_search search(*this, blocks, likely);
  while (!probes.empty()) {
    const std::span<prefix_probe> batch = probes.first(std::min(probes.size(), most_probes));
    search.run(batch);
    probes = probes.subspan(batch.size());
  }
}

}  // namespace penstock::routing
