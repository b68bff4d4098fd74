// What a worker is made of: budgets, buffers, the backlog, the pool of connections, cells.
#include <doctest/doctest.h>

#include <cstring>

#include "proxy/worker/backlog.hpp"
#include "proxy/worker/body_buffer.hpp"
#include "proxy/worker/metrics.hpp"
#include "proxy/worker/upstream_pool.hpp"
#include "tokenizer/extractor.hpp"

using namespace penstock;
using namespace penstock::worker;
using std::chrono::milliseconds;

TEST_CASE("byte_budget: leases move and give back exactly what they hold") {
  byte_budget b(100);
  {
    byte_lease one(b), two(b);
    one.set(60);
    CHECK(b.used() == 60);
    CHECK_FALSE(b.full());
    two.set(40);
    CHECK(b.full());
    two.set(90);  // whoever holds may finish
    CHECK(b.used() == 150);
    byte_lease moved(std::move(one));
    CHECK(moved.held() == 60);
    CHECK(b.used() == 150);
    two = std::move(moved);
    CHECK(b.used() == 60);
    b.set_limit(50);
    CHECK(b.full());
  }
  CHECK(b.used() == 0);
  byte_lease nobody;
  nobody.set(5);
  CHECK(nobody.held() == 0);
}

TEST_CASE("body_pool: memory comes back warm, in classes, within its bound") {
  body_pool pool;
  std::size_t n = 1;
  auto first = pool.take(n);
  CHECK(n == body_pool::smallest);
  char* const address = first.get();
  pool.give(std::move(first), n);
  n = 4096;
  auto again = pool.take(n);
  CHECK(again.get() == address);
  n = 4097;
  CHECK(pool.take(n) != nullptr);
  CHECK(n == 8192);
  n = 3 << 20;  // above the classes: exact enough and never kept
  auto large = pool.take(n);
  CHECK(n == 4 << 20);
  pool.give(std::move(large), n);
  pool.give(nullptr, 4096);
}

TEST_CASE("body_buffer: grows with its bytes, keeps them, and its capacity is charged") {
  body_pool pool;
  byte_budget budget(1 << 20);
  {
    body_buffer b(pool, budget);
    CHECK(b.capacity() == 0);
    CHECK(budget.used() == 0);
    b.append({});
    CHECK(budget.used() == 0);
    std::string expected;
    for (int i = 0; i < 5000; ++i) {
      const std::string piece = std::to_string(i) + ",";
      b.append(piece);
      expected += piece;
      REQUIRE(budget.used() == b.capacity());
      REQUIRE(b.capacity() >= b.size() + tokenizer::body_padding);
    }
    CHECK(b.view() == expected);
    CHECK(b.capacity() < 3 * expected.size());
    b.release();
    CHECK(budget.used() == 0);
    CHECK(b.size() == 0);
    b.append("again");
    CHECK(b.view() == "again");
  }
  CHECK(budget.used() == 0);
}

TEST_CASE("body_buffer: room to receive into never runs out and never reaches the padding") {
  body_pool pool;
  byte_budget budget(1 << 20);
  body_buffer b(pool, budget);
  CHECK(b.room(0).empty());
  std::string expected;
  while (expected.size() < 100'000) {
    const std::span<char> room = b.room(3000);
    REQUIRE(!room.empty());
    REQUIRE(room.size() <= 3000);
    REQUIRE(b.size() + room.size() + tokenizer::body_padding <= b.capacity());
    const char c = static_cast<char>('a' + expected.size() % 26);
    std::memset(room.data(), c, room.size());
    b.filled(room.size());
    expected.append(room.size(), c);
  }
  CHECK(b.view() == expected);
}

TEST_CASE("backlog: first in, first out, and no memory when empty") {
  byte_budget budget(1000);
  {
    spare_buffers spare;
    backlog b(budget, spare);
    CHECK(b.empty());
    std::string expected, got;
    for (int i = 0; i < 300; ++i) {
      const std::string piece = std::to_string(i) + ";";
      b.push(piece);
      expected += piece;
      const std::size_t n = std::min<std::size_t>(b.size(), static_cast<std::size_t>(i % 5));
      got += b.front().substr(0, n);
      b.pop(n);
      REQUIRE(b.size() == expected.size() - got.size());
      REQUIRE((b.empty() || budget.used() >= b.size()));
    }
    got += b.front();
    CHECK(got == expected);
    b.pop(b.size());
    CHECK(b.empty());
    CHECK(budget.used() == 0);
    b.push("x");
    CHECK(budget.used() != 0);
  }
  CHECK(budget.used() == 0);
}

TEST_CASE("upstream_pool: last in, first out, an endpoint and a generation at a time, within its limit") {
  upstream_pool pool;
  const auto make = [](std::uint32_t i, endpoint_id id) {
    auto e = std::make_unique<engine_connection>(socket_id{i, 1});
    e->endpoint = id;
    return e;
  };
  const endpoint_id five{5, 1}, newer{5, 2}, other{6, 1};
  const auto a = make(1, five), b = make(2, five), c = make(3, five), d = make(4, other);
  CHECK(pool.take(five) == nullptr);
  CHECK(pool.put(*a, 2));
  CHECK(pool.put(*b, 2));
  CHECK_FALSE(pool.put(*c, 2));
  CHECK(pool.put(*d, 2));
  CHECK(pool.size() == 3);
  CHECK(pool.take(newer) == nullptr);
  CHECK(pool.take(five) == b.get());
  CHECK(pool.put(*b, 2));
  pool.remove(*a);
  pool.remove(*a);
  CHECK(pool.size() == 2);
  CHECK(pool.take(five) == b.get());
  CHECK(pool.take(five) == nullptr);
  CHECK(pool.take(other) == d.get());
  CHECK(pool.size() == 0);
  CHECK_FALSE(pool.put(*a, 0));
}

namespace {

account_record ended(reason why) {
  account_record r;
  r.pool = "main";
  r.why = why;
  r.attempts = 1;
  r.accepted = instant(milliseconds(1000));
  r.body_done = instant(milliseconds(1010));
  r.dispatched = instant(milliseconds(1011));
  r.sent = instant(milliseconds(1013));
  r.first_token = instant(milliseconds(1213));
  r.usage = {.prompt = 100, .completion = 20, .cached = 64, .known = true, .cached_known = true};
  r.events = 22;
  r.bytes_in = 300;
  r.bytes_out = 4000;
  r.predicted_prompt = 90;
  r.predicted_cached = 60;
  return r;
}

std::uint64_t observed(const histogram& h) {
  std::uint64_t n = 0;
  for (const std::uint64_t c : h.counts) n += c;
  return n;
}

}  // namespace

TEST_CASE("metrics: what the decision expected of a transfer, and by how much it was off") {
  worker_metrics m;
  account_record split = ended(reason::ok);
  split.split = split_choice::cheaper;
  split.prefill_done = instant(milliseconds(1113));
  split.handoff = "fetched";
  split.transfer_expected = 0.25;  // it took 0.1 s
  m.account(split);
  account_record alone = ended(reason::ok);
  alone.split = split_choice::dearer;
  m.account(alone);
  const pool_metrics& p = m.pools.at("main");
  CHECK(p.prefill_leg.sum == doctest::Approx(0.1));
  CHECK(p.handoff_leg.sum == doctest::Approx(0.1));
  CHECK(p.transfer_estimate.sum == doctest::Approx(0.25));
  CHECK(p.transfer_error.sum == doctest::Approx(0.15));
  CHECK(observed(p.transfer_estimate) == 1);
  worker_metrics all;
  all.add(m);
  all.add(m);
  CHECK(all.pools.at("main").transfer_estimate.sum == doctest::Approx(0.5));
}

TEST_CASE("metrics: time held back is told apart from what deciding took") {
  worker_metrics m;
  account_record held = ended(reason::ok);
  held.dispatched += std::chrono::seconds(2);
  held.sent += std::chrono::seconds(2);
  held.held = std::chrono::seconds(2);
  m.account(held);
  m.account(ended(reason::ok));
  const pool_metrics& p = m.pools["main"];
  CHECK(p.ttft_ours.sum == doctest::Approx(2 * 0.001));
  CHECK(p.ttft_held.sum == doctest::Approx(2));
  CHECK(observed(p.ttft_held) == 1);
}

TEST_CASE("metrics: a record lands in its cells once") {
  worker_metrics m;
  m.account(ended(reason::ok));
  m.account(ended(reason::client_gone));
  account_record unknown = ended(reason::ok);
  unknown.usage = {};
  unknown.first_token = {};
  m.account(unknown);
  account_record refused;
  refused.why = reason::bad_http;
  m.account(refused);
  const pool_metrics& p = m.pools["main"];
  CHECK(p.ttft.sum == doctest::Approx(2 * 0.213));
  CHECK(p.ttft_ours.sum == doctest::Approx(2 * 0.001));
  CHECK(p.ttft_queue.sum == doctest::Approx(2 * 0.002));
  CHECK(p.ttft_engine.sum == doctest::Approx(2 * 0.2));
  CHECK(observed(p.ttft) == 2);
  CHECK(p.prompt_tokens == 200);
  CHECK(p.completion_tokens == 40);
  CHECK(p.cached_tokens == 128);
  CHECK(p.usage_unknown == 1);
  CHECK(p.attempts == 3);
  CHECK(p.events == 66);
  CHECK(p.predicted_prompt_tokens == 270);
  CHECK(m.bytes_in == 900);
  CHECK(m.bytes_out == 12000);
  CHECK(m.pools.count("") == 1);
  CHECK(m.pools[""].usage_unknown == 0);
}

TEST_CASE("metrics: histograms put a value on a bound into that bound's bucket") {
  histogram h;
  for (const double bound : time_bounds) h.observe(bound);
  h.observe(1e6);
  for (const std::uint64_t c : h.counts) CHECK(c == 1);
}

TEST_CASE("metrics: workers add up") {
  worker_metrics a, b;
  a.account(ended(reason::ok));
  b.account(ended(reason::ok));
  account_record elsewhere = ended(reason::engine_cut);
  elsewhere.pool = "other";
  b.account(elsewhere);
  a.accepted = 1;
  b.accepted = 2;
  a.live_streams = 3;
  b.live_streams = 4;
  b.memory_waits = 5;
  worker_metrics sum;
  sum.add(a);
  sum.add(b);
  CHECK(sum.pools["main"].prompt_tokens == 200);
  CHECK(observed(sum.pools["main"].ttft) == 2);
  CHECK(sum.pools["other"].prompt_tokens == 100);
  CHECK(sum.accepted == 3);
  CHECK(sum.live_streams == 7);
  CHECK(sum.memory_waits == 5);
  CHECK(sum.bytes_in == 900);
}
