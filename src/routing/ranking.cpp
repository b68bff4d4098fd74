#include "routing/ranking.hpp"

#include <algorithm>

#include "routing/rendezvous.hpp"

namespace penstock::routing {
namespace {

// Scores this near are not told apart: nobody feels the difference. A share of the score would be none of
// the wait: most of a score is the same for all candidates, lambda times the part that nobody holds.
constexpr double near_seconds = 0.010;

using order_list = std::vector<ranked>;
using place = order_list::iterator;

// The best `most` of them in order, the others behind.
void sort_best(place first, place last, std::size_t most) {
  const auto n = static_cast<std::size_t>(last - first);
  if (most < n) {
    std::nth_element(first, first + static_cast<std::ptrdiff_t>(most), last);
    last = first + static_cast<std::ptrdiff_t>(most);
  }
  std::sort(first, last);
}

// Fills the order, unsorted; equal scores go by rendezvous.
template <class Score>
void score_all(std::span<const draft> drafts, std::uint64_t key, order_list& order, Score score_of) {
  order.resize(drafts.size());
  for (std::uint32_t i = 0; i < drafts.size(); ++i)
    order[i] = {score_of(drafts[i]), ~rendezvous_weight(drafts[i].key, key), 0, i};
}

template <class Score>
void sort_by(std::span<const draft> drafts, std::uint64_t key, const rank_request& r, order_list& order,
             Score score_of) {
  score_all(drafts, key, order, score_of);
  sort_best(order.begin(), order.end(), r.most);
}

// Sequences over the endpoints of [first, last) of an order, and who is above its share of them.
class load_bound {
 public:
  load_bound(std::span<const draft> drafts, std::span<const ranked> among, const rank_request& r)
      : endpoints_(among.size()), extra_(r.sequences), factor_(r.weights.load_factor) {
    for (const ranked& o : among) total_ += static_cast<double>(drafts[o.index].load.sequences);
  }
  bool takes(const draft& d) const {
    return within_bound(static_cast<double>(d.load.sequences), total_, extra_, endpoints_, factor_);
  }

 private:
  double total_ = 0;
  std::size_t endpoints_;
  double extra_, factor_;
};

// Of the candidates before `end`, the one that the key belongs to and that is within its bound comes first.
// False: nobody is within.
bool settle_tie(std::span<const draft> drafts, const rank_request& r, place first, place end) {
  const load_bound bound(drafts, {first, end}, r);
  place home = end;
  for (place o = first; o != end; ++o) {
    if (bound.takes(drafts[o->index]) && (home == end || o->tie < home->tie)) home = o;
  }
  if (home == end) return false;
  std::iter_swap(first, home);
  return true;
}

// Of the candidates before `end`, those that would not compute noticeably more than the one that holds most
// come first; returns where they end. A shared head is cheap to compute elsewhere only when its holders are
// busy, and then these are not near: what is near for its discount or for the engines' speed alone is no tie,
// or a lone conversation, whose whole past is shared by all of the traffic, would move with each turn.
place keep_holders(std::span<const draft> drafts, place first, place end) {
  constexpr double noticeable = 1.05;
  const auto work = [&](const ranked& o) {
    return static_cast<double>(drafts[o.index].figures.uncached_tokens);
  };
  double least = work(*first);
  for (place o = first; o != end; ++o) least = std::min(least, work(*o));
  return std::partition(first, end, [&](const ranked& o) { return work(o) <= least * noticeable; });
}

// Three parts, each in the order of scores: the tie, whose home comes first; who else is near; the others.
choice by_prefix(std::span<const draft> drafts, const rank_request& r, std::uint64_t key, order_list& order) {
  score_all(drafts, key, order, [](const draft& d) { return d.figures.score; });
  const place first = order.begin(), last = order.end();
  const double near_score = std::min_element(first, last)->score + near_seconds * r.pool_speed;
  const place near = std::partition(first, last, [&](const ranked& o) { return o.score <= near_score; });
  const place tied = near - first > 1 ? keep_holders(drafts, first, near) : near;
  const bool tie = tied - first > 1;
  const bool settled = tie && settle_tie(drafts, r, first, tied);
  const auto left = [&](place part) {
    const auto before = static_cast<std::size_t>(part - first);
    return r.most > before ? r.most - before : 0;
  };
  const place unsorted = settled ? first + 1 : first;
  sort_best(unsorted, tied, left(unsorted));
  sort_best(tied, near, left(tied));
  sort_best(near, last, left(near));
  if (tie) return choice::hash_tie;
  return drafts[order[0].index].figures.hit_blocks > 0 ? choice::holds_prefix : choice::least_work;
}

// Endpoints within their bound in the key's order, then those above it, then the doubted ones. The mean
// is taken over the ones that are not doubted, as long as there are any.
choice by_hash(std::span<const draft> drafts, const rank_request& r, std::uint64_t key, order_list& order) {
  score_all(drafts, key, order, [](const draft&) { return 0.0; });
  std::sort(order.begin(), order.end());
  for (ranked& o : order) o.shelf = drafts[o.index].doubted ? 1 : 0;
  std::stable_sort(order.begin(), order.end());
  const std::uint32_t home = order[0].index;
  const auto trusted =
      std::partition_point(order.begin(), order.end(), [](const ranked& o) { return o.shelf == 0; });
  const auto n = static_cast<std::size_t>(trusted - order.begin());
  const std::span<ranked> counted(order.data(), n > 0 ? n : order.size());
  const load_bound bound(drafts, counted, r);
  for (ranked& o : counted) o.score = bound.takes(drafts[o.index]) ? 0 : 1;
  std::sort(counted.begin(), counted.end());
  return order[0].index == home ? choice::hash : choice::hash_bounded;
}

// Work that is already there, and one sequence more so that doubt weighs on an idle endpoint too.
double token_load(const draft& d, const rank_request& r) {
  const double sequences = static_cast<double>(d.load.sequences) + 1;
  return (static_cast<double>(d.load.prefill_tokens) + r.weights.sequence * sequences) / d.figures.confidence;
}
double sequence_load(const draft& d) {
  return (static_cast<double>(d.load.sequences) + 1) / d.figures.confidence;
}

template <class Load>
void by_load(std::span<draft> drafts, std::uint64_t key, const rank_request& r, order_list& order,
             Load load_of) {
  for (draft& d : drafts) d.figures.score = load_of(d);
  sort_by(drafts, key, r, order, [](const draft& d) { return d.figures.score; });
}

void by_turn(std::span<const draft> drafts, std::uint32_t cursor, order_list& order) {
  order.clear();
  for (std::uint32_t i = 0; i < drafts.size(); ++i) {
    const draft& d = drafts[i];
    order.push_back({d.position < cursor ? 1.0 : 0.0, d.position, d.doubted ? 1U : 0U, i});
  }
  std::sort(order.begin(), order.end());
}

void by_chance(std::span<const draft> drafts, std::uint64_t key, const rank_request& r, order_list& order) {
  sort_by(drafts, key, r, order, [](const draft& d) { return d.doubted ? 1.0 : 0.0; });
}

}  // namespace

choice rank(std::span<draft> drafts, const rank_request& request, prng& rng, order_list& order) {
  order.clear();
  if (drafts.empty()) return choice::only_candidate;
  choice why = choice::only_candidate;
  switch (request.by) {
    case policy::prefix:
      why = by_prefix(drafts, request, request.tie_key != 0 ? request.tie_key : rng.next(), order);
      break;
    case policy::consistent_hash:
      why = by_hash(drafts, request, request.hash_key != 0 ? request.hash_key : rng.next(), order);
      break;
    case policy::least_tokens:
      by_load(drafts, rng.next(), request, order, [&](const draft& d) { return token_load(d, request); });
      why = choice::least_tokens;
      break;
    case policy::least_requests:
      by_load(drafts, rng.next(), request, order, sequence_load);
      why = choice::least_requests;
      break;
    case policy::round_robin:
      by_turn(drafts, request.cursor, order);
      why = choice::round_robin;
      break;
    case policy::random:
      by_chance(drafts, rng.next(), request, order);
      why = choice::random;
      break;
  }
  return drafts.size() == 1 ? choice::only_candidate : why;
}

}  // namespace penstock::routing
