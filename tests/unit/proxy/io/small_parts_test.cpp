// Rings, claims, quotas, addresses, mailboxes.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "proxy/io/cpu_quota.hpp"
#include "proxy/io/id_claims.hpp"
#include "proxy/io/log_writer.hpp"
#include "proxy/io/mailbox.hpp"
#include "proxy/io/socket_address.hpp"
#include "unit/proxy/io/scratch.hpp"

using namespace penstock;
using namespace penstock::io;

TEST_CASE("log_ring: lines come out as they went in, around the end of the ring") {
  log_ring ring(64);
  std::string out;
  CHECK_FALSE(ring.drain(out));
  std::string expected;
  for (int i = 0; i < 1000; ++i) {
    const std::string line =
        std::string(static_cast<std::size_t>(1 + i % 23), static_cast<char>('a' + i % 26)) + "\n";
    REQUIRE(ring.push(line));
    expected += line;
    if (i % 2 == 1) REQUIRE(ring.drain(out));
  }
  ring.drain(out);
  CHECK(out == expected);
  CHECK(ring.dropped() == 0);
}

TEST_CASE("log_ring: a line that does not fit is dropped whole and counted") {
  log_ring ring(10);
  CHECK(ring.push("12345"));
  CHECK_FALSE(ring.push("123456"));
  CHECK(ring.push("67890"));
  CHECK_FALSE(ring.push("x"));
  CHECK(ring.push(""));
  CHECK(ring.dropped() == 2);
  std::string out;
  CHECK(ring.drain(out));
  CHECK(out == "1234567890");
  CHECK(ring.push("1234567890"));
}

TEST_CASE("log_ring: one writer and one reader at the same time lose and mix nothing") {
  log_ring ring(256);
  std::string out;
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop.load()) ring.drain(out);
    ring.drain(out);
  });
  std::string expected;
  for (int i = 0; i < 20'000; ++i) {
    const std::string line = std::to_string(i) + "\n";
    if (ring.push(line)) expected += line;
  }
  stop = true;
  reader.join();
  CHECK(out == expected);
}

TEST_CASE("log_writer: writes what its rings hold before it ends, and opens its file again when told") {
  const scratch dir;
  const std::string path = dir.path("access.log");
  {
    log_writer w(path);
    log_ring &one = w.add_ring(), &two = w.add_ring();
    one.push("a\n");
    two.push("b\n");
    w.start();
  }
  CHECK(read_file(path) == "a\nb\n");
  {
    log_writer w(path);
    log_ring& ring = w.add_ring();
    REQUIRE(::rename(path.c_str(), dir.path("access.log.1").c_str()) == 0);
    w.reopen();
    ring.push("c\n");
    w.start();
  }
  CHECK(read_file(path) == "c\n");
  CHECK(read_file(dir.path("access.log.1")) == "a\nb\n");
}

TEST_CASE("log_writer: a sink that cannot be opened is an error with its name, off is off") {
  CHECK_THROWS_WITH_AS(log_writer("/no/such/directory/a.log"), doctest::Contains("/no/such/directory/a.log"),
                       std::system_error);
  log_writer off("off");
  CHECK(off.off());
  off.add_ring().push("x\n");
  off.start();
}

TEST_CASE("log_writer: a pipe that nobody reads does not keep the process from ending") {
  const scratch dir;
  const std::string path = dir.path("pipe");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  {
    log_writer w(path);
    log_ring& ring = w.add_ring();
    const std::string line(1000, 'x');
    while (ring.push(line)) {
    }
    CHECK(w.dropped() == 1);
    w.start();
  }
  ::close(reader);
}

TEST_CASE("log_writer: nor does a standard output that blocks and that nobody reads") {
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  const int kept = ::dup(STDOUT_FILENO);
  ::dup2(pipe[1], STDOUT_FILENO);
  {
    log_writer w("stdout");
    log_ring& ring = w.add_ring();
    const std::string line = std::string(999, 'x') + "\n";
    for (int i = 0; i < 500; ++i) REQUIRE(ring.push(line));  // a pipe holds 64 KiB
    w.start();
  }
  ::dup2(kept, STDOUT_FILENO);
  for (const int fd : {pipe[0], pipe[1], kept}) ::close(fd);
}

TEST_CASE("log_writer: lines that a full disk refuses are counted") {
  log_writer w("/dev/full");
  log_ring& ring = w.add_ring();
  ring.push("a\n");
  ring.push("b\n");
  w.start();
  for (int i = 0; i < 1000 && w.dropped() != 2; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(w.dropped() == 2);
}

TEST_CASE("id_claims: one claim an id, free again after its release") {
  const auto claims = std::make_unique<id_claims>();
  CHECK(claims->claim(7));
  CHECK_FALSE(claims->claim(7));
  CHECK(claims->claim(8));
  claims->release(7);
  CHECK(claims->claim(7));
  claims->release(99);  // nobody's
}

TEST_CASE("id_claims: a full neighbourhood refuses, and finds its room again") {
  const auto claims = std::make_unique<id_claims>();
  constexpr std::uint64_t slots = 1 << 16;
  std::uint64_t taken = 0;
  while (taken < 1000 && claims->claim(5 + taken * slots)) ++taken;
  CHECK(taken == 16);
  claims->release(5);
  CHECK_FALSE(claims->claim(5 + slots));  // still claimed, behind the free place
  CHECK(claims->claim(5));
  CHECK(claims->claim(slots - 1));  // neighbourhoods go around the end
  CHECK(claims->claim(2 * slots - 1));
}

TEST_CASE("id_claims: of many threads that want one id, one gets it") {
  const auto claims = std::make_unique<id_claims>();
  for (std::uint64_t round = 1; round <= 200; ++round) {
    std::atomic<int> winners{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([&] { winners += claims->claim(round) ? 1 : 0; });
    for (std::thread& t : threads) t.join();
    REQUIRE(winners == 1);
  }
}

TEST_CASE("count_workers: what is configured wins, else at least one and no more than the affinity mask") {
  CHECK(count_workers(3).workers == 3);
  CHECK(count_workers(3).reason == "3: server.workers");
  const worker_count found = count_workers(0);
  CHECK(found.workers >= 1);
  cpu_set_t mask;
  CPU_ZERO(&mask);
  REQUIRE(::sched_getaffinity(0, sizeof mask, &mask) == 0);
  CHECK(found.workers <= static_cast<std::uint32_t>(CPU_COUNT(&mask)));
  CHECK(found.reason.rfind(std::to_string(found.workers) + ": ", 0) == 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (!CPU_ISSET(i, &mask)) continue;
    CPU_SET(i, &one);
    break;
  }
  REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(count_workers(0).workers == 1);
  ::sched_setaffinity(0, sizeof mask, &mask);
}

TEST_CASE("socket_address: there and back as text") {
  const net_address v4{.kind = net_address::family::ipv4, .ip = {127, 0, 0, 1}, .port = 4711};
  CHECK(text_of(to_kernel(v4).storage) == "127.0.0.1:4711");
  net_address v6{.kind = net_address::family::ipv6, .port = 80};
  v6.ip[15] = 1;
  CHECK(text_of(to_kernel(v6).storage) == "[::1]:80");
  const net_address path{.kind = net_address::family::unix_path, .path = "/tmp/x"};
  CHECK(to_kernel(path).size != 0);
  CHECK(text_of(to_kernel(path).storage) == "unix");
}

TEST_CASE("socket_address: what cannot be expressed has no size") {
  CHECK(to_kernel({}).size == 0);
  CHECK(to_kernel({.kind = net_address::family::unix_path, .path = std::string(107, 'x')}).size != 0);
  CHECK(to_kernel({.kind = net_address::family::unix_path, .path = std::string(108, 'x')}).size == 0);
}

TEST_CASE("mailbox: jobs of many threads run in each one's order, with a wake for the reader") {
  mailbox box;
  pollfd wake{.fd = box.descriptor(), .events = POLLIN, .revents = 0};
  CHECK(::poll(&wake, 1, 0) == 0);
  constexpr int writers = 3, each = 2000;
  std::vector<int> seen(writers, 0);
  int ran = 0;
  bool in_order = true;
  std::vector<std::thread> threads;
  for (int t = 0; t < writers; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < each; ++i)
        box.post([&, t, i] {
          in_order &= seen[static_cast<std::size_t>(t)]++ == i;
          ++ran;
        });
    });
  while (ran < writers * each) {
    REQUIRE(::poll(&wake, 1, 10'000) == 1);  // a lost wake-up would end here
    box.run();
  }
  for (std::thread& t : threads) t.join();
  CHECK(in_order);
  CHECK(::poll(&wake, 1, 0) == 0);
}

TEST_CASE("mailbox: a job may post another") {
  mailbox box;
  int ran = 0;
  box.post([&] {
    ++ran;
    box.post([&] { ++ran; });
  });
  box.run();
  CHECK(ran == 1);
  pollfd wake{.fd = box.descriptor(), .events = POLLIN, .revents = 0};
  CHECK(::poll(&wake, 1, 0) == 1);
  box.run();
  CHECK(ran == 2);
}
