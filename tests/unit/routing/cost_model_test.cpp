// The price of a candidate: crowding, heads that all share, near ties.
#include "routing/cost_model.hpp"

#include <doctest/doctest.h>

#include "routing/router.hpp"
#include "unit/routing/fixtures.hpp"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::fixtures;

namespace {

draft holder(std::uint64_t hit, double queued) {
  draft d;
  d.figures.hit_tokens = hit;
  d.load.speed = 10000;
  d.load.prefill_tokens = static_cast<std::uint64_t>(queued);
  d.load.finish = at_ms(1000) + duration(static_cast<std::int64_t>(queued / 10000 * 1e9));
  return d;
}

double score(draft d, const cost_weights& w, std::uint64_t prompt = 10000) {
  appraise(d, {prompt, 1}, w, 10000, at_ms(1000));
  return d.figures.score;
}

}  // namespace

TEST_CASE("cost: a held prefix is worth more the more requests wait everywhere") {
  CHECK(crowded_lambda(8, 0) == 8);
  CHECK(crowded_lambda(8, 3) > crowded_lambda(8, 1));
  CHECK(crowded_lambda(8, -1) == 8);
  CHECK(crowded_lambda(8, 1e300) < 1e6);
  cost_weights calm{.lambda = 8}, crowded{.lambda = 8};
  crowded.lambda = crowded_lambda(calm.lambda, 20);
  // 5,000 tokens held behind a queue that is longer by 60,000.
  CHECK(score(holder(5000, 60000), calm) > score(holder(0, 0), calm));
  CHECK(score(holder(5000, 60000), crowded) < score(holder(0, 0), crowded));
}

TEST_CASE("cost: what everybody shares is no reason to queue, and little to pay") {
  cost_weights w{.lambda = 4};
  w.shared_tokens = 8000;
  // The holder of the shared head against an empty engine: a queue of a quarter of it is enough.
  CHECK(score(holder(8000, 1000), w) < score(holder(0, 0), w));
  CHECK(score(holder(8000, 3000), w) > score(holder(0, 0), w));
  w.shared_tokens = 0;
  CHECK(score(holder(8000, 3000), w) < score(holder(0, 0), w));
  // What is held behind the head counts in full, and a head longer than the prompt is the whole prompt.
  w.shared_tokens = 2000;
  CHECK(score(holder(8000, 25000), w) < score(holder(2000, 0), w));
  w.shared_tokens = 1e9;
  CHECK(score(holder(0, 0), w) < 10000);
}

// Endpoint 0 has many short requests in front, endpoint 1 a few long ones and half a second more of work.
TEST_CASE("cost: a long prompt goes where few wait, a short one where the queue is short") {
  draft many = holder(0, 20000), few = holder(0, 25000);
  many.load.waiting = 40;
  few.load.waiting = 4;
  cost_weights w;
  CHECK(score(many, w, 200) < score(few, w, 200));
  CHECK(score(many, w, 10000) > score(few, w, 10000));
  // Traffic that follows what engines hold cannot choose later: then only the queue counts.
  w.free_share = 0;
  CHECK(score(many, w, 10000) < score(few, w, 10000));
}

TEST_CASE("cost: engines of a kind are not told apart by what chance taught of their speed") {
  CHECK(pace_of(10000, 8100) == 1);
  CHECK(pace_of(10000, 12400) == 1);
  CHECK(pace_of(10000, 5000) == doctest::Approx(1.6));
  CHECK(pace_of(10000, 20000) == doctest::Approx(0.625));
  CHECK(pace_of(10000, 0) == 1);
  CHECK(pace_of(0, 10000) == 1);
  draft usual = holder(0, 20000), lucky = holder(0, 20000), slow = holder(0, 20000);
  lucky.load.speed = 11000;
  lucky.load.finish = at_ms(1000) + duration(static_cast<std::int64_t>(20000 / 11000.0 * 1e9));
  slow.load.speed = 5000;
  slow.load.finish = at_ms(1000) + duration(std::int64_t{4} * 1000000000);
  CHECK(score(lucky, {}) == doctest::Approx(score(usual, {})));
  // The queue and the request's own work both last longer there.
  CHECK(score(slow, {}) - score(usual, {}) == doctest::Approx(0.6 * (20000 + 10000)));
}

TEST_CASE("router: sessions that begin alike do not all stay where the first one went") {
  bench b(fleet_of(4));
  const prefix_chain rules = chain_of(1, 50);
  for (std::uint64_t i = 0; i < 20; ++i) b.serve_at(2, request_of(chain_of(100 + i, 10, rules)));
  // Each adds 2,560 tokens where the rules are known; lambda times the rules would be a queue of 102,400.
  std::vector<work_lease> waiting;
  std::array<int, 4> sessions{};
  for (std::uint64_t i = 0; i < 24; ++i) {
    waiting.push_back(b.send(request_of(chain_of(200 + i, 10, rules)), at_ms(5000)));
    ++sessions[waiting.back().endpoint().slot];
  }
  for (const int n : sessions) CHECK(n >= 3);
}

TEST_CASE("router: a tie is what nobody feels, however long the prompt") {
  bench b(fleet_of(2));
  // 100,000 tokens that nobody holds: 5 % of that score would hide a queue of several seconds.
  const request_facts f = request_of(chain_of(3, 400));
  std::vector<work_lease> queue;
  for (std::uint64_t i = 0; i < 4; ++i) queue.push_back(b.send_to(0, request_of(chain_of(50 + i, 15))));
  for (std::uint64_t i = 0; i < 30; ++i) CHECK(b.first(request_of(chain_of(1000 + i, 400))) == 1);
  CHECK(b.decide(f).why == choice::least_work);
}
