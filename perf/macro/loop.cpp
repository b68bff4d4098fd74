#include "loop.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace penstock::perf {
namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

void die(const char* what) {
  std::fprintf(stderr, "bench_peer: %s: %s\n", what, std::strerror(errno));
  std::exit(2);
}

nanos now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * second + t.tv_nsec;
}

void unique_fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

poller::poller() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_) die("epoll_create1");
}

void poller::add(int fd, handler& h) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &h;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
}

void poller::want_write(int fd, handler& h, bool on) {
  epoll_event event{};
  event.events = on ? EPOLLIN | EPOLLOUT : EPOLLIN;
  event.data.ptr = &h;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) die("epoll_ctl");
}

void poller::run_once(nanos deadline) {
  std::array<epoll_event, 256> events{};
  const nanos sleep = std::clamp<nanos>(deadline - now(), 0, second);
  const timespec timeout{sleep / second, sleep % second};
  const int n = epoll_pwait2(epoll_.get(), events.data(), events.size(), &timeout, nullptr);
  if (n < 0 && errno != EINTR) die("epoll_pwait2");
  for (int i = 0; i < n; ++i) {
    const auto& event = events[static_cast<std::size_t>(i)];
    static_cast<handler*>(event.data.ptr)->on_ready(event.events);
  }
  retired_.clear();
}

void set_no_delay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

unique_fd listen_on(std::uint16_t port) {
  unique_fd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) die("socket");
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const auto address = loopback(port);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) die("bind");
  if (listen(fd.get(), 4096) != 0) die("listen");
  return fd;
}

unique_fd connect_to(std::uint16_t port) {
  // Blocking: on loopback the kernel completes the handshake at once, or the backlog is full.
  unique_fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) die("socket");
  const auto address = loopback(port);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) die("connect");
  set_no_delay(fd.get());
  return fd;
}

}  // namespace penstock::perf
