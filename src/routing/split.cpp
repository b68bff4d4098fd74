#include "routing/split.hpp"

#include <algorithm>
#include <array>

namespace penstock::routing {
namespace {

// Sides that are priced with each other: the best of each. A pair that is not among them is worse on both
// sides.
constexpr std::size_t most_prefills = 8, most_decodes = 8;
// Pairs in a plan: one to serve, the rest for retries.
constexpr std::size_t most_pairs = 6;
// A second until the first token is felt as much as a second spread over so many tokens of an answer: between
// the ratios of the service levels in use (0.45 s to 40 ms and 2 s to 200 ms in MLPerf's inference rules, 4 s
// to 0.2 s in DistServe).
constexpr double felt_tokens = 20;
constexpr double usual_output = 250;  // tokens of an answer, until some are known
constexpr double most_felt = 4;       // what a sequence counts at most, be the answers ever so short

bool takes_requests(const endpoint_view& e) {
  return e.state != life::down && e.state != life::draining && !e.addresses.empty();
}

double queue_seconds(const candidate& c, double pool_speed) {
  // A candidate's queue is weighted by pool / own speed: at the pool's speed it lasts as long as it really
  // does.
  return c.queue_tokens / pool_speed;
}

// Chunked prefill stops everybody who decodes there for about as long as it takes.
double disturbance(const draft& d, double prefill_seconds, double output) {
  const double felt = std::min(felt_tokens / (output > 0 ? output : usual_output), most_felt);
  return prefill_seconds * d.decoding * felt;
}

double own_speed(const candidate& c, double pool_speed) { return c.speed > 0 ? c.speed : pool_speed; }

// Places of the pairs that a plan names, best first: the first of all, the best that is left when one or both
// of its engines fail, and who is best of the others. The cheapest may all share one engine.
std::vector<std::uint32_t> chosen_pairs(const pair_sides& sides, std::span<const priced_pair> pairs) {
  std::vector<std::uint32_t> chosen;
  const auto add = [&chosen](std::size_t i) {
    const auto place = static_cast<std::uint32_t>(i);
    if (std::find(chosen.begin(), chosen.end(), place) == chosen.end()) chosen.push_back(place);
  };
  const auto add_best = [&](auto fits) {
    const auto best = std::find_if(pairs.begin(), pairs.end(), fits);
    if (best != pairs.end()) add(static_cast<std::size_t>(best - pairs.begin()));
  };
  if (pairs.empty()) return chosen;
  const endpoint_id from = sides.prefills[pairs[0].prefill].figures.endpoint;
  const endpoint_id to = sides.decodes[pairs[0].decode].figures.endpoint;
  const auto uses = [&sides](const priced_pair& p, endpoint_id engine) {
    return sides.prefills[p.prefill].figures.endpoint == engine ||
           sides.decodes[p.decode].figures.endpoint == engine;
  };
  add(0);
  add_best([&](const priced_pair& p) { return !uses(p, from); });
  add_best([&](const priced_pair& p) { return !uses(p, to); });
  add_best([&](const priced_pair& p) { return !uses(p, from) && !uses(p, to); });
  // What is computed by then need not be computed again.
  add_best([&](const priced_pair& p) { return p.prefill == pairs[0].prefill && !uses(p, to); });
  for (std::size_t i = 1; i < pairs.size() && chosen.size() < most_pairs; ++i) add(i);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace

void gather_sides(const fleet_view& fleet, const model_route& route, std::span<const std::uint64_t> keys,
                  pair_sides& out) {
  out.prefills.clear();
  out.decodes.clear();
  const pool_view& pool = fleet.pools[route.pool];
  const connector_traits how = traits(pool.disaggregation.connector);
  for (std::uint32_t p = 0; p < pool.endpoints.size(); ++p) {
    const std::uint32_t i = pool.endpoints[p];
    if (i >= fleet.endpoints.size()) continue;
    const endpoint_view& e = fleet.endpoints[i];
    if (!takes_requests(e) || (route.served && route.endpoints[p].state == serving::lacks)) continue;
    draft d;
    d.figures.endpoint = e.id;
    d.figures.confidence = e.confidence > 0 ? std::min(e.confidence, 1.0) : 0;
    d.key = i < keys.size() ? keys[i] : i;
    d.seed = route.endpoints[p].seed;
    d.position = p;
    d.doubted = e.state == life::suspect;
    const endpoint_role role = e.settings.role;
    const bool both = role == endpoint_role::both && how.decode_serves_alone;
    const bool found = !how.ranks_have_ids || !e.rank_ids.empty();
    if (found && (both || role == endpoint_role::prefill)) out.prefills.push_back(d);
    if (both || role == endpoint_role::decode) out.decodes.push_back(d);
  }
}

void price_pairs(const pair_sides& sides, std::span<const ranked> prefill_order, const split_request& r,
                 const pair_book& learned, std::vector<priced_pair>& out) {
  out.clear();
  const auto group_of = [&r](const draft& d) -> const std::string& {
    return r.fleet.endpoints[r.pool.endpoints[d.position]].settings.group;
  };
  // What there is to wait for at a decode engine, the sequences that share its steps, and its pace.
  const auto decode_cost = [&r](const draft& d) {
    const double sequences = r.sequence_tokens * d.decoding / r.decode_speed / d.figures.confidence;
    return queue_seconds(d.figures, r.decode_speed) + sequences + felt_tokens * d.pace;
  };
  std::array<std::uint32_t, max_endpoints> places;
  const std::span decodes(places.data(), std::min(sides.decodes.size(), places.size()));
  for (std::uint32_t i = 0; i < decodes.size(); ++i) decodes[i] = i;
  std::sort(decodes.begin(), decodes.end(), [&](std::uint32_t a, std::uint32_t b) {
    const double left = decode_cost(sides.decodes[a]), right = decode_cost(sides.decodes[b]);
    return left != right ? left < right : sides.decodes[a].key < sides.decodes[b].key;
  });
  std::size_t rank = 0;
  for (const ranked& next : prefill_order) {
    const draft& from = sides.prefills[next.index];
    const double speed = own_speed(from.figures, r.prefill_speed);
    const double compute = static_cast<double>(from.figures.uncached_tokens) / speed;
    const double prefill_cost = from.figures.score / r.prefill_speed + disturbance(from, compute, r.output);
    std::size_t partners = 0;
    for (const std::uint32_t d : decodes) {
      const draft& to = sides.decodes[d];
      if (to.figures.endpoint == from.figures.endpoint || group_of(to) != group_of(from)) continue;
      if (learned.avoided(from.figures.endpoint, to.figures.endpoint, r.now)) continue;
      priced_pair one;
      one.prefill = next.index;
      one.decode = d;
      one.transfer = learned.seconds(from.figures.endpoint, to.figures.endpoint, to.figures.uncached_tokens);
      one.cost = prefill_cost + one.transfer + decode_cost(to);
      out.push_back(one);
      if (++partners == most_decodes) break;
    }
    if (++rank == most_prefills) break;
  }
  // Equal costs keep the policy's order of the prefill engines.
  std::stable_sort(out.begin(), out.end(),
                   [](const priced_pair& a, const priced_pair& b) { return a.cost < b.cost; });
}

double one_place_cost(const draft& d, double pool_speed, double output) {
  const double compute = static_cast<double>(d.figures.uncached_tokens) / own_speed(d.figures, pool_speed);
  return d.figures.score / pool_speed + disturbance(d, compute, output) + felt_tokens * d.pace;
}

split_choice choose_split(const disaggregation_config& how, bool carried, const priced_pair* best,
                          const candidate* decode, const candidate* single, double one_place) {
  if (!carried) return split_choice::not_carried;
  if (how.split == split_never) return split_choice::told_not_to;
  if (best == nullptr) return split_choice::no_pair;
  if (single == nullptr) return split_choice::only_split;
  if (how.split == split_always) return split_choice::told_to;
  if (how.split >= 0) {
    const bool is_long = decode->uncached_tokens >= static_cast<std::uint64_t>(how.split);
    return is_long ? split_choice::long_prompt : split_choice::short_prompt;
  }
  return best->cost < one_place ? split_choice::cheaper : split_choice::dearer;
}

void enter_pairs(const pair_sides& sides, std::span<const priced_pair> pairs, plan& p) {
  std::vector<candidate> all;
  for (const std::uint32_t place : chosen_pairs(sides, pairs)) {
    const priced_pair& one = pairs[place];
    candidate c = sides.decodes[one.decode].figures;
    const candidate& from = sides.prefills[one.prefill].figures;
    c.prefill = from.endpoint;
    c.score = one.cost;
    c.transfer_seconds = one.transfer;
    all.push_back(c);
    const bool known = std::any_of(p.prefills.begin(), p.prefills.end(),
                                   [&from](const candidate& k) { return k.endpoint == from.endpoint; });
    if (!known) p.prefills.push_back(from);
  }
  all.insert(all.end(), p.candidates.begin(), p.candidates.end());
  p.candidates = std::move(all);
}

}  // namespace penstock::routing
