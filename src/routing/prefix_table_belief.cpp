// What answers and counters of engines say of the belief, and how it follows.
#include <algorithm>
#include <cmath>

#include "routing/prefix_table.hpp"

namespace penstock::routing {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr std::uint64_t known_bit = std::uint64_t{1} << 63, fixed_bit = std::uint64_t{1} << 62;
// Trust in percent that is not told from full trust: rounding, races and other clients take that much, and so
// does an overloaded engine, which looks a prompt up long after it was sent.
constexpr int full_trust = 50;
// Comparisons of counters wait until the engine has looked up so many tokens.
constexpr std::uint64_t least_lookups = 16384;

}  // namespace

// Learns from one endpoint's figures. Two at once lose one lesson, not the figures' sense.
template <class Learn>
void prefix_table::revise(endpoint_id id, Learn learn) {
  slot_state& s = slots_[id.slot];
  const std::uint64_t base = s.base.load(relaxed), units = s.capacity.load(relaxed);
  cache_belief b;
  b.base = static_cast<double>(base & (fixed_bit - 1)) * 16;
  b.base_known = (base & known_bit) != 0;
  b.capacity = static_cast<double>(units) * 16;
  b.trust = static_cast<double>(s.trust.load(relaxed));
  b.missing = static_cast<double>(s.missing.load(relaxed));
  const cache_belief next = learn(b);
  s.trust.store(static_cast<float>(next.trust), relaxed);
  s.missing.store(static_cast<float>(next.missing), relaxed);
  if ((base & fixed_bit) == 0 && next.capacity != b.capacity) {
    s.capacity.store(std::max<std::uint64_t>(static_cast<std::uint64_t>(next.capacity / 16), 1), relaxed);
  }
  const int percent = static_cast<int>(std::lround(next.trust * 100));
  const auto shown = static_cast<std::uint8_t>(percent >= full_trust ? 100 : percent);
  if (window_of(id.slot).trust == shown) return;
  std::uint64_t old = windows_[id.slot].load(relaxed);
  window w = unpack(old);
  w.trust = shown;
  if (w.owned && w.generation == id.generation)
    windows_[id.slot].compare_exchange_strong(old, pack(w), relaxed);
}

void prefix_table::observe(endpoint_id id, const cache_sample& sample) {
  if (!owned_by(id)) return;
  slots_[id.slot].told.fetch_add(1, relaxed);
  revise(id, [&](const cache_belief& b) { return learn_from_answer(b, sample); });
}

void prefix_table::expect(endpoint_id id, std::uint64_t hit_tokens, std::uint64_t prompt_tokens) {
  if (!owned_by(id)) return;
  slots_[id.slot].believed_hits.fetch_add(hit_tokens, relaxed);
  slots_[id.slot].believed_queries.fetch_add(prompt_tokens, relaxed);
}

void prefix_table::check(endpoint_id id, double hits, double queries) {
  if (!owned_by(id) || !(hits >= 0) || !(queries >= hits) || !(queries < 1e15)) return;
  slot_state& s = slots_[id.slot];
  const auto now = static_cast<std::uint64_t>(queries), found = static_cast<std::uint64_t>(hits);
  std::uint64_t then = s.seen_queries.load(relaxed);
  if (then != 0 && now >= then && now - then < least_lookups) return;
  // Whoever moves the mark compares; the others see it moved.
  if (then == now || !s.seen_queries.compare_exchange_strong(then, now, relaxed)) return;
  const std::uint64_t found_then = s.seen_hits.exchange(found, relaxed);
  const auto believed_hits = static_cast<double>(s.believed_hits.exchange(0, relaxed));
  const auto believed_queries = static_cast<double>(s.believed_queries.exchange(0, relaxed));
  if (now < then) s.told.store(0, relaxed);
  const std::uint64_t told = s.told.load(relaxed);
  // A first reading, or an engine that started again. Answers that tell for themselves know better: what is
  // believed at dispatch is counted by the engine when it starts, which is another time when there is a
  // queue.
  if (then == 0 || now < then || found < found_then || told != 0) return;
  revise(id, [&](const cache_belief& b) {
    return learn_from_counters(b, {.hits = static_cast<double>(found - found_then),
                                   .queries = static_cast<double>(now - then),
                                   .believed_hits = believed_hits,
                                   .believed_queries = believed_queries});
  });
}

std::uint64_t prefix_table::capacity_tokens(endpoint_id id) const {
  return owned_by(id) ? slots_[id.slot].capacity.load(relaxed) * 16 : 0;
}

}  // namespace penstock::routing
