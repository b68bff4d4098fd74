#include "routing/hold_queue.hpp"

#include <doctest/doctest.h>

#include <array>
#include <optional>
#include <string>

#include "unit/routing/fixtures.hpp"

using namespace penstock;
using namespace penstock::routing;
using fixtures::at_ms;
using std::chrono::milliseconds;

namespace {

constexpr endpoint_id a{1, 0}, b{2, 0};

held_work work(int ms, std::uint64_t prompt = 0, bool builds_on = false) {
  return {milliseconds(ms), builds_on, prompt};
}

struct bench {
  bench() {
    for (hold_queue::ticket& t : tickets) t.owner = &t;
  }
  // Indexes of those that go while only `open` takes more, in their order.
  std::string all(endpoint_id open, instant now = at_ms(0)) {
    std::string out;
    while (auto* t = queue.next(now, [open](endpoint_id e) { return e == open; })) {
      CHECK_FALSE(t->waits());
      out += static_cast<char>('0' + (static_cast<hold_queue::ticket*>(t->owner) - tickets.data()));
    }
    return out;
  }
  hold_queue queue;
  std::array<hold_queue::ticket, 5> tickets;
};

}  // namespace

TEST_CASE("hold queue: short ones go first, as long as the long ones have not waited for some times their work") {
  bench q;
  q.queue.add(q.tickets[0], a, work(1000), at_ms(0), std::chrono::seconds(60));
  q.queue.add(q.tickets[1], a, work(10), at_ms(100), std::chrono::seconds(60));
  q.queue.add(q.tickets[2], a, work(10), at_ms(50), std::chrono::seconds(60));
  q.queue.add(q.tickets[3], a, work(10), at_ms(8500), std::chrono::seconds(60));  // the long one came early enough for it
  q.queue.add(q.tickets[4], b, work(1), at_ms(0), std::chrono::seconds(60));
  CHECK(q.queue.size() == 5);
  CHECK(q.all(a) == "2103");
  CHECK(q.all(a).empty());
  CHECK(q.all(b) == "4");
  CHECK(q.queue.empty());
}

TEST_CASE("hold queue: nobody goes before the one whose prompt it builds on") {
  bench q;
  q.queue.add(q.tickets[0], a, work(1000, 7), at_ms(0), std::chrono::seconds(60));
  q.queue.add(q.tickets[1], a, work(10, 7, true), at_ms(1), std::chrono::seconds(60));
  q.queue.add(q.tickets[2], a, work(10, 8), at_ms(2), std::chrono::seconds(60));
  q.queue.add(q.tickets[3], a, work(10, 9, true), at_ms(1), std::chrono::seconds(60));  // what it builds on was sent
  CHECK(q.all(a) == "3201");
  // Once it was sent, those that come behind it are as short as they look.
  q.queue.add(q.tickets[0], a, work(1000, 7), at_ms(0), std::chrono::seconds(60));
  q.tickets[0].leave();
  q.queue.add(q.tickets[1], a, work(10, 7, true), at_ms(9), std::chrono::seconds(60));
  q.queue.add(q.tickets[2], a, work(10, 8), at_ms(10), std::chrono::seconds(60));
  CHECK(q.all(a) == "12");
}

TEST_CASE("hold queue: whose time is over goes whatever the engine does") {
  bench q;
  q.queue.add(q.tickets[0], a, work(1000), at_ms(0), std::chrono::seconds(1));
  q.queue.add(q.tickets[1], a, work(1), at_ms(1), std::chrono::seconds(1));
  CHECK(q.all(b, at_ms(999)).empty());
  CHECK(q.all(b, at_ms(1000)) == "0");
  CHECK(q.all(b, at_ms(1001)) == "1");
}

TEST_CASE("hold queue: a ticket leaves when it dies") {
  hold_queue queue;
  {
    std::optional<hold_queue::ticket> t(std::in_place);
    queue.add(*t, a, work(5, 7), at_ms(0), std::chrono::seconds(1));
    CHECK(queue.size() == 1);
    t.reset();
  }
  CHECK(queue.empty());
  CHECK(queue.next(at_ms(5000), [](endpoint_id) { return true; }) == nullptr);
}
