// One engine or two: the decision by cost, and how pairs are picked.
#include <doctest/doctest.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <vector>

#include "routing/pair_book.hpp"
#include "unit/routing/fixtures.hpp"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::fixtures;
using namespace std::chrono_literals;

namespace {

// `prefills` engines of role prefill in the first slots, then `decodes` of role decode.
fleet_view split_fleet(std::size_t prefills, std::size_t decodes, std::int64_t split = split_by_cost,
                       connector_kind connector = connector_kind::nixl) {
  fleet_view f = fleet_of(prefills + decodes);
  for (std::size_t i = 0; i < f.endpoints.size(); ++i)
    f.endpoints[i].settings.role = i < prefills ? endpoint_role::prefill : endpoint_role::decode;
  f.pools[0].disaggregation = {.enabled = true, .connector = connector, .split = split};
  return f;
}

request_facts carried(prefix_chain chain) {
  request_facts f = request_of(std::move(chain));
  f.carried_by = 0xff;
  return f;
}
// 16,404 tokens that nobody knows, and 20.
request_facts long_prompt(std::uint64_t name = 1) { return carried(chain_of(name, 64)); }
request_facts short_prompt(std::uint64_t name = 1) { return carried(chain_of(name, 0)); }

// A whole request at `slot` that is over, so that its blocks are held there; it teaches no speed.
void held_at(bench& b, std::uint16_t slot, const request_facts& f) {
  b.decide(f, at_ms(400));  // the table knows the fleet of the last decision
  work_lease l = b.send(f, {.endpoint = {slot, 0}, .uncached_tokens = f.prompt_tokens}, at_ms(500));
  l.first_token(at_ms(600), false);
  l.ended(at_ms(700), {});
}

// Answers that `slot` generates from now on: its prompts are read.
std::vector<work_lease> answers_at(bench& b, std::uint16_t slot, std::size_t n) {
  std::vector<work_lease> out;
  for (std::size_t i = 0; i < n; ++i) {
    out.push_back(b.send(short_prompt(1000 + i), {.endpoint = {slot, 0}, .uncached_tokens = 20}, at_ms(900)));
    out.back().first_token(at_ms(905), false);
  }
  return out;
}

// Hand-offs that the pair has behind it, each of `tokens` and so many seconds; the first is the first
// contact.
void handed(bench& b, std::uint16_t prefill, std::uint16_t decode, std::uint64_t tokens,
            std::initializer_list<duration> took) {
  for (const duration d : took) b.route.handed_over({prefill, 0}, {decode, 0}, tokens, d);
}

std::string pair_of(const candidate& c) { return fmt::format("{}>{}", c.prefill.slot, c.endpoint.slot); }
std::string first_pair(const plan& p) {
  return p.candidates.empty() || !p.candidates[0].prefill ? "none" : pair_of(p.candidates[0]);
}

}  // namespace

TEST_CASE(
    "split: a long prompt leaves engines alone that answer others; a short one does not pay for the way") {
  bench b(split_fleet(1, 1));
  const auto running = answers_at(b, 1, 20);
  CHECK(b.decide(long_prompt()).split == split_choice::cheaper);
  CHECK(first_pair(b.decide(long_prompt())) == "0>1");
  const plan p = b.decide(short_prompt());
  CHECK(p.split == split_choice::dearer);
  CHECK(first_pair(p) == "none");
  CHECK(p.candidates.at(0).endpoint.slot == 1);
  // Both ways were looked at, and the cheaper one was taken.
  CHECK(p.split_seconds > p.one_seconds);
  CHECK(p.one_seconds > 0);
}

TEST_CASE("split: an engine that answers nobody does all itself") {
  bench b(split_fleet(1, 1));
  handed(b, 0, 1, 16404, {2s, 250ms, 250ms, 250ms});
  CHECK(b.decide(long_prompt()).split == split_choice::dearer);
}

TEST_CASE("split: what the decode engine holds counts: a mostly cached prompt goes straight to it") {
  bench b(split_fleet(1, 1));
  request_facts f = long_prompt();
  held_at(b, 1, f);
  const auto running = answers_at(b, 1, 20);
  const plan p = b.decide(f);
  CHECK(p.split == split_choice::dearer);
  CHECK(p.candidates.at(0).endpoint.slot == 1);
  CHECK(p.candidates.at(0).uncached_tokens == 20);
  CHECK(b.decide(long_prompt(2)).split == split_choice::cheaper);
}

TEST_CASE("split: of two decode engines the one that holds the prompt has less to fetch") {
  for (const std::uint16_t holder : {std::uint16_t{1}, std::uint16_t{2}}) {
    bench b(split_fleet(1, 2));
    const request_facts f = long_prompt();
    held_at(b, holder, f);
    b.fleet.pools[0].disaggregation.split = split_always;
    const plan p = b.decide(f);
    CHECK(p.candidates.at(0).endpoint.slot == holder);
    CHECK(p.candidates.at(0).transfer_seconds < p.candidates.at(1).transfer_seconds);
  }
}

TEST_CASE("split: a prefill engine with a queue tips it to one place, and back when that is done") {
  bench b(split_fleet(1, 1));
  const auto running = answers_at(b, 1, 20);
  std::vector<work_lease> queue;
  for (std::uint64_t i = 0; i < 8; ++i)
    queue.push_back(b.send(long_prompt(50 + i), {.endpoint = {0, 0}, .uncached_tokens = 16404}, at_ms(990)));
  CHECK(b.decide(long_prompt()).split == split_choice::dearer);
  queue.clear();
  CHECK(b.decide(long_prompt()).split == split_choice::cheaper);
}

TEST_CASE("split: prefill engines are picked as the policy ranks them, decode engines by their load") {
  bench b(split_fleet(2, 2, split_always));
  request_facts f = long_prompt();
  // Engine 1 read this prompt before, and engine 2 answers many.
  held_at(b, 1, f);
  const auto running = answers_at(b, 2, 10);
  CHECK(first_pair(b.decide(f)) == "1>3");
}

TEST_CASE("split: a transfer is learned of each pair, and a slow one is left") {
  bench b(split_fleet(1, 2, split_always));
  handed(b, 0, 1, 16404, {2s, 4s, 4s, 4s});
  handed(b, 0, 2, 16404, {2s, 100ms, 100ms, 100ms});
  const plan p = b.decide(long_prompt());
  CHECK(first_pair(p) == "0>2");
  CHECK(p.candidates.at(0).transfer_seconds == doctest::Approx(0.1).epsilon(0.05));
  CHECK(p.candidates.at(1).transfer_seconds == doctest::Approx(4).epsilon(0.05));
}

TEST_CASE("split: a pair that has shaken hands is preferred to one that has not") {
  for (const std::uint16_t known : {std::uint16_t{1}, std::uint16_t{2}}) {
    bench b(split_fleet(1, 2, split_always));
    handed(b, 0, known, 16404, {3s});
    CHECK(first_pair(b.decide(long_prompt())) == fmt::format("0>{}", known));
  }
}

TEST_CASE("split: an engine that was not heard of yet is not faster for that") {
  bench b(split_fleet(1, 2, split_always));
  handed(b, 0, 1, 16404, {1s});
  for (int i = 0; i < 20; ++i) b.shared.board.teach_decode({1, 0}, 100, 2.0, 1);
  CHECK(first_pair(b.decide(long_prompt())) == "0>1");
  // One that is known to be twice as fast is worth a handshake.
  for (int i = 0; i < 20; ++i) b.shared.board.teach_decode({2, 0}, 100, 1.0, 1);
  CHECK(first_pair(b.decide(long_prompt())) == "0>2");
}

TEST_CASE("split: a pair that could not hand over is avoided for a minute") {
  bench b(split_fleet(1, 2, split_always));
  handed(b, 0, 1, 100, {1s});  // it would be the first
  CHECK(first_pair(b.decide(long_prompt(), at_ms(1000))) == "0>1");
  b.route.pair_failed({0, 0}, {1, 0}, at_ms(1000));
  for (const std::int64_t ms : {1001, 60999}) {
    const plan p = b.decide(long_prompt(), at_ms(ms));
    CHECK(first_pair(p) == "0>2");
    for (const candidate& c : p.candidates) CHECK_FALSE(pair_of(c) == "0>1");
  }
  b.route.pair_failed({0, 0}, {2, 0}, at_ms(2000));
  CHECK(b.decide(long_prompt(), at_ms(60999)).split == split_choice::no_pair);
  CHECK(first_pair(b.decide(long_prompt(), at_ms(61000))) == "0>1");
  // One that hands over again is a pair again.
  handed(b, 0, 2, 100, {1s});
  CHECK(first_pair(b.decide(long_prompt(), at_ms(61000))) == "0>2");
}

TEST_CASE("split: a pair is of one group") {
  bench b(split_fleet(2, 2, split_always));
  for (const std::size_t i : {std::size_t{0}, std::size_t{3}}) b.fleet.endpoints[i].settings.group = "a";
  for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) b.fleet.endpoints[i].settings.group = "b";
  std::string pairs;
  for (const candidate& c : b.decide(long_prompt()).candidates)
    if (c.prefill) pairs += pair_of(c) + " ";
  CHECK((pairs == "0>3 1>2 " || pairs == "1>2 0>3 "));
  b.fleet.endpoints[3].settings.group = "b";
  b.fleet.endpoints[2].settings.group = "c";
  b.fleet.endpoints[1].settings.group = "d";
  const plan p = b.decide(long_prompt());
  CHECK(p.split == split_choice::no_pair);
  CHECK(first_pair(p) == "none");
  CHECK(p.candidates.size() == 2);
}

TEST_CASE("split: engines of role prefill get no whole request, and nobody is his own partner") {
  bench b(split_fleet(1, 1, split_always));
  for (const candidate& c : b.decide(long_prompt()).candidates) CHECK(c.endpoint.slot == 1);
  for (endpoint_view& e : b.fleet.endpoints) e.settings.role = endpoint_role::both;
  const plan p = b.decide(long_prompt());
  CHECK(is_split(p.split));
  std::size_t pairs = 0;
  for (const candidate& c : p.candidates) {
    if (!c.prefill) continue;
    ++pairs;
    CHECK_FALSE(c.prefill == c.endpoint);
  }
  CHECK(pairs == 2);
}

TEST_CASE("split: what overrides the cost") {
  const struct {
    std::int64_t split;
    bool long_one;
    split_choice wanted;
  } rows[] = {{split_always, false, split_choice::told_to},
              {split_never, true, split_choice::told_not_to},
              {16404, true, split_choice::long_prompt},
              {16405, true, split_choice::short_prompt},
              {0, false, split_choice::long_prompt}};
  for (const auto& row : rows) {
    CAPTURE(row.split);
    bench b(split_fleet(1, 1, row.split));
    CHECK(b.decide(row.long_one ? long_prompt() : short_prompt()).split == row.wanted);
  }
  // The number is of tokens that the decode engine does not hold.
  bench cached(split_fleet(1, 1, 1000));
  request_facts f = long_prompt();
  held_at(cached, 1, f);
  CHECK(cached.decide(f).split == split_choice::short_prompt);

  bench b(split_fleet(1, 1, split_always));
  f.carried_by = 0xff & ~(1U << static_cast<unsigned>(connector_kind::nixl));
  CHECK(b.decide(f).split == split_choice::not_carried);
  CHECK(b.decide(f).candidates.at(0).endpoint.slot == 1);
  // SGLang's decode engines take no whole request.
  bench s(split_fleet(1, 1, split_by_cost, connector_kind::sglang));
  CHECK(s.decide(short_prompt()).split == split_choice::only_split);
  CHECK(s.decide(short_prompt()).candidates.size() == 1);
}

TEST_CASE("split: what nobody will ever serve says so, and not to try again") {
  request_facts f = short_prompt();
  f.carried_by = 0;
  bench none(split_fleet(1, 1, split_by_cost, connector_kind::sglang));
  const api_error e = none.refusal(f);
  CHECK(e.why == reason::no_endpoint);
  CHECK(e.message ==
        "No endpoint of pool `main` can take the request: 1 for prefill only, 1 for decode only. What it asks for "
        "cannot be prefilled here and decoded there, and the pool has no endpoint of role \"both\".");
  CHECK(e.retry_after_s == 0);
  // One that is down may come back, and so may a prefill engine.
  fleet_view down = split_fleet(1, 2, split_by_cost, connector_kind::sglang);
  down.endpoints[2].settings.role = endpoint_role::both;
  down.endpoints[2].state = life::down;
  bench later(down);
  CHECK(later.refusal(f).message.ends_with("1 down, 1 for prefill only, 1 for decode only. Try again later."));
  CHECK(later.refusal(f).retry_after_s > 0);
  fleet_view half = split_fleet(1, 1, split_by_cost, connector_kind::sglang);
  half.endpoints[0].state = life::down;
  bench again(half);
  CHECK(again.refusal(short_prompt()).message.ends_with("1 down, 1 for decode only. Try again later."));
}

TEST_CASE("split: explained with the costs of both ways and the figures of both engines") {
  bench b(split_fleet(1, 1));
  const auto running = answers_at(b, 1, 20);
  const std::string yes = explain(b.decide(long_prompt()), b.fleet);
  CAPTURE(yes);
  CHECK(yes.find("split: yes (cheaper), two engines are expected to be sooner; on two engines it costs ") ==
        0);
  CHECK(yes.find("; in one place it costs ") != yes.npos);
  CHECK(yes.find("\npolicy prefix: prefill at http://engine-0:8000, decode at http://engine-1:8000\n1. "
                 "http://engine-0:8000 prefills for http://engine-1:8000: it costs ") != yes.npos);
  CHECK(yes.find("\n     prefill: score ") != yes.npos);
  CHECK(
      yes.find(
          "\n     decode: queue 0 tokens, 20 in flight, holds 0 of 64 blocks, 16404 tokens to be fetched") !=
      yes.npos);
  CHECK(yes.find("\n2. http://engine-1:8000: score ") != yes.npos);
  const std::string no = explain(b.decide(short_prompt()), b.fleet);
  CHECK(no.find("split: no (dearer), one engine is expected to be sooner") == 0);
  CHECK(no.find("\npolicy prefix: http://engine-1:8000, because ") != no.npos);
  request_facts f = long_prompt();
  f.carried_by = 0;
  CHECK(explain(b.decide(f), b.fleet).find("split: no (not_carried), a hand-off by nixl cannot carry") == 0);
  bench whole(fleet_of(1));
  CHECK(explain(whole.decide(long_prompt()), whole.fleet).find("policy ") == 0);
}

TEST_CASE("split: whichever engine of the first pair fails, and both, the plan has a pair without it") {
  const auto without = [](const plan& p, endpoint_id engine, endpoint_id other) {
    return std::any_of(p.candidates.begin(), p.candidates.end(), [&](const candidate& c) {
      const auto is = [&c](endpoint_id e) { return c.prefill == e || c.endpoint == e; };
      return c.prefill && !is(engine) && !is(other);
    });
  };
  const auto check = [&](bench& b) {
    const plan p = b.decide(long_prompt());
    const candidate& first = p.candidates.at(0);
    REQUIRE(first.prefill);
    CHECK(without(p, first.prefill, {}));
    CHECK(without(p, first.endpoint, {}));
    CHECK(without(p, first.prefill, first.endpoint));
    std::size_t pairs = 0;
    for (const candidate& c : p.candidates) pairs += c.prefill ? 1 : 0;
    CHECK(pairs == 6);
    for (std::size_t i = 1; i < pairs; ++i) CHECK(p.candidates[i - 1].score <= p.candidates[i].score);
    return p;
  };
  const auto queue_at = [](bench& b, std::uint16_t slot) {
    const request_facts f = long_prompt(70u + slot);
    return b.send(f, {.endpoint = {slot, 0}, .uncached_tokens = 16404}, at_ms(990));
  };
  {
    // One prefill engine is idle: with it alone the eight decode engines make the eight best pairs.
    bench b(split_fleet(3, 8, split_always));
    const work_lease one = queue_at(b, 1), two = queue_at(b, 2);
    CHECK(check(b).candidates.at(0).prefill.slot == 0);
  }
  {
    // And one decode engine, with eight that prefill.
    bench b(split_fleet(8, 2, split_always));
    const auto running = answers_at(b, 9, 200);
    CHECK(check(b).candidates.at(0).endpoint.slot == 8);
  }
  {
    // Engines that do both are one half of a pair or the other.
    bench b(split_fleet(0, 4, split_always));
    for (endpoint_view& e : b.fleet.endpoints) e.settings.role = endpoint_role::both;
    const work_lease one = queue_at(b, 1), two = queue_at(b, 2), three = queue_at(b, 3);
    check(b);
  }
}

TEST_CASE("split: where there is no other engine the plan has the pairs that there are") {
  bench one(split_fleet(1, 1, split_always));
  CHECK(first_pair(one.decide(long_prompt())) == "0>1");
  CHECK(one.decide(long_prompt()).prefills.size() == 1);
  bench two(split_fleet(1, 2, split_always));
  CHECK(two.decide(long_prompt()).candidates.at(1).prefill.slot == 0);
}

TEST_CASE("pair book: a line over tokens, of each pair and of all") {
  pair_book book;
  const endpoint_id p{1, 1}, d{2, 1}, other{3, 1};
  const double before = book.seconds(p, d, 1000);
  book.handed_over(p, d, 1000, 1s);  // the first contact teaches no line
  CHECK(book.connected(p, d));
  CHECK(book.seconds(p, d, 1000) < before);
  for (int i = 0; i < 40; ++i) {
    book.handed_over(p, d, 1000, 30ms);
    book.handed_over(p, d, 10000, 120ms);
  }
  CHECK(book.seconds(p, d, 1000) == doctest::Approx(0.03).epsilon(0.01));
  CHECK(book.seconds(p, d, 10000) == doctest::Approx(0.12).epsilon(0.01));
  CHECK(book.seconds(p, d, 20000) == doctest::Approx(0.22).epsilon(0.01));
  // A pair that is new is expected to be like the others, and to shake hands first.
  const double contact = book.seconds(p, other, 10000) - 0.12;
  CHECK(contact > 0.01);
  CHECK_FALSE(book.connected(p, other));
  // Restarted engines are others.
  CHECK_FALSE(book.connected({1, 2}, d));
}

TEST_CASE("pair book: equal lengths give a mean and no slope, and what takes long is soon forgotten") {
  pair_book book;
  const endpoint_id p{1, 1}, d{2, 1};
  book.handed_over(p, d, 5000, 1s);
  for (int i = 0; i < 10; ++i) book.handed_over(p, d, 5000, 80ms);
  CHECK(book.seconds(p, d, 5000) == doctest::Approx(0.08).epsilon(0.01));
  CHECK(book.seconds(p, d, 50000) == doctest::Approx(0.08).epsilon(0.01));
  book.handed_over(p, d, 5000, 10s);
  CHECK(book.seconds(p, d, 5000) < 0.3);
}

TEST_CASE("pair book: a wait for room at a crowded engine is no transfer") {
  pair_book book;
  const endpoint_id p{1, 1}, d{2, 1}, other{3, 1};
  for (int i = 0; i < 10; ++i) book.handed_over(p, d, 5000, 80ms);
  const double contact = book.seconds(p, other, 5000);
  for (int i = 0; i < 100; ++i) book.handed_over(p, d, 5000, 10s, true);
  CHECK(book.seconds(p, d, 5000) == doctest::Approx(0.08).epsilon(0.01));
  // What took less than was expected took no longer than that, crowded or not.
  for (int i = 0; i < 200; ++i) book.handed_over(p, d, 5000, 40ms, true);
  CHECK(book.seconds(p, d, 5000) < 0.042);
  // A handshake in a crowd is one, and how long it took is not told.
  book.handed_over(p, other, 5000, 30s, true);
  CHECK(book.connected(p, other));
  CHECK(book.seconds(p, {4, 1}, 5000) <= contact);
  // Without anybody in the way the same is slow bytes.
  for (int i = 0; i < 100; ++i) book.handed_over(p, d, 5000, 10s);
  CHECK(book.seconds(p, d, 5000) > 1);
}

TEST_CASE("split: a decode leg knows whether its engine was out of room when it was sent") {
  bench b(split_fleet(1, 1, split_always));
  const candidate to = b.decide(long_prompt()).candidates.at(0);
  REQUIRE(to.prefill);
  CHECK_FALSE(b.send(long_prompt(), to).crowded());  // it does not tell
  b.fleet.endpoints[1].engine.without_room = 0;
  CHECK_FALSE(b.send(long_prompt(), to).crowded());
  b.fleet.endpoints[1].engine.without_room = 1;
  CHECK(b.send(long_prompt(), to).crowded());
  // Served in one place there is no transfer to learn.
  CHECK_FALSE(b.send(long_prompt(), {.endpoint = {1, 0}}).crowded());
}

TEST_CASE("pair book: what workers learned adds up") {
  const endpoint_id p{1, 1}, d{2, 1}, e{3, 1};
  pair_book one, two, sum;
  one.handed_over(p, d, 1000, 2s);
  for (int i = 0; i < 5; ++i) one.handed_over(p, d, 1000, 100ms);
  two.handed_over(p, d, 1000, 4s);
  for (int i = 0; i < 5; ++i) two.handed_over(p, d, 1000, 200ms);
  two.failed(p, e, at_ms(500));
  sum.add(one);
  sum.add(two);
  CHECK(sum.connected(p, d));
  CHECK(sum.seconds(p, d, 1000) == doctest::Approx(0.15).epsilon(0.1));
  CHECK(sum.avoided(p, e, at_ms(60499)));
  CHECK_FALSE(sum.avoided(p, e, at_ms(60500)));
  const auto known = sum.standings();
  REQUIRE(known.size() == 2);
  CHECK(known[0].decode == d);
  CHECK(known[0].prefill == p);
  CHECK((known[0].connected && known[0].learned));
  CHECK(known[0].base + 1000 * known[0].slope == doctest::Approx(sum.seconds(p, d, 1000)));
  CHECK_FALSE(known[1].connected);
  CHECK(known[1].avoided_until == at_ms(60500));
  // Of handshakes the mean counts.
  CHECK(sum.seconds(e, d, 1000) > one.seconds(e, d, 1000));
}
