// Leases: reads, heartbeats, ends; transfer times.
#include "emulator/model/kv_lease.hpp"

#include <doctest/doctest.h>

#include "emulator/model/kv_transfer.hpp"

using namespace penstock;
using namespace penstock::emulator;
using namespace std::chrono_literals;

namespace {

instant at(duration d) { return instant(d); }

kv_lease lease(std::string id, std::uint64_t sequence) {
  kv_lease l;
  l.id = std::move(id);
  l.sequence = sequence;
  l.content = 1000 + sequence;
  l.tokens = 40;
  l.blocks = {7, 8, 9};
  return l;
}

constexpr block_id blocks[] = {7, 8, 9};

}  // namespace

TEST_CASE("a lease is read once, with its own blocks, and then closed") {
  lease_table t(30s);
  t.grant(lease("a", 1), at(0s));
  REQUIRE(t.find("a") != nullptr);
  CHECK(t.find("a")->expires == at(30s));
  const kv_content first = t.read("a", blocks);
  CHECK(first.content == 1001);
  CHECK(first.tokens == 40);
  const kv_content second = t.read("a", blocks);
  CHECK(second.content != 1001);
  CHECK(t.close("a", true) == 1);
  CHECK(t.find("a") == nullptr);
  CHECK(t.read("a", blocks).content == second.content);  // other content, the same each time
  CHECK(t.counters().fetched == 1);
  CHECK(t.counters().wrong_reads == 2);
}

TEST_CASE("foreign blocks yield foreign content and do not spend the lease") {
  lease_table t(30s);
  t.grant(lease("a", 1), at(0s));
  constexpr block_id other[] = {7, 8, 10};
  CHECK(t.read("a", other).content != 1001);
  CHECK(t.read("a", {blocks, 2}).content != 1001);
  CHECK(t.read("a", blocks).content == 1001);
}

TEST_CASE("a lease that nobody extends expires, once") {
  lease_table t(30s);
  t.grant(lease("a", 1), at(0s));
  t.grant(lease("b", 2), at(5s));
  std::vector<std::uint64_t> ended;
  CHECK(t.next_expiry() == at(30s));
  t.expire(at(30s) - 1ns, ended);
  CHECK(ended.empty());
  t.expire(at(30s), ended);
  CHECK(ended == std::vector<std::uint64_t>{1});
  CHECK(t.next_expiry() == at(35s));
  CHECK(t.read("a", blocks).content != 1001);
  CHECK_FALSE(t.close("a", true).has_value());  // a notification after expiry
  CHECK(t.counters().late == 1);
  CHECK(t.counters().expired == 1);
  CHECK(t.close("b", false) == 2);
  CHECK(t.counters().aborted == 1);
  CHECK(t.next_expiry() == never);
}

TEST_CASE("a heartbeat leaves two thirds of a lease and never shortens it") {
  lease_table t(30s);
  t.grant(lease("a", 1), at(0s));
  CHECK(t.extend("a", at(5s)));
  CHECK(t.next_expiry() == at(30s));
  CHECK(t.extend("a", at(25s)));
  CHECK(t.next_expiry() == at(45s));
  CHECK_FALSE(t.extend("b", at(25s)));
}

TEST_CASE("transfers share the link and take their bytes' time") {
  transfer_settings s;
  s.bytes_per_token = 1000;
  s.bytes_per_second = 1e6;  // a token a millisecond
  s.post = 1ms;
  s.handshake = 250ms;
  kv_link link(s);
  CHECK(link.transfer(100, at(0s)) == at(101ms));
  CHECK(link.transfer(50, at(20ms)) == at(151ms));       // behind the first
  CHECK(link.transfer(10, at(1s), 5) == at(1s + 51ms));  // five times slower
  CHECK(link.meet("p", at(2s)) == at(2s + 250ms));
  CHECK(link.meet("p", at(3s)) == at(3s));
  link.forget("p");
  CHECK(link.meet("p", at(4s)) == at(4s + 250ms));
  s.bytes_per_second = 0;
  CHECK(kv_link(s).transfer(1'000'000, at(0s)) == at(1ms));
}
