#include "proxy/io/epoll_driver.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "proxy/io/clock.hpp"
#include "proxy/io/socket_address.hpp"

namespace penstock::io {
namespace {

constexpr std::size_t receive_bytes = 64 * 1024;
// Reads of one socket in a row before the others have their turn.
constexpr int receive_turns = 8;
constexpr std::size_t most_parts = 128;
constexpr int most_events = 512;
// Tags of descriptors in the set that are not in the table.
constexpr std::uint64_t wake_tag = ~std::uint64_t{0};
constexpr std::uint64_t listen_tag = std::uint64_t{0xffffffff} << 32;

std::uint64_t tag_of(worker::socket_id s) { return (std::uint64_t{s.generation} << 32) | s.index; }

worker::loss loss_of(int error) {
  switch (error) {
    case ECONNREFUSED:
    case ENOENT:
    case EAGAIN: return worker::loss::refused;  // of a unix socket: its backlog is full
    case ETIMEDOUT: return worker::loss::timed_out;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE: return worker::loss::reset;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRINUSE:
    case EADDRNOTAVAIL: return worker::loss::local;
    default: return worker::loss::unreachable;  // no route, no permission, no such network
  }
}

ssize_t send_spans(int fd, std::span<iovec> spans) {
  constexpr int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
  // The kernel takes one span with less ado than a list of one.
  if (spans.size() == 1) return ::send(fd, spans[0].iov_base, spans[0].iov_len, flags);
  msghdr message{};
  message.msg_iov = spans.data();
  message.msg_iovlen = spans.size();
  return ::sendmsg(fd, &message, flags);
}

void no_delay(int fd) {
  const int yes = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

}  // namespace

epoll_driver::epoll_driver(std::vector<int> listening, int wake)
    : set_(::epoll_create1(EPOLL_CLOEXEC)),
      wake_(wake),
      listening_(std::move(listening)),
      now_(read_clock()),
      buffer_(new char[receive_bytes]) {
  if (set_ < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
  epoll_event e{};
  e.events = EPOLLIN;
  e.data.u64 = wake_tag;
  ::epoll_ctl(set_, EPOLL_CTL_ADD, wake_, &e);
  update_listening();
}

epoll_driver::~epoll_driver() {
  for (const entry& e : entries_)
    if (e.fd >= 0) ::close(e.fd);
  ::close(set_);
}

worker::socket_id epoll_driver::adopt(int fd, bool client, std::uint32_t interest) {
  std::uint32_t at = 0;
  if (free_.empty()) {
    at = static_cast<std::uint32_t>(entries_.size());
    entries_.emplace_back();
  } else {
    at = free_.back();
    free_.pop_back();
  }
  entry& e = entries_[at];
  const std::uint32_t generation = (e.generation + 1) & 0x7fffffff;  // never a tag of something else
  e = entry{.fd = fd, .generation = generation, .interest = interest, .live = true, .client = client};
  const worker::socket_id id{at, generation};
  if (fd < 0) return id;
  epoll_event event{};
  event.events = interest;
  event.data.u64 = tag_of(id);
  if (::epoll_ctl(set_, EPOLL_CTL_ADD, fd, &event) != 0) fail_later(id, worker::loss::local);
  return id;
}

epoll_driver::entry* epoll_driver::find(worker::socket_id s) {
  if (s.index >= entries_.size()) return nullptr;
  entry& e = entries_[s.index];
  return e.live && e.generation == s.generation ? &e : nullptr;
}

instant epoll_driver::precise_now() const { return read_clock(); }

void epoll_driver::want(worker::socket_id s, entry& e, std::uint32_t interest) {
  if (e.interest == interest) return;
  e.interest = interest;
  if (e.unwatched) return;
  epoll_event event{};
  event.events = interest;
  event.data.u64 = tag_of(s);
  ::epoll_ctl(set_, EPOLL_CTL_MOD, e.fd, &event);
}

// A hang-up cannot be masked: a socket that nobody wants to read now would wake the loop for ever.
void epoll_driver::unwatch(entry& e) {
  e.unwatched = true;
  ::epoll_ctl(set_, EPOLL_CTL_DEL, e.fd, nullptr);
}

void epoll_driver::watch_again(worker::socket_id s, entry& e) {
  e.unwatched = false;
  epoll_event event{};
  event.events = e.interest;
  event.data.u64 = tag_of(s);
  ::epoll_ctl(set_, EPOLL_CTL_ADD, e.fd, &event);
}

void epoll_driver::fail_later(worker::socket_id s, worker::loss how) {
  pending_.push_back({s, pending_kind::lost, how});
}

void epoll_driver::release(worker::socket_id s, entry& e) {
  if (e.fd >= 0) ::close(e.fd);
  e.fd = -1;
  e.live = false;
  free_.push_back(s.index);
}

worker::socket_id epoll_driver::connect(const net_address& to) {
  const kernel_address address = to_kernel(to);
  const int fd = address.size == 0
                     ? -1
                     : ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (address.size == 0) return connect_failed(worker::loss::unreachable);  // no such family
  if (fd < 0) return connect_failed(loss_of(errno));
  if (address.storage.ss_family != AF_UNIX) no_delay(fd);
  const int result = ::connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.size);
  const int error = result == 0 ? 0 : errno;
  const bool waiting = error == EINPROGRESS;
  if (error != 0 && !waiting) {
    ::close(fd);  // in the set it would tell a hang-up, which reads like an end of the connecting
    return connect_failed(loss_of(error));
  }
  const worker::socket_id id = adopt(fd, false, waiting ? std::uint32_t{EPOLLOUT} : std::uint32_t{EPOLLIN});
  entries_[id.index].connecting = true;
  if (!waiting) pending_.push_back({id, pending_kind::connected, {}});
  return id;
}

// An id all the same, whose loss is told later.
worker::socket_id epoll_driver::connect_failed(worker::loss how) {
  const worker::socket_id id = adopt(-1, false, 0);
  fail_later(id, how);
  return id;
}

std::size_t epoll_driver::write(worker::socket_id to, std::span<const bytes_view> parts) {
  std::size_t total = 0;
  for (const bytes_view part : parts) total += part.size();
  entry* e = find(to);
  if (e == nullptr || total == 0) return total;
  std::size_t written = 0;
  std::size_t at = 0, inside = 0;  // next part, and how much of it is gone
  while (written < total) {
    std::array<iovec, most_parts> vec;
    std::size_t n = 0, offered = 0;
    for (std::size_t i = at; i < parts.size() && n < vec.size(); ++i) {
      const bytes_view part = i == at ? parts[i].substr(inside) : parts[i];
      if (part.empty()) continue;
      vec[n++] = {const_cast<char*>(part.data()), part.size()};
      offered += part.size();
    }
    const ssize_t result = send_spans(e->fd, std::span(vec.data(), n));
    if (result < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      e->how = loss_of(errno);
      e->broken = !e->client;  // the kernel tells the error once: what is read next must not end in a FIN
      fail_later(to, e->how);
      return total;
    }
    const auto taken = static_cast<std::size_t>(result);
    written += taken;
    inside += taken;
    while (at < parts.size() && inside >= parts[at].size()) inside -= parts[at++].size();
    if (taken < offered) break;
  }
  if (written < total) want(to, *e, e->interest | EPOLLOUT);
  return written;
}

void epoll_driver::pause(worker::socket_id s) {
  entry* e = find(s);
  if (e == nullptr) return;
  e->paused = true;
  want(s, *e, e->interest & ~std::uint32_t{EPOLLIN});
}

void epoll_driver::resume(worker::socket_id s) {
  entry* e = find(s);
  if (e == nullptr || e->connecting) return;
  e->paused = false;
  if (e->finished) return;
  want(s, *e, e->interest | EPOLLIN);
  if (e->unwatched) watch_again(s, *e);
}

void epoll_driver::finish_sending(worker::socket_id s) {
  if (entry* e = find(s)) ::shutdown(e->fd, SHUT_WR);
}

void epoll_driver::close(worker::socket_id s, bool abort) {
  entry* e = find(s);
  if (e == nullptr) return;
  if (abort) {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  release(s, *e);
}

void epoll_driver::accept_more(bool wanted) {
  wanted_ = wanted;
  update_listening();
}

void epoll_driver::set_share_open(bool open) {
  if (open == share_open_) return;
  share_open_ = open;
  update_listening();
}

void epoll_driver::stop_listening() {
  stopped_ = true;
  update_listening();
}

void epoll_driver::update_listening() {
  const bool listen = wanted_ && share_open_ && !stopped_ && retry_accept_ == never;
  if (listen == in_set_) return;
  in_set_ = listen;
  for (std::size_t i = 0; i < listening_.size(); ++i) {
    epoll_event e{};
    e.events = EPOLLIN | EPOLLEXCLUSIVE;
    e.data.u64 = listen_tag | i;
    ::epoll_ctl(set_, listen ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listening_[i], &e);
  }
}

void epoll_driver::run_once(instant until, const std::function<void()>& on_wake) {
  if (retry_accept_ != never) until = std::min(until, retry_accept_);
  int timeout = -1;
  if (!pending_.empty()) {
    timeout = 0;
  } else if (until != never) {
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(until - read_clock()).count();
    timeout = static_cast<int>(std::clamp<std::int64_t>(wait, 0, 60'000));
  }
  std::array<epoll_event, most_events> happened;
  const int n = ::epoll_wait(set_, happened.data(), most_events, timeout);
  now_ = read_clock();
  if (retry_accept_ <= now_) {
    retry_accept_ = never;
    update_listening();
  }
  for (int i = 0; i < n; ++i) {
    const std::uint64_t tag = happened[static_cast<std::size_t>(i)].data.u64;
    if (tag == wake_tag) {
      on_wake();
    } else if ((tag >> 32) == (listen_tag >> 32)) {
      accept_from(listening_[static_cast<std::uint32_t>(tag)]);
    } else {
      deliver({static_cast<std::uint32_t>(tag), static_cast<std::uint32_t>(tag >> 32)},
              happened[static_cast<std::size_t>(i)].events);
    }
  }
  run_pending();
}

void epoll_driver::run_pending() {
  running_.swap(pending_);
  for (const pending& p : running_) {
    entry* e = find(p.socket);
    if (e == nullptr) continue;
    if (p.kind == pending_kind::lost) {
      connection_broke(p.socket, *e, p.how);
    } else if (e->connecting) {  // else an event of the socket told it first
      e->connecting = false;
      events_->connected(p.socket, worker::alpn::http1);
    }
  }
  running_.clear();
}

// What an engine said before its connection broke is read first: one that refuses a request which it has not
// read to its end answers and closes, and its kernel sends a reset behind the answer.
void epoll_driver::connection_broke(worker::socket_id s, entry& e, worker::loss how) {
  if (e.client || e.connecting || e.fd < 0) return lose(s, e, how);
  e.broken = true;
  e.how = how;
  e.paused ? unwatch(e) : receive(s, true);
}

void epoll_driver::lose(worker::socket_id s, entry& e, worker::loss how) {
  release(s, e);
  events_->lost(s, how);
}

void epoll_driver::deliver(worker::socket_id s, std::uint32_t happened) {
  entry* e = find(s);
  if (e == nullptr) return;
  if (e->connecting) return connect_done(s, *e);
  if ((happened & EPOLLERR) != 0) {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(e->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return connection_broke(s, *e, loss_of(error == 0 ? ECONNRESET : error));
  }
  if ((happened & EPOLLOUT) != 0) {
    want(s, *e, e->interest & ~std::uint32_t{EPOLLOUT});
    events_->writable(s);
    e = find(s);
    if (e == nullptr) return;
  }
  const bool left = (happened & (EPOLLRDHUP | EPOLLHUP)) != 0;
  if (!e->paused && !e->finished && (happened & (EPOLLIN | EPOLLHUP | EPOLLRDHUP)) != 0)
    return receive(s, left);
  if (!left) return;
  // What an engine sent before it left is read first, when it is resumed.
  if (e->finished || e->leaving_told || !e->client) return unwatch(*e);
  // Nobody reads from this client for now, and still its leaving counts.
  e->leaving_told = true;
  want(s, *e, e->interest & ~std::uint32_t{EPOLLRDHUP | EPOLLIN});
  events_->finished(s);
}

void epoll_driver::receive(worker::socket_id s, bool peer_left) {
  for (int turn = 0; turn < receive_turns || peer_left; ++turn) {
    entry* e = find(s);
    if (e == nullptr || e->paused || e->finished) return;
    const std::span<char> direct = events_->receive_target(s);
    const std::span<char> into = direct.empty() ? std::span(buffer_.get(), receive_bytes) : direct;
    const ssize_t got = ::recv(e->fd, into.data(), into.size(), MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (e->broken) return lose(s, *e, e->how);
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;
      return lose(s, *e, loss_of(errno));
    }
    if (got == 0) {
      if (e->broken) return lose(s, *e, e->how);
      e->finished = true;
      want(s, *e, e->interest & ~std::uint32_t{EPOLLRDHUP | EPOLLIN});
      return events_->finished(s);
    }
    const auto n = static_cast<std::size_t>(got);
    if (direct.empty()) {
      events_->received(s, {buffer_.get(), n});
    } else {
      events_->received_there(s, n);
    }
    if (n < into.size() && !peer_left) return;  // drained: the level trigger tells of more
  }
}

void epoll_driver::connect_done(worker::socket_id s, entry& e) {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(e.fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return lose(s, e, loss_of(error));
  e.connecting = false;
  want(s, e, EPOLLIN);
  events_->connected(s, worker::alpn::http1);
}

void epoll_driver::accept_from(int listening) {
  // A few at a time: the other workers shall have theirs.
  for (int i = 0; i < 16 && in_set_; ++i) {
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    const int fd =
        ::accept4(listening, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;
      // Out of descriptors or memory: spinning on a readable listener would help nobody.
      retry_accept_ = now_ + std::chrono::milliseconds(50);
      return update_listening();
    }
    if (peer.ss_family != AF_UNIX) no_delay(fd);
    events_->accepted(adopt(fd, true, EPOLLIN | EPOLLRDHUP), text_of(peer));
  }
}

}  // namespace penstock::io
