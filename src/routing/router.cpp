#include "routing/router.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "routing/candidates.hpp"
#include "routing/cost_model.hpp"
#include "routing/fleet_index.hpp"
#include "routing/model_index.hpp"
#include "routing/output_lengths.hpp"
#include "routing/popularity.hpp"
#include "routing/ranking.hpp"
#include "routing/refusals.hpp"
#include "routing/split.hpp"
#include "routing/work_lease.hpp"

namespace penstock::routing {
namespace {

// Room for some 100,000 response ids; each endpoint's newest 2^20 are kept at most.
constexpr std::uint64_t response_bytes = std::uint64_t{2} << 20;
constexpr std::uint64_t response_tokens = std::uint64_t{1} << 24;
constexpr std::uint32_t response_block_tokens = 16;
// Of an engine that tells nothing of itself: large, since too small is ruinous.
constexpr std::uint64_t default_kv_tokens = std::uint64_t{1} << 26;
// What an engine has before it when requests for it begin to wait here: enough for it to be busy until it has
// told of a first token and the next request has come. Less is better, for there nobody goes before another.
constexpr double enough_seconds = 0.15;
// Prompts of one batch that are looked up; the rest count as not held.
constexpr std::size_t most_chains = 32;

std::uint64_t hash(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

// Nobody waits for longer than an hour, whatever the figures say.
duration to_duration(double s) {
  return duration(static_cast<duration::rep>(std::clamp(s, 0.0, 3600.0) * 1e9));
}

bool carries(connector_kind connector, const request_facts& facts) {
  return (facts.carried_by >> static_cast<unsigned>(connector) & 1U) != 0;
}

bool has_role(const fleet_view& fleet, const pool_view& pool, endpoint_role role) {
  return std::any_of(pool.endpoints.begin(), pool.endpoints.end(),
                     [&](std::uint32_t i) { return fleet.endpoints[i].settings.role == role; });
}

prefix_block response_block(std::string_view id) { return {hash(id), response_block_tokens}; }

// An engine that nobody has heard an answer of is taken to be as fast as the others, or it would be preferred
// to all that are known. Returns the mean of those that are; 0: nobody is.
double fill_paces(std::vector<draft>& side) {
  double sum = 0;
  std::size_t known = 0;
  for (const draft& d : side) {
    sum += d.pace;
    known += d.pace > 0 ? 1 : 0;
  }
  const double usual = known == 0 ? 0 : sum / static_cast<double>(known);
  for (draft& d : side)
    if (d.pace <= 0) d.pace = usual;
  return usual;
}

}  // namespace

shared_state::shared_state(const routing_config& s, std::uint64_t placement)
    : settings(s),
      prefixes(s.table_bytes, default_kv_tokens, placement),
      responses(response_bytes, response_tokens, placement) {}

struct router::impl {
  explicit impl(shared_state& s) : shared(s), slot_speed(max_endpoints, static_cast<float>(default_speed)) {}

  const routing_config& settings(const fleet_view& fleet) const {
    return fleet.settings ? fleet.settings->routing : shared.settings;
  }
  // Leaves the one candidate with this id; false when it is not among them.
  bool keep_only(endpoint_id endpoint) {
    std::erase_if(drafts, [&](const draft& d) { return d.figures.endpoint != endpoint; });
    return !drafts.empty();
  }
  endpoint_id recall(std::string_view response_id, const fleet_view& fleet);
  void look_up(const prefix_chain& chain, std::uint32_t likely);
  void measure(const request_facts& facts, cost_weights weights, const telling_block& telling, instant now);
  double waiting(instant now);
  void note_work(double uncached, double prompt);
  void look_at_decode(draft& d) const;
  draft draft_of(endpoint_id endpoint) const;
  void measure_side(std::vector<draft>& side, const request_facts& facts, const cost_weights& weights,
                    const telling_block& telling, instant now);
  telling_block telling_of(const request_facts& facts, const model_route& route) const;
  std::uint32_t& cursor_of(std::uint32_t pool, std::size_t endpoints, prng& rng);
  plan make_plan(const request_facts& facts, choice why, policy by, const telling_block& telling) const;
  void add_pairs(const request_facts& facts, const fleet_view& fleet, const model_route& route,
                 const telling_block& telling, const rank_request& r, instant now, prng& rng, plan& p);
  double speed_of(const candidate& c) const {
    return c.speed > 0 ? c.speed : static_cast<double>(slot_speed[c.endpoint.slot % max_endpoints]);
  }

  shared_state& shared;
  fleet_index index;
  model_index models;
  popularity popular;
  output_lengths outputs;
  std::vector<std::uint32_t> cursors;  // round robin, by pool; unset: nobody's turn yet
  std::vector<float> slot_speed;       // of the endpoint's pool at the last decision, by slot
  // Scratch of one decision, kept for its memory.
  std::vector<draft> drafts;
  std::vector<prefix_probe> probes;
  std::vector<std::uint64_t> tokens_before;
  std::vector<ranked> order;
  std::vector<double> queues;
  request_size size;  // of the request that is decided about
  double speed = default_speed;
  double usual_work = 0;  // uncached tokens of the requests sent lately, in the mean
  double free_share = 1;  // ... as a share of their prompts
  // Of pools that split requests.
  pair_book pairs;
  pair_sides sides;
  std::vector<priced_pair> priced;
};

endpoint_id router::impl::recall(std::string_view response_id, const fleet_view& fleet) {
  probes.clear();
  for (const endpoint_view& e : fleet.endpoints) probes.push_back({e.id, 0, 0});
  const std::array<prefix_block, 1> block{response_block(response_id)};
  shared.responses.longest(block, probes);
  for (const prefix_probe& p : probes) {
    if (p.depth > 0) return p.endpoint;
  }
  return {};
}

// `likely`: blocks that most endpoints hold of it.
void router::impl::look_up(const prefix_chain& chain, std::uint32_t likely) {
  shared.prefixes.longest(chain.blocks, probes, likely);
  tokens_before.resize(chain.blocks.size() + 1);
  std::uint64_t sum = tokens_before[0] = 0;
  for (std::size_t i = 0; i < chain.blocks.size(); ++i) tokens_before[i + 1] = sum += chain.blocks[i].tokens;
  for (std::size_t i = 0; i < drafts.size(); ++i) {
    drafts[i].figures.hit_blocks += probes[i].depth;
    drafts[i].figures.hit_tokens += tokens_before[probes[i].depth] * probes[i].trust / 100;
  }
}

// Requests in front of their first token at the median endpoint (the lower one of two): one that is idle by
// chance says as little of the crowd as one that everybody wants.
double router::impl::waiting(instant now) {
  if (drafts.empty() || usual_work < 1) return 0;
  queues.clear();
  for (const draft& d : drafts)
    queues.push_back(queue_tokens(d.load, d.load.speed > 0 ? d.load.speed : speed, now));
  const auto middle = queues.begin() + static_cast<std::ptrdiff_t>((queues.size() - 1) / 2);
  std::nth_element(queues.begin(), middle, queues.end());
  return *middle / usual_work;
}

// A request was sent that has `uncached` of its `prompt` tokens to compute.
void router::impl::note_work(double uncached, double prompt) {
  constexpr double decay = 0.02;  // the last fifty requests
  usual_work += (usual_work > 0 ? decay : 1) * (uncached - usual_work);
  if (prompt > 0) free_share += decay * (std::min(uncached / prompt, 1.0) - free_share);
}

// Every policy gets all figures: what an endpoint has to compute is booked on the board for all of them.
void router::impl::measure(const request_facts& facts, cost_weights weights, const telling_block& telling,
                           instant now) {
  probes.clear();
  for (draft& d : drafts) {
    d.load = shared.board.read(d.figures.endpoint);
    probes.push_back({d.figures.endpoint, d.seed, 0});
  }
  const std::size_t chains = facts.pooling ? 0 : std::min(facts.prompts.size(), most_chains);
  // What much of the traffic shares is what most endpoints hold.
  for (std::size_t i = 0; i < chains; ++i) look_up(facts.prompts[i], i == 0 ? telling.index : 0);
  speed = pool_speed(drafts);
  const double output = weights.learned_sequence ? outputs.expected(hash(facts.model)) : 0;
  weights.lambda = crowded_lambda(weights.lambda, waiting(now));
  weights.free_share = free_share;
  // Blocks before the telling one are those that much of the traffic shares.
  if (chains == 1 && telling.index < tokens_before.size())
    weights.shared_tokens = static_cast<double>(tokens_before[telling.index]);
  for (draft& d : drafts) {
    if (output > 0) {
      const double own = d.load.speed > 0 ? d.load.speed : speed;
      d.sequence_cost = learned_sequence_cost(shared.board.decode_of(d.figures.endpoint), output, own, 0);
    }
    appraise(d, size, weights, speed, now);
    slot_speed[d.figures.endpoint.slot % max_endpoints] = static_cast<float>(speed);
  }
}

// What decodes at an endpoint, and how fast, before this request comes.
void router::impl::look_at_decode(draft& d) const {
  const double waiting =
      usual_work < 1 ? 0 : std::ceil(static_cast<double>(d.load.prefill_tokens) / usual_work);
  d.decoding = std::max(static_cast<double>(d.load.sequences) - waiting, 0.0);
  const decode_fit fit = shared.board.decode_of(d.figures.endpoint);
  d.pace = static_cast<double>(fit.base) + static_cast<double>(fit.slope) * (d.decoding + 1);
}

// The draft of a single candidate, with what decodes there.
draft router::impl::draft_of(endpoint_id endpoint) const {
  for (const draft& d : drafts) {
    if (d.figures.endpoint != endpoint) continue;
    draft found = d;
    look_at_decode(found);
    return found;
  }
  return {};
}

// Figures of the endpoints that could be one half of a pair.
void router::impl::measure_side(std::vector<draft>& side, const request_facts& facts,
                                const cost_weights& weights, const telling_block& telling, instant now) {
  std::swap(drafts, side);
  measure(facts, weights, telling, now);
  for (draft& d : drafts) look_at_decode(d);
  std::swap(drafts, side);
}

telling_block router::impl::telling_of(const request_facts& facts, const model_route& route) const {
  if (facts.prompts.empty() || facts.pooling) return {};
  return popular.telling(route.family, facts.prompts[0].blocks, route.endpoints.size());
}

std::uint32_t& router::impl::cursor_of(std::uint32_t pool, std::size_t endpoints, prng& rng) {
  constexpr std::uint32_t unset = ~0U;
  if (cursors.size() <= pool) cursors.resize(pool + 1, unset);
  // Workers start at different places, or their first requests would all meet at one endpoint.
  if (cursors[pool] == unset) cursors[pool] = static_cast<std::uint32_t>(rng.below(endpoints));
  return cursors[pool];
}

plan router::impl::make_plan(const request_facts& facts, choice why, policy by,
                             const telling_block& telling) const {
  plan p;
  p.by = by;
  p.why = why;
  p.telling_key = telling.key;
  p.telling_index = telling.index;
  for (const prefix_chain& c : facts.prompts) p.prompt_blocks += static_cast<std::uint32_t>(c.blocks.size());
  p.candidates.reserve(order.size());
  for (const ranked& o : order) p.candidates.push_back(drafts[o.index].figures);
  return p;
}

// Prices pairs of engines against the plan's own candidates, and puts them in front where they are worth it.
void router::impl::add_pairs(const request_facts& facts, const fleet_view& fleet, const model_route& route,
                             const telling_block& telling, const rank_request& r, instant now, prng& rng,
                             plan& p) {
  const pool_view& pool = fleet.pools[route.pool];
  const disaggregation_config& how = pool.disaggregation;
  const bool carried = carries(how.connector, facts);
  p.connector = how.connector;
  p.lease = how.lease;
  priced.clear();
  const double output = outputs.expected(hash(facts.model));
  const candidate* single = p.candidates.empty() ? nullptr : p.candidates.data();
  draft alone = single == nullptr ? draft{} : draft_of(single->endpoint);
  // Where nobody of the single candidates has prefilled yet, they are taken to be as fast as prefill engines.
  const bool singles_known =
      std::any_of(drafts.begin(), drafts.end(), [](const draft& d) { return d.load.speed > 0; });
  double one_speed = speed;
  if (carried && how.split != split_never) {
    gather_sides(fleet, route, index.keys(), sides);
    measure_side(sides.decodes, facts, r.weights, telling, now);
    const double decode_speed = speed, pace = fill_paces(sides.decodes);
    if (alone.pace <= 0) alone.pace = pace;
    measure_side(sides.prefills, facts, r.weights, telling, now);
    order.clear();
    if (!sides.prefills.empty()) rank(sides.prefills, r, rng, order);
    if (!singles_known) one_speed = speed;
    price_pairs(sides, order,
                {.fleet = fleet,
                 .pool = pool,
                 .prefill_speed = speed,
                 .decode_speed = decode_speed,
                 .sequence_tokens = r.weights.sequence,
                 .output = output,
                 .now = now},
                pairs, priced);
  }
  const priced_pair* best = priced.empty() ? nullptr : priced.data();
  const candidate* decode = best == nullptr ? nullptr : &sides.decodes[best->decode].figures;
  const double one = single == nullptr ? 0 : one_place_cost(alone, one_speed, output);
  p.split = choose_split(how, carried, best, decode, single, one);
  if (best != nullptr) p.split_seconds = best->cost;
  p.one_seconds = one;
  if (is_split(p.split)) enter_pairs(sides, priced, p);
}

router::router(shared_state& shared) : impl_(std::make_unique<impl>(shared)) {}
router::~router() = default;

std::variant<plan, api_error> router::decide(const request_facts& facts, const fleet_view& fleet, instant now,
                                             prng& rng, std::size_t most) {
  impl& m = *impl_;
  m.index.sync(fleet, m.shared.prefixes, m.shared.responses);
  const model_route& route = m.models.route(fleet, facts.model);
  if (route.pool == no_pool) return refuse_model(facts.model, fleet);
  const pool_view& pool = fleet.pools[route.pool];
  absences absent = gather(fleet, route, m.index.keys(), m.drafts);
  const bool pinned = facts.api == api_kind::responses && !facts.previous_response_id.empty();
  if (pinned) {
    // The conversation's state is in one engine; no other can continue it.
    const endpoint_id home = m.recall(facts.previous_response_id, fleet);
    if (!home || !m.keep_only(home)) return refuse_response(facts.previous_response_id);
  }
  const bool splits = pool.disaggregation.enabled && !pinned;
  if (splits && !traits(pool.disaggregation.connector).decode_serves_alone) {
    const auto role_of = [&](std::uint32_t at) { return fleet.endpoints[pool.endpoints[at]].settings.role; };
    absent.decode_only = static_cast<std::uint32_t>(std::erase_if(
        m.drafts, [&](const draft& d) { return role_of(d.position) == endpoint_role::decode; }));
    absent.needs_both = m.drafts.empty() && !carries(pool.disaggregation.connector, facts) &&
                        !has_role(fleet, pool, endpoint_role::both);
  }
  if (m.drafts.empty() && !splits) return refuse_pool(pool.name, absent, fleet);

  rank_request r;
  r.by = pool.route;
  r.weights = weights_of(m.settings(fleet));
  if (!splits) r.most = std::max<std::size_t>(most, 1);
  m.size = size_of(facts);
  const telling_block telling = m.telling_of(facts, route);
  m.measure(facts, r.weights, telling, now);
  r.pool_speed = m.speed;
  r.sequences = m.size.sequences;
  r.tie_key = facts.affinity.empty() ? telling.key : hash(facts.affinity) | 1;
  r.hash_key = r.tie_key;
  std::uint32_t* cursor = nullptr;
  if (r.by == policy::round_robin && !pinned && !m.drafts.empty()) {
    cursor = &m.cursor_of(route.pool, pool.endpoints.size(), rng);
    r.cursor = *cursor;
  }
  const choice why = rank(m.drafts, r, rng, m.order);
  if (cursor != nullptr) *cursor = m.drafts[m.order[0].index].position + 1;
  m.order.resize(std::min(m.order.size(), r.most));
  plan p = m.make_plan(facts, pinned ? choice::pinned : why, r.by, telling);
  p.by_session = !facts.affinity.empty();
  if (splits) m.add_pairs(facts, fleet, route, telling, r, now, rng, p);
  if (p.candidates.empty()) return refuse_pool(pool.name, absent, fleet);
  return p;
}

work_lease router::reserve(const request_facts& facts, const fleet_view& fleet, const candidate& chosen,
                           instant now) {
  impl& m = *impl_;
  const model_route& route = m.models.route(fleet, facts.model);
  const bool enters = !facts.pooling && route.pool != no_pool;
  std::size_t blocks = 0;
  for (const prefix_chain& c : facts.prompts) blocks += enters ? c.blocks.size() : 0;
  std::unique_ptr<work_lease::state> s = work_lease::state::make(m.shared, chosen.endpoint, blocks);

  const request_size size = size_of(facts);
  s->work.prefill_tokens = std::min(chosen.uncached_tokens, size.prompt_tokens);
  s->work.decode_tokens = facts.pooling ? 0 : size.prompt_tokens * std::max<std::uint64_t>(facts.n, 1);
  s->work.sequences = size.sequences;
  s->speed = m.speed_of(chosen);
  s->work.expected = to_duration(static_cast<double>(s->work.prefill_tokens) / s->speed);
  s->dispatched = now;
  s->elsewhere = static_cast<bool>(chosen.prefill);
  s->teaches = facts.prompts.size() == 1 && !s->elsewhere;
  s->tells = facts.prompts.size() == 1 && facts.n == 1;
  s->prompt_tokens = size.prompt_tokens;
  s->booked = m.shared.board.book(chosen.endpoint, s->work, now);
  if (!enters) return work_lease(std::move(s));

  const std::vector<std::uint32_t>& members = fleet.pools[route.pool].endpoints;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const bool known = members[i] < fleet.endpoints.size();
    if (!known || fleet.endpoints[members[i]].id != chosen.endpoint) continue;
    s->seed = route.endpoints[i].seed;
    s->crowded = s->elsewhere && fleet.endpoints[members[i]].engine.without_room > 0;
  }
  for (const prefix_chain& c : facts.prompts) s->append(c.blocks);
  s->enter(block_mark::pending);
  return work_lease(std::move(s));
}

work_lease router::dispatched(const request_facts& facts, const fleet_view& fleet, const candidate& chosen,
                              instant now) {
  impl& m = *impl_;
  work_lease lease = reserve(facts, fleet, chosen, now);
  // Its first token will only be guessed: an engine would stand idle while the guess is too late.
  if (!facts.stream) lease.state_->wait();
  const request_size size = size_of(facts);
  const std::uint64_t work = std::min(chosen.uncached_tokens, size.prompt_tokens);
  m.note_work(static_cast<double>(work), static_cast<double>(size.prompt_tokens));
  const model_route& route = m.models.route(fleet, facts.model);
  if (facts.pooling || route.pool == no_pool) return lease;
  m.shared.prefixes.expect(chosen.endpoint, chosen.hit_tokens, size.prompt_tokens);
  if (!facts.prompts.empty())
    m.popular.note(route.family, facts.prompts[0].blocks, fleet.pools[route.pool].endpoints.size());
  return lease;
}

bool router::doubts(endpoint_id endpoint, const fleet_view& fleet, instant now) const {
  if (impl_->shared.board.read(endpoint).suspect_until > now) return true;
  const auto found = std::find_if(fleet.endpoints.begin(), fleet.endpoints.end(),
                                  [endpoint](const endpoint_view& e) { return e.id == endpoint; });
  return found == fleet.endpoints.end() || (found->state != life::up && found->state != life::starting);
}

bool router::should_wait(const plan& p, const fleet_view& fleet) const {
  return impl_->settings(fleet).hold != duration{} && p.by == policy::prefix &&
         p.split == split_choice::not_asked && has_enough(p.candidates.front().endpoint);
}

void router::turn_came(candidate& chosen) const {
  const endpoint_load load = impl_->shared.board.read(chosen.endpoint);
  const std::uint64_t behind = impl_->shared.board.held_tokens(chosen.endpoint) + chosen.uncached_tokens;
  const double pool = static_cast<double>(impl_->slot_speed[chosen.endpoint.slot % max_endpoints]);
  const auto before = static_cast<double>(load.prefill_tokens - std::min(load.prefill_tokens, behind));
  chosen.speed = load.speed;
  chosen.queue_tokens = before * pace_of(pool, impl_->speed_of(chosen));
}

bool router::has_enough(endpoint_id endpoint) const {
  const endpoint_load load = impl_->shared.board.read(endpoint);
  const std::uint64_t held = impl_->shared.board.held_tokens(endpoint);
  const std::uint64_t sent = load.prefill_tokens - std::min(held, load.prefill_tokens);
  return load.speed > 0 && static_cast<double>(sent) > enough_seconds * load.speed;
}

duration router::predicted_prefill(const candidate& chosen) const {
  const double own = impl_->speed_of(chosen);
  const double pool = static_cast<double>(impl_->slot_speed[chosen.endpoint.slot % max_endpoints]);
  const double queue = chosen.queue_tokens / pace_of(pool, own);  // its own tokens again
  return to_duration((queue + static_cast<double>(chosen.uncached_tokens)) / own);
}

void router::answered(std::string_view model, const token_usage& usage) {
  if (usage.known) impl_->outputs.learn(hash(model), usage.completion);
}

void router::handed_over(endpoint_id prefill, endpoint_id decode, std::uint64_t tokens, duration took,
                         bool crowded) {
  impl_->pairs.handed_over(prefill, decode, tokens, took, crowded);
}

void router::pair_failed(endpoint_id prefill, endpoint_id decode, instant now) {
  impl_->pairs.failed(prefill, decode, now);
}

const pair_book& router::pairs() const { return impl_->pairs; }

void router::learn_pairs(const pair_book& known) { impl_->pairs.add(known); }

void router::remember_response(std::string_view response_id, endpoint_id endpoint) {
  const std::array<std::uint64_t, 1> key{response_block(response_id).key};
  const std::array<std::uint8_t, 1> units{block_units(response_block_tokens)};
  impl_->shared.responses.enter(endpoint, 0, key, units, block_mark::confirmed);
}

}  // namespace penstock::routing
