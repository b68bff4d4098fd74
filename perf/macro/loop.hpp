// One epoll loop with nanosecond deadlines for the engine, the clients and the harness's pipe.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <utility>
#include <vector>

namespace penstock::perf {

using nanos = std::int64_t;
constexpr nanos second = 1'000'000'000;
constexpr nanos never = INT64_MAX;

nanos now();  // CLOCK_MONOTONIC

class unique_fd {
 public:
  unique_fd() = default;
  explicit unique_fd(int fd) : fd_(fd) {}
  unique_fd(unique_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~unique_fd() { reset(); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

class handler {
 public:
  virtual ~handler() = default;
  virtual void on_ready(std::uint32_t events) = 0;
};

class poller {
 public:
  poller();
  void add(int fd, handler& h);
  // Whether to report the socket as writable, too.
  void want_write(int fd, handler& h, bool on);
  // Serves what is ready; sleeps until `deadline` when nothing is.
  void run_once(nanos deadline);
  // A handler may retire itself while its batch is served: it lives to the end of the batch.
  void retire(std::unique_ptr<handler> h) { retired_.push_back(std::move(h)); }

 private:
  unique_fd epoll_;
  std::vector<std::unique_ptr<handler>> retired_;
};

// Listening socket on 127.0.0.1, or a connected, non-blocking one; both exit the program with a message when
// the kernel refuses, since a run without its sockets is void.
unique_fd listen_on(std::uint16_t port);
unique_fd connect_to(std::uint16_t port);
void set_no_delay(int fd);
[[noreturn]] void die(const char* what);

}  // namespace penstock::perf
