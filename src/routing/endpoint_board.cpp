#include "routing/endpoint_board.hpp"

#include <algorithm>
#include <bit>

namespace penstock::routing {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr unsigned count_bits = 48;
constexpr std::uint64_t count_mask = (std::uint64_t{1} << count_bits) - 1;

constexpr std::uint64_t pack(std::uint16_t generation, std::uint64_t count) {
  return std::uint64_t{generation} << count_bits | std::min(count, count_mask);
}
constexpr std::uint16_t generation_of(std::uint64_t word) {
  return static_cast<std::uint16_t>(word >> count_bits);
}
constexpr std::uint64_t count_of(std::uint64_t word) { return word & count_mask; }
// One request that waits, in the word that counts sequences: both change in one step.
constexpr unsigned waiting_at = 28;
constexpr std::uint64_t one_waiting = std::uint64_t{1} << waiting_at;

// Generations wrap after 65,536 removals of one slot; nearer than half the circle is newer.
constexpr bool newer(std::uint16_t a, std::uint16_t b) {
  return static_cast<std::int16_t>(static_cast<std::uint16_t>(a - b)) > 0;
}

std::uint64_t count_for(const std::atomic<std::uint64_t>& word, std::uint16_t generation) {
  const std::uint64_t w = word.load(relaxed);
  return generation_of(w) == generation ? count_of(w) : 0;
}

// Replaces the count of `generation` by f(count). An older generation's word is taken over with 0; a
// newer one is left alone, and the answer is false.
template <class F>
bool update(std::atomic<std::uint64_t>& word, std::uint16_t generation, F f) {
  std::uint64_t old = word.load(relaxed);
  for (;;) {
    const bool own = generation_of(old) == generation;
    // A word of zeros was never used, or has nothing to lose.
    if (!own && old != 0 && !newer(generation, generation_of(old))) return false;
    const std::uint64_t next = pack(generation, f(own ? count_of(old) : 0));
    if (word.compare_exchange_weak(old, next, relaxed)) return true;
  }
}

bool add(std::atomic<std::uint64_t>& word, std::uint16_t generation, std::uint64_t n) {
  return update(word, generation, [n](std::uint64_t v) { return v + n; });
}

// Never adopts: who gives back has booked before, so another generation means that the slot moved on.
void subtract(std::atomic<std::uint64_t>& word, std::uint16_t generation, std::uint64_t n) {
  std::uint64_t old = word.load(relaxed);
  while (generation_of(old) == generation) {
    const std::uint64_t v = count_of(old);
    if (word.compare_exchange_weak(old, pack(generation, v - std::min(v, n)), relaxed)) return;
  }
}

// Microseconds fit 48 bits for nine years of monotonic time.
std::uint64_t micros(instant t) {
  const auto ns = t.time_since_epoch().count();
  return ns <= 0 ? 0 : static_cast<std::uint64_t>(ns) / 1000;
}
instant from_micros(std::uint64_t us) { return instant(duration(static_cast<std::int64_t>(us) * 1000)); }
std::uint64_t micros(duration d) { return d.count() <= 0 ? 0 : static_cast<std::uint64_t>(d.count()) / 1000; }

prefill_fit unpack_fit(std::uint64_t w) {
  return {std::bit_cast<float>(static_cast<std::uint32_t>(w >> 32)),
          std::bit_cast<float>(static_cast<std::uint32_t>(w))};
}
std::uint64_t pack_fit(prefill_fit f) {
  return std::uint64_t{std::bit_cast<std::uint32_t>(f.tokens)} << 32 | std::bit_cast<std::uint32_t>(f.secs);
}

}  // namespace

endpoint_load endpoint_board::read(endpoint_id id) const {
  endpoint_load l;
  if (id.slot >= max_endpoints) return l;
  const cell& c = cells_[id.slot];
  l.prefill_tokens = count_for(c.prefill, id.generation);
  l.decode_tokens = count_for(c.decode, id.generation);
  const std::uint64_t in_flight = count_for(c.sequences, id.generation);
  l.sequences = in_flight & (one_waiting - 1);
  l.waiting = in_flight >> waiting_at;
  l.finish = from_micros(count_for(c.finish, id.generation));
  l.suspect_until = from_micros(count_for(c.suspect, id.generation));
  if (count_for(c.learned_by, id.generation) > 0) l.speed = speed_of(unpack_fit(c.learned.load(relaxed)));
  return l;
}

bool endpoint_board::book(endpoint_id id, const booked_work& work, instant now) {
  if (id.slot >= max_endpoints) return false;
  cell& c = cells_[id.slot];
  // The count of sequences is taken first and decides; once it was ours the others can only be lost to a
  // still newer generation, for which giving back does nothing either.
  if (!add(c.sequences, id.generation, work.sequences + one_waiting)) return false;
  add(c.prefill, id.generation, work.prefill_tokens);
  const std::uint64_t from = micros(now), length = micros(work.expected);
  update(c.finish, id.generation, [=](std::uint64_t f) { return std::max(f, from) + length; });
  return true;
}

void endpoint_board::begin_decode(endpoint_id id, const booked_work& work) {
  if (id.slot >= max_endpoints) return;
  cell& c = cells_[id.slot];
  subtract(c.prefill, id.generation, work.prefill_tokens);
  subtract(c.sequences, id.generation, one_waiting);
  add(c.decode, id.generation, work.decode_tokens);
}

void endpoint_board::release(endpoint_id id, const booked_work& work, bool decoding) {
  if (id.slot >= max_endpoints) return;
  cell& c = cells_[id.slot];
  if (decoding) {
    subtract(c.decode, id.generation, work.decode_tokens);
  } else {
    subtract(c.prefill, id.generation, work.prefill_tokens);
  }
  subtract(c.sequences, id.generation, work.sequences + (decoding ? 0 : one_waiting));
}

void endpoint_board::unwind(endpoint_id id, duration expected) {
  if (id.slot < max_endpoints) subtract(cells_[id.slot].finish, id.generation, micros(expected));
}

void endpoint_board::reanchor(endpoint_id id, instant now, double speed) {
  if (id.slot >= max_endpoints || !(speed > 0)) return;
  cell& c = cells_[id.slot];
  const double left =
      static_cast<double>(count_for(c.prefill, id.generation)) / std::max(speed, least_prefill_speed);
  const std::uint64_t at = micros(now) + static_cast<std::uint64_t>(std::min(left, 1e6) * 1e6);
  update(c.finish, id.generation, [at](std::uint64_t) { return at; });
}

void endpoint_board::hold(endpoint_id id, std::uint64_t tokens) {
  if (id.slot < max_endpoints) add(decode_[id.slot].held, id.generation, tokens);
}

void endpoint_board::unhold(endpoint_id id, std::uint64_t tokens) {
  if (id.slot < max_endpoints) subtract(decode_[id.slot].held, id.generation, tokens);
}

std::uint64_t endpoint_board::held_tokens(endpoint_id id) const {
  return id.slot < max_endpoints ? count_for(decode_[id.slot].held, id.generation) : 0;
}

// Changes what was learned of the speed, and shows it to readers.
template <class Change>
void endpoint_board::change_speed(endpoint_id id, Change change) {
  if (id.slot >= max_endpoints) return;
  cell& c = cells_[id.slot];
  speed_cell& s = speeds_[id.slot];
  if (s.teaching.exchange(true, std::memory_order_acquire)) return;
  const std::uint32_t mine = id.generation + 1U;
  if (s.owner == 0 || s.owner == mine || newer(id.generation, static_cast<std::uint16_t>(s.owner - 1))) {
    if (s.owner != mine) s.sums = {};
    s.owner = mine;
    change(s.sums);
    const prefill_fit f = fit_of(s.sums);
    if (f.secs > 0) {
      c.learned.store(pack_fit(f), relaxed);
      add(c.learned_by, id.generation, 1);
    }
  }
  s.teaching.store(false, std::memory_order_release);
}

void endpoint_board::teach(endpoint_id id, std::uint64_t tokens, instant dispatched, instant now) {
  change_speed(id, [&](prefill_sums& sums) { learn_prefill(sums, tokens, dispatched, now); });
}

void endpoint_board::teach_decode(endpoint_id id, std::uint64_t completion, double secs, double sequences) {
  if (id.slot >= max_endpoints) return;
  decode_cell& c = decode_[id.slot];
  if (c.teaching.exchange(true, std::memory_order_acquire)) return;
  const std::uint32_t mine = id.generation + 1U, owner = c.owner.load(relaxed);
  const bool late =
      owner != 0 && owner != mine && !newer(id.generation, static_cast<std::uint16_t>(owner - 1));
  if (!late) {
    if (owner != mine) c.sums = {};
    learn_decode(c.sums, static_cast<double>(completion), secs, sequences);
    const decode_fit f = fit_of(c.sums);
    c.fit.store(
        std::uint64_t{std::bit_cast<std::uint32_t>(f.base)} << 32 | std::bit_cast<std::uint32_t>(f.slope),
        relaxed);
    c.owner.store(mine, relaxed);
  }
  c.teaching.store(false, std::memory_order_release);
}

decode_fit endpoint_board::decode_of(endpoint_id id) const {
  if (id.slot >= max_endpoints || decode_[id.slot].owner.load(relaxed) != id.generation + 1U) return {};
  const std::uint64_t w = decode_[id.slot].fit.load(relaxed);
  return {std::bit_cast<float>(static_cast<std::uint32_t>(w >> 32)),
          std::bit_cast<float>(static_cast<std::uint32_t>(w))};
}

void endpoint_board::tell_speed(endpoint_id id, double speed) {
  if (!(speed >= least_prefill_speed) || !(speed <= most_prefill_speed)) return;
  change_speed(id, [&](prefill_sums& sums) {
    sums = {};
    sums.tokens = static_cast<float>(speed);
    sums.secs = 1;
  });
}

void endpoint_board::suspect(endpoint_id id, instant until) {
  if (id.slot >= max_endpoints) return;
  const std::uint64_t at = micros(until);
  update(cells_[id.slot].suspect, id.generation, [at](std::uint64_t v) { return std::max(v, at); });
}

}  // namespace penstock::routing
