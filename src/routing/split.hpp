// One engine or two: which pairs of a prefill and a decode engine could serve a request, and whether the best
// of them is expected to be sooner than the best engine alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "penstock/fleet_view.hpp"
#include "penstock/plan.hpp"
#include "routing/candidates.hpp"
#include "routing/model_index.hpp"
#include "routing/pair_book.hpp"
#include "routing/ranking.hpp"

namespace penstock::routing {

// The endpoints of a route's pool that can be one half of a pair, with their groups. `settings` of a draft's
// endpoint are looked up by `position`.
struct pair_sides {
  std::vector<draft> prefills, decodes;
};
void gather_sides(const fleet_view& fleet, const model_route& route, std::span<const std::uint64_t> keys,
                  pair_sides& out);

// One pair that could serve.
struct priced_pair {
  double cost = 0;                        // in seconds, see one_place_cost: what pairs are ordered by
  double transfer = 0;                    // seconds of it that the hand-off takes
  std::uint32_t prefill = 0, decode = 0;  // indices into pair_sides
};

// What pricing looks at beyond the appraised sides.
struct split_request {
  const fleet_view& fleet;
  const pool_view& pool;
  double prefill_speed = 0, decode_speed = 0;  // the medians that the sides were appraised by
  double sequence_tokens = 0;                  // w
  double output = 0;                           // tokens that an answer is expected to have; 0: not known
  instant now{};
};

// The best pairs, best first. `prefill_order` ranks pair_sides::prefills as the pool's policy does.
void price_pairs(const pair_sides& sides, std::span<const ranked> prefill_order,
                 const split_request& r, const pair_book& learned, std::vector<priced_pair>& out);

// What it costs to serve a request on one engine, in seconds until a first token: the score (queue,
// sequences, prefill with its penalty for what is computed anew), what the prefill costs those who decode
// there, and the pace of the answer. A pair costs the same, each part where it falls, and the hand-off.
double one_place_cost(const draft& d, double pool_speed, double output);

// Decides, given the best pair (null: there is none) and the best single candidate (null: nobody).
split_choice choose_split(const disaggregation_config& how, bool carried, const priced_pair* best,
                          const candidate* decode, const candidate* single, double one_place);

// Puts the best pairs before the candidates of a plan, and the figures of their prefill engines beside them.
// Behind the first some do without its prefill engine, its decode engine and both, where there are any.
void enter_pairs(const pair_sides& sides, std::span<const priced_pair> pairs, plan& p);

}  // namespace penstock::routing
