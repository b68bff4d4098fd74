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
// While an engine prefills, each sequence that decodes there waits for a share of it: chunked prefill makes a
// step several times as long.
constexpr double interference = 0.1;
constexpr double most_disturbed = 32;

bool takes_requests(const endpoint_view& e) {
  return e.state != life::down && e.state != life::draining && !e.addresses.empty();
}

double queue_seconds(const candidate& c, double pool_speed) {
  // A candidate's queue is weighted by pool / own speed: at the pool's speed it lasts as long as it really
  // does.
  return c.queue_tokens / pool_speed;
}

double own_speed(const candidate& c, double pool_speed) { return c.speed > 0 ? c.speed : pool_speed; }

}  // namespace

void gather_sides(const fleet_view& fleet, const model_route& route, std::span<const std::uint64_t> keys,
                  pair_sides& out) {
  out.prefills.clear();
  out.decodes.clear();
  const pool_view& pool = fleet.pools[route.pool];
  const bool both_pair = traits(pool.disaggregation.connector).decode_serves_alone;
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
    const bool both = role == endpoint_role::both && both_pair;
    if (both || role == endpoint_role::prefill) out.prefills.push_back(d);
    if (both || role == endpoint_role::decode) out.decodes.push_back(d);
  }
}

void price_pairs(const pair_sides& sides, std::span<const std::uint32_t> prefill_order,
                 const split_request& r, const pair_book& learned, std::vector<priced_pair>& out) {
  out.clear();
  const auto group_of = [&r](const draft& d) -> const std::string& {
    return r.fleet.endpoints[r.pool.endpoints[d.position]].settings.group;
  };
  // A decode engine's load is what waits before this request and the sequences that share its steps.
  const auto decode_load = [&r](const draft& d) {
    return queue_seconds(d.figures, r.decode_speed) + r.sequence_tokens *
                                                          static_cast<double>(d.figures.requests) /
                                                          r.decode_speed / d.figures.confidence;
  };
  std::vector<std::uint32_t> decodes(sides.decodes.size());
  for (std::uint32_t i = 0; i < decodes.size(); ++i) decodes[i] = i;
  std::sort(decodes.begin(), decodes.end(), [&](std::uint32_t a, std::uint32_t b) {
    const double left = decode_load(sides.decodes[a]), right = decode_load(sides.decodes[b]);
    return left != right ? left < right : sides.decodes[a].key < sides.decodes[b].key;
  });
  std::size_t rank = 0;
  for (const std::uint32_t p : prefill_order) {
    const draft& from = sides.prefills[p];
    const double speed = own_speed(from.figures, r.prefill_speed);
    const double compute = queue_seconds(from.figures, r.prefill_speed) +
                           static_cast<double>(from.figures.uncached_tokens) / speed;
    std::size_t partners = 0;
    for (const std::uint32_t d : decodes) {
      const draft& to = sides.decodes[d];
      if (to.figures.endpoint == from.figures.endpoint || group_of(to) != group_of(from)) continue;
      if (learned.avoided(from.figures.endpoint, to.figures.endpoint, r.now)) continue;
      priced_pair one;
      one.prefill = p;
      one.decode = d;
      one.transfer = learned.seconds(from.figures.endpoint, to.figures.endpoint, to.figures.uncached_tokens);
      const double load = decode_load(to);
      one.seconds = compute + one.transfer + queue_seconds(to.figures, r.decode_speed);
      one.score = from.figures.score / r.prefill_speed + load + one.transfer;
      out.push_back(one);
      if (++partners == most_decodes) break;
    }
    if (++rank == most_prefills) break;
  }
  // Equal scores keep the policy's order of the prefill engines.
  std::stable_sort(out.begin(), out.end(),
                   [](const priced_pair& a, const priced_pair& b) { return a.score < b.score; });
}

double one_place_seconds(const candidate& c, double pool_speed) {
  const double compute = static_cast<double>(c.uncached_tokens) / own_speed(c, pool_speed);
  const double disturbed = std::min(static_cast<double>(c.requests), most_disturbed);
  return queue_seconds(c, pool_speed) + compute * (1 + interference * disturbed);
}

split_choice choose_split(const disaggregation_config& how, bool carried, const priced_pair* best,
                          const candidate* decode, const candidate* single, double pool_speed) {
  if (!carried) return split_choice::not_carried;
  if (how.split == split_never) return split_choice::told_not_to;
  if (best == nullptr) return split_choice::no_pair;
  if (single == nullptr) return split_choice::only_split;
  if (how.split == split_always) return split_choice::told_to;
  if (how.split >= 0) {
    const bool is_long = decode->uncached_tokens >= static_cast<std::uint64_t>(how.split);
    return is_long ? split_choice::long_prompt : split_choice::short_prompt;
  }
  return best->seconds < one_place_seconds(*single, pool_speed) ? split_choice::cheaper
                                                                : split_choice::dearer;
}

void enter_pairs(const pair_sides& sides, std::span<const priced_pair> pairs, plan& p) {
  std::vector<candidate> all;
  for (const priced_pair& one : pairs.first(std::min(pairs.size(), most_pairs))) {
    candidate c = sides.decodes[one.decode].figures;
    const candidate& from = sides.prefills[one.prefill].figures;
    c.prefill = from.endpoint;
    c.score = one.score;
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
