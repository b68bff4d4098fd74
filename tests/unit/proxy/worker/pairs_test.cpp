// Requests that are split by the router itself, and what is tried when an engine of the first pair is gone.
#include <doctest/doctest.h>

#include <string>

#include "unit/proxy/worker/bench.hpp"

using namespace penstock;
using namespace penstock::worker;
using namespace penstock::worker::testing;

namespace {

constexpr std::size_t prefills = 2, decodes = 8;

// Two engines prefill for eight that decode; the second one is busy, so that with the first alone the best
// pairs are made.
std::shared_ptr<fleet_view> fleet() {
  auto f = fleet_of(settings(), prefills + decodes);
  f->pools[0].disaggregation = {.enabled = true, .connector = connector_kind::nixl, .split = split_always};
  for (std::size_t i = 0; i < f->endpoints.size(); ++i)
    f->endpoints[i].settings.role = i < prefills ? endpoint_role::prefill : endpoint_role::decode;
  return f;
}

}  // namespace

TEST_CASE("worker: when the prefill engine that all cheap pairs share refuses, the other one is asked") {
  testing::bench b(fleet());
  const routing::booked_work theirs{.prefill_tokens = 200000, .expected = 20s};
  REQUIRE(b.shared.board.book({1, 1}, theirs, b.io.clock));
  const socket_id c = b.client();
  b.give(c, post(stream_body));
  REQUIRE(b.io.connecting.size() == 1);
  const socket_id first = b.io.connecting.front();
  CHECK(b.io.at(first).port == 1);
  b.io.connecting.clear();
  b.io.at(first).open = false;
  b.w->lost(first, loss::refused);
  b.w->batch_ended();
  REQUIRE(b.io.connecting.size() == 1);
  const socket_id second = b.engine();
  CHECK(b.io.at(second).port == 2);
  CHECK(has(b.read(second), "do_remote_decode"));
  b.shared.board.release({1, 1}, theirs, false);
  CHECK(b.rests());
}
