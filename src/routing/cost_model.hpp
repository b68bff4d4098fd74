// What it costs to send a request to an endpoint, in tokens of prefill work.
#pragma once

#include <cstdint>
#include <span>

#include "penstock/config.hpp"
#include "penstock/plan.hpp"
#include "penstock/request_facts.hpp"
#include "routing/candidates.hpp"
#include "routing/endpoint_board.hpp"

namespace penstock::routing {

// Taken for a pool of which no endpoint has taught us its speed yet: a mid-size model on one data-centre
// GPU. It only sets how fast queues are thought to drain until the first few first tokens.
inline constexpr double default_speed = 8000;  // tokens per second

// What a request weighs: the tokens of all its prompts and the sequences its engine will run.
struct request_size {
  std::uint64_t prompt_tokens = 0;
  std::uint32_t sequences = 1;  // prompts x n
};
request_size size_of(const request_facts& facts);

// The settings of the score, made safe: no negative or NaN weight, a load factor of at least 1.
// `shared_tokens` belongs to one request: the head of its prompt that much of the traffic shares.
struct cost_weights {
  double lambda = 1, sequence = 200, load_factor = 1.25;
  bool learned_sequence = false;  // `sequence` only where nothing was learned
  double shared_tokens = 0;
  double free_share = 1;  // of recent requests: the part of their work that no endpoint held
};
cost_weights weights_of(const routing_config& settings);

// Prefill tokens in front of a request that comes now. The finish clock runs down with time; an endpoint
// that is overdue is expected to need as long again as it is late; and no queue is longer than what is
// outstanding. An endpoint that took four times as long as expected, and two seconds, has perhaps stopped:
// from then on its queue grows by all the time that passes, until a first token comes.
double queue_tokens(const endpoint_load& load, double speed, instant now);

// What one more sequence in the batch costs the others over a whole answer, in tokens of prefill work: slope
// x expected output x prefill speed. `otherwise` where one of the three is not known.
double learned_sequence_cost(const decode_fit& fit, double expected_output, double speed, double otherwise);

// How many times as long as at the pool's speed work takes there. Speeds within a quarter are the same: what
// short prompts teach is no better, and engines of a kind would be told apart by chance; beyond it the
// quarter is given away. 1 where either is 0.
double pace_of(double pool, double own);

// Median of the learned speeds, default_speed when nobody has one.
double pool_speed(std::span<const draft> drafts);

// The penalty for computing anew what somebody holds, when the median endpoint has `waiting` requests in
// front of their first token. Work that could have been saved delays everybody who comes behind
// it until the queue is gone, and the requests that wait now are the measure of how many that will be: a
// fixed penalty that is right at ease is several times too small in overload.
double crowded_lambda(double lambda, double waiting);

// queue x pace + w x sequences in flight + (pace + lambda + f x waiting) x uncached tokens, raised where
// confidence is below 1. Work delays those who come behind it, and by Little's law the requests that wait at
// an endpoint now are how many come during its queue: so long prompts go where few wait and short ones where
// the queue is short. But who follows what an endpoint holds comes there whatever its queue is, and a long
// queue must not be bought with a low count: f is the share of the traffic's work that nobody held. Of the
// head that much of the traffic shares, what is not held costs a quarter of its tokens and no penalty: it
// will be used again wherever it is, and where every request begins alike the penalty would keep all of them
// at the endpoint that happened to be first. `d.load` and the hit figures are filled in; this fills in the
// rest.
void appraise(draft& d, const request_size& size, const cost_weights& weights, double pool, instant now);

}  // namespace penstock::routing
