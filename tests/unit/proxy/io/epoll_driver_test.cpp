// The driver on real loopback sockets, with the worker's side played by a recorder.
#include "proxy/io/epoll_driver.hpp"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>

#include "proxy/io/clock.hpp"
#include "proxy/io/listeners.hpp"
#include "proxy/io/socket_address.hpp"
#include "unit/proxy/io/scratch.hpp"

using namespace penstock;
using namespace penstock::io;
using namespace std::chrono_literals;
using worker::loss;
using worker::socket_id;

namespace {

// What the driver told, per kind; enough to assert order and counts.
struct recorder final : worker::driver_events {
  std::vector<socket_id> accepted_ids, connected_ids, finished_ids, writable_ids;
  std::vector<std::pair<socket_id, loss>> lost_ids;
  std::string bytes, direct, peer;
  std::vector<char> target;  // offered to the driver when not empty
  std::function<void(socket_id)> on_received, on_lost;

  void accepted(socket_id s, std::string_view from) override {
    accepted_ids.push_back(s);
    peer = from;
  }
  void connected(socket_id s, worker::alpn) override { connected_ids.push_back(s); }
  void lost(socket_id s, loss how) override {
    lost_ids.emplace_back(s, how);
    if (on_lost) on_lost(s);
  }
  void received(socket_id s, bytes_view b) override {
    bytes += b;
    if (on_received) on_received(s);
  }
  std::span<char> receive_target(socket_id) override { return target; }
  void received_there(socket_id, std::size_t n) override { direct.append(target.data(), n); }
  void finished(socket_id s) override { finished_ids.push_back(s); }
  void writable(socket_id s) override { writable_ids.push_back(s); }
  void tick() override {}
  void batch_ended() override {}
};

class plain {
 public:
  explicit plain(int fd) : fd_(fd) {}
  plain(const plain&) = delete;
  plain& operator=(const plain&) = delete;
  ~plain() { close(); }
  int fd() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void reset() {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }
  void send(std::string_view text) const {
    REQUIRE(::send(fd_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  }
  // Waits for bytes: "" at the end of the stream, "RST" for a reset.
  std::string recv() const {
    char buffer[65536];
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n < 0) return errno == ECONNRESET ? "RST" : "error";
    return {buffer, static_cast<std::size_t>(n)};
  }

 private:
  int fd_;
};

net_address loopback(std::uint16_t port) {
  return {.kind = net_address::family::ipv4, .ip = {127, 0, 0, 1}, .port = port};
}

int connect_to(const net_address& to) {
  const kernel_address at = to_kernel(to);
  const int fd = ::socket(at.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&at.storage), at.size) == 0);
  const timeval patience{.tv_sec = 10, .tv_usec = 0};  // so that a failing test ends
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return fd;
}

int accept_from(const listeners& l) {
  int fd = -1;
  for (int i = 0; fd < 0 && i < 10000; ++i)
    fd = ::accept4(l.descriptors()[0], nullptr, nullptr, SOCK_CLOEXEC);
  REQUIRE(fd >= 0);
  const timeval patience{.tv_sec = 10, .tv_usec = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return fd;
}

struct rig {
  explicit rig(const std::string& address = "127.0.0.1:0") : wake(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    REQUIRE(server.open(address).empty());
    driver = std::make_unique<epoll_driver>(server.descriptors(), wake);
    driver->attach(told);
  }
  ~rig() {
    driver.reset();
    ::close(wake);
  }
  std::uint16_t port(const listeners& l) const {
    return static_cast<std::uint16_t>(std::stoi(l.local(0).substr(10)));
  }
  // Turns the loop until `done`, at most 10 s.
  bool until(const std::function<bool()>& done) {
    const instant end = read_clock() + 10s;
    while (!done() && read_clock() < end) driver->run_once(end, [this] { ++wakes; });
    return done();
  }
  // Turns the loop for what is ready now; returns how often it woke without telling anything.
  void turn(int times = 3) {
    for (int i = 0; i < times; ++i) driver->run_once(read_clock(), [this] { ++wakes; });
  }
  // A client of ours, accepted by the driver.
  std::pair<std::unique_ptr<plain>, socket_id> client() {
    auto c = std::make_unique<plain>(connect_to(loopback(port(server))));
    const std::size_t before = told.accepted_ids.size();
    REQUIRE(until([&] { return told.accepted_ids.size() > before; }));
    return {std::move(c), told.accepted_ids.back()};
  }
  // Time that the loop sleeps when nothing but its deadline should end it.
  duration sleep(duration wanted) {
    const instant start = read_clock();
    driver->run_once(start + wanted, [] {});
    return read_clock() - start;
  }

  int wake;
  listeners server;
  recorder told;
  std::unique_ptr<epoll_driver> driver;
  int wakes = 0;
};

std::size_t write(rig& r, socket_id to, bytes_view bytes) {
  const bytes_view parts[] = {bytes};
  return r.driver->write(to, parts);
}

}  // namespace

TEST_CASE("epoll_driver: a client connects, sends, is answered and leaves") {
  rig r;
  auto [c, s] = r.client();
  CHECK(r.told.peer.rfind("127.0.0.1:", 0) == 0);
  c->send("hello");
  CHECK(r.until([&] { return r.told.bytes == "hello"; }));
  const bytes_view parts[] = {"a", "", "bc", "d"};
  CHECK(r.driver->write(s, parts) == 4);
  CHECK(c->recv() == "abcd");
  c->send("last words");
  c->close();
  CHECK(r.until([&] { return !r.told.finished_ids.empty(); }));
  CHECK(r.told.bytes == "hellolast words");  // told before the end
  r.turn();
  CHECK(r.told.finished_ids.size() == 1);
  r.driver->close(s, false);
  CHECK(write(r, s, "late") == 4);  // a dead id swallows
  r.turn();
  CHECK(r.told.lost_ids.empty());
}

TEST_CASE("epoll_driver: bytes go straight to where the worker wants them") {
  rig r;
  auto [c, s] = r.client();
  r.told.target.resize(4);
  c->send("0123456789");
  CHECK(r.until([&] { return r.told.direct.size() == 10; }));
  CHECK(r.told.direct == "0123456789");
  CHECK(r.told.bytes.empty());
}

TEST_CASE("epoll_driver: more parts than one call takes") {
  rig r;
  auto [c, s] = r.client();
  std::vector<bytes_view> parts(1000, "xy");
  CHECK(r.driver->write(s, parts) == 2000);
  std::string got;
  while (got.size() < 2000) got += c->recv();
  CHECK(got.size() == 2000);
}

TEST_CASE("epoll_driver: a reset is told once, whatever was being done") {
  rig r;
  auto [c, s] = r.client();
  c->reset();
  CHECK(r.until([&] { return !r.told.lost_ids.empty(); }));
  CHECK(r.told.lost_ids[0] == std::pair{s, loss::reset});

  auto [d, t] = r.client();
  r.driver->pause(t);
  d->reset();
  CHECK(r.until([&] { return r.told.lost_ids.size() == 2; }));
  CHECK(write(r, t, "x") == 1);
  r.turn();
  CHECK(r.told.lost_ids.size() == 2);
}

TEST_CASE("epoll_driver: writing to a broken connection takes everything and tells the loss later") {
  rig r;
  auto [c, s] = r.client();
  c->reset();
  std::size_t taken = 0;
  for (int i = 0; i < 1000 && taken < 10; ++i) taken = write(r, s, "0123456789") == 10 ? 10 : 0;
  CHECK(write(r, s, "0123456789") == 10);
  CHECK(write(r, s, "0123456789") == 10);
  CHECK(r.told.lost_ids.empty());  // never from inside a call
  CHECK(r.until([&] { return !r.told.lost_ids.empty(); }));
  r.turn();
  CHECK(r.told.lost_ids.size() == 1);
}

TEST_CASE("epoll_driver: what the kernel does not take now is asked for again") {
  rig r;
  auto [c, s] = r.client();
  const std::string much(1 << 20, 'x');
  std::size_t sent = 0;
  std::size_t n = 0;
  do {
    n = write(r, s, much);
    sent += n;
  } while (n == much.size());
  r.turn();
  CHECK(r.told.writable_ids.empty());
  std::size_t got = 0;
  while (got < sent) got += c->recv().size();
  CHECK(got == sent);
  CHECK(r.until([&] { return !r.told.writable_ids.empty(); }));
  r.turn();
  CHECK(r.told.writable_ids.size() == 1);  // and not again until something was refused
}

TEST_CASE("epoll_driver: a paused client is not read, and its leaving is told all the same") {
  rig r;
  auto [c, s] = r.client();
  r.driver->pause(s);
  c->send("waits");
  r.turn();
  CHECK(r.told.bytes.empty());
  r.driver->resume(s);
  CHECK(r.until([&] { return r.told.bytes == "waits"; }));
  r.driver->pause(s);
  c->send("more");
  c->close();
  CHECK(r.until([&] { return !r.told.finished_ids.empty(); }));
  CHECK(r.told.bytes == "waits");
  CHECK(r.sleep(50ms) >= 45ms);  // told once, and no spinning on what is still readable
  CHECK(r.told.finished_ids.size() == 1);
  r.driver->resume(s);  // half-closed, and wanted all the same: its bytes, and then its end
  CHECK(r.until([&] { return r.told.finished_ids.size() == 2; }));
  CHECK(r.told.bytes == "waitsmore");
  CHECK(r.sleep(50ms) >= 45ms);
  CHECK(r.told.finished_ids.size() == 2);
}

TEST_CASE("epoll_driver: pausing from inside a delivery stops it") {
  rig r;
  auto [c, s] = r.client();
  r.told.on_received = [&r](socket_id from) { r.driver->pause(from); };
  c->send("one");
  CHECK(r.until([&] { return r.told.bytes == "one"; }));
  c->send("two");
  r.turn();
  CHECK(r.told.bytes == "one");
}

TEST_CASE("epoll_driver: closing from inside a delivery is the end of it") {
  rig r;
  auto [c, s] = r.client();
  r.told.on_received = [&r](socket_id from) { r.driver->close(from, false); };
  c->send("one");
  c->close();
  CHECK(r.until([&] { return r.told.bytes == "one"; }));
  r.turn();
  CHECK(r.told.finished_ids.empty());
  CHECK(r.told.lost_ids.empty());
}

TEST_CASE("epoll_driver: an abort is a reset for the peer, a finish an end of stream") {
  rig r;
  auto [c, s] = r.client();
  r.driver->close(s, true);
  CHECK(c->recv() == "RST");
  auto [d, t] = r.client();
  CHECK(write(r, t, "bye") == 3);
  r.driver->finish_sending(t);
  CHECK(d->recv() == "bye");
  CHECK(d->recv().empty());
  d->send("still talking");
  CHECK(r.until([&] { return r.told.bytes == "still talking"; }));
}

TEST_CASE("epoll_driver: an engine that left and that nobody wants to read does not wake the loop for ever") {
  // Once both sides sent FIN epoll tells HUP on every wait, and HUP cannot be masked.
  rig r;
  auto [c, s] = r.client();
  c->close();
  CHECK(r.until([&] { return !r.told.finished_ids.empty(); }));
  r.driver->finish_sending(s);
  r.turn();
  CHECK(r.sleep(50ms) >= 45ms);
  CHECK(r.told.finished_ids.size() == 1);
}

TEST_CASE("epoll_driver: connecting, to somebody and to nobody") {
  rig r;
  listeners engine;
  REQUIRE(engine.open("127.0.0.1:0").empty());
  const std::uint16_t port = r.port(engine);
  const socket_id s = r.driver->connect(loopback(port));
  CHECK(r.told.connected_ids.empty());
  CHECK(r.until([&] { return !r.told.connected_ids.empty(); }));
  CHECK(r.told.connected_ids == std::vector{s});
  const plain far(accept_from(engine));
  CHECK(write(r, s, "ask") == 3);
  CHECK(far.recv() == "ask");
  far.send("answer");
  CHECK(r.until([&] { return r.told.bytes == "answer"; }));
  engine.close();
  const socket_id t = r.driver->connect(loopback(port));
  CHECK(r.until([&] { return !r.told.lost_ids.empty(); }));
  CHECK(r.told.lost_ids[0] == std::pair{t, loss::refused});
  CHECK(r.told.connected_ids.size() == 1);
}

TEST_CASE("epoll_driver: a connection closed while it is made is never heard of again") {
  rig r;
  listeners engine;
  REQUIRE(engine.open("127.0.0.1:0").empty());
  r.driver->close(r.driver->connect(loopback(r.port(engine))), false);
  r.turn();
  CHECK(r.told.connected_ids.empty());
  CHECK(r.told.lost_ids.empty());
}

TEST_CASE("epoll_driver: unix sockets, connected once, even from inside another's loss") {
  const scratch dir;
  rig r;
  listeners engine;
  REQUIRE(engine.open("unix:" + dir.path("e")).empty());
  const net_address there{.kind = net_address::family::unix_path, .path = dir.path("e")};
  const net_address nowhere{.kind = net_address::family::unix_path, .path = dir.path("none")};
  std::unique_ptr<plain> far;
  r.told.on_lost = [&](socket_id) {
    r.driver->connect(there);
    far = std::make_unique<plain>(accept_from(engine));
    far->send("early");  // readable before its connection was told
  };
  const socket_id s = r.driver->connect(nowhere);
  CHECK(r.until([&] { return r.told.bytes == "early"; }));
  CHECK(r.told.lost_ids == std::vector{std::pair{s, loss::refused}});
  r.turn();
  CHECK(r.told.connected_ids.size() == 1);
}

TEST_CASE("epoll_driver: what an engine sent before it left is read, although it was paused then") {
  const scratch dir;
  rig r;
  for (const bool over_unix : {false, true}) {
    CAPTURE(over_unix);
    listeners engine;
    REQUIRE(engine.open(over_unix ? "unix:" + dir.path("e") : "127.0.0.1:0").empty());
    const socket_id s = r.driver->connect(
        over_unix ? net_address{.kind = net_address::family::unix_path, .path = dir.path("e")}
                  : loopback(r.port(engine)));
    REQUIRE(r.until([&] { return !r.told.connected_ids.empty(); }));
    plain far(accept_from(engine));
    r.driver->pause(s);
    far.send("the rest");
    far.close();
    r.turn();
    CHECK(r.told.bytes.empty());
    CHECK(r.told.finished_ids.empty());
    CHECK(r.sleep(50ms) >= 45ms);
    r.driver->resume(s);
    CHECK(r.until([&] { return !r.told.finished_ids.empty(); }));
    CHECK(r.told.bytes == "the rest");
    r.driver->close(s, false);
    r.told = {};
  }
}

TEST_CASE("epoll_driver: an engine's answer ahead of a reset is read before the loss is told") {
  // As of an engine that refuses a long request without reading it: its kernel resets what it closes unread.
  rig r;
  enum class how { while_read, while_paused, while_written };
  for (const how when : {how::while_read, how::while_paused, how::while_written}) {
    CAPTURE(static_cast<int>(when));
    listeners engine;
    REQUIRE(engine.open("127.0.0.1:0").empty());
    const socket_id s = r.driver->connect(loopback(r.port(engine)));
    REQUIRE(r.until([&] { return !r.told.connected_ids.empty(); }));
    plain far(accept_from(engine));
    if (when == how::while_paused) r.driver->pause(s);
    REQUIRE(write(r, s, "a request that nobody reads") == 27);
    far.send("413, too long");
    far.close();
    if (when == how::while_written) CHECK(write(r, s, "more of it") == 10);
    if (when == how::while_paused) {
      r.turn();
      CHECK(r.told.bytes.empty());
      CHECK(r.told.lost_ids.empty());
      CHECK(r.sleep(50ms) >= 45ms);
      r.driver->resume(s);
    }
    CHECK(r.until([&] { return !r.told.lost_ids.empty(); }));
    CHECK(r.told.bytes == "413, too long");
    CHECK(r.told.lost_ids == std::vector{std::pair{s, loss::reset}});
    CHECK(r.told.finished_ids.empty());
    r.turn();
    CHECK(r.told.lost_ids.size() == 1);
    r.told = {};
  }
}

TEST_CASE("epoll_driver: out of descriptors a connection is lost, and indices are not") {
  rig r;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const int lowest_free = ::dup(0);
  ::close(lowest_free);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(lowest_free);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  std::uint32_t most = 0;
  for (int i = 0; i < 10; ++i) {
    const socket_id s = r.driver->connect(loopback(1));
    most = std::max(most, s.index);
    CHECK(write(r, s, "x") == 1);
    r.driver->pause(s);
    r.driver->resume(s);
    r.turn();
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
  CHECK(r.told.lost_ids.size() == 10);
  CHECK(r.told.lost_ids[0].second == loss::local);
  CHECK(most == 0);
  r.driver->close(r.driver->connect({}), false);  // no such family
  r.turn();
  CHECK(r.told.lost_ids.size() == 10);
}

TEST_CASE("epoll_driver: accepting follows the worker's wish and its share") {
  rig r;
  const auto waits = [&] {
    const plain c(connect_to(loopback(r.port(r.server))));
    const std::size_t before = r.told.accepted_ids.size();
    r.turn();
    return r.told.accepted_ids.size() == before;
  };
  r.driver->accept_more(false);
  CHECK(waits());
  r.driver->accept_more(true);
  CHECK(r.until([&] { return r.told.accepted_ids.size() == 1; }));
  r.driver->set_share_open(false);
  CHECK_FALSE(r.driver->share_open());
  CHECK(waits());
  r.driver->set_share_open(true);
  CHECK(r.until([&] { return r.told.accepted_ids.size() == 2; }));
  r.driver->stop_listening();
  r.driver->accept_more(true);
  CHECK(waits());
}

TEST_CASE("epoll_driver: ids of reused indices tell their owners apart") {
  rig r;
  auto [c, s] = r.client();
  r.driver->close(s, false);
  auto [d, t] = r.client();
  CHECK(t.index == s.index);
  CHECK_FALSE(t == s);
  r.driver->close(s, true);  // late: hits nobody
  CHECK(write(r, t, "x") == 1);
  CHECK(d->recv() == "x");
}

TEST_CASE("epoll_driver: another thread's wake and the deadline both end the wait") {
  rig r;
  CHECK(r.sleep(20ms) >= 20ms);
  const std::uint64_t one = 1;
  REQUIRE(::write(r.wake, &one, sizeof one) == sizeof one);
  r.driver->run_once(read_clock() + 10s, [&] { ++r.wakes; });
  CHECK(r.wakes == 1);
}
