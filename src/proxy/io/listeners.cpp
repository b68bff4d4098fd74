#include "proxy/io/listeners.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <variant>

#include "proxy/config/endpoint_url.hpp"
#include "proxy/io/socket_address.hpp"

namespace penstock::io {
namespace {

// The kernel cuts it to net.core.somaxconn.
constexpr int backlog_wanted = 4096;
// systemd's first passed descriptor (sd_listen_fds).
constexpr int first_passed = 3;

std::string failure(const std::string& address, int error) {
  std::string text = "cannot listen on " + address + ": " + std::strerror(error);
  if (error == EADDRINUSE) text += "; another process has this address, see `ss -ltnp`";
  if (error == EACCES) text += "; choose a port above 1023 or a path that you may write";
  return text;
}

int passed_sockets() {
  const char* pid = std::getenv("LISTEN_PID");
  const char* count = std::getenv("LISTEN_FDS");
  if (pid == nullptr || count == nullptr || std::atoi(pid) != ::getpid()) return 0;
  return std::atoi(count);
}

bool same_address(const sockaddr_storage& a, const void* b, unsigned size) {
  if (a.ss_family == AF_UNIX) {
    sockaddr_un left{}, right{};
    std::memcpy(&left, &a, sizeof left);
    std::memcpy(&right, b, std::min<std::size_t>(size, sizeof right));
    return right.sun_family == AF_UNIX && std::strcmp(left.sun_path, right.sun_path) == 0;
  }
  sockaddr_storage other{};
  std::memcpy(&other, b, size);
  return a.ss_family == other.ss_family && text_of(a) == text_of(other);
}

std::string bound_to(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  if (address.ss_family != AF_UNIX) return text_of(address);
  sockaddr_un un{};
  std::memcpy(&un, &address, sizeof un);
  return std::string("unix:") + un.sun_path;
}

}  // namespace

listeners::~listeners() { close(); }

void listeners::close() {
  for (const int fd : fds_) ::close(fd);
  fds_.clear();
  for (const std::string& path : made_) ::unlink(path.c_str());
  made_.clear();
}

std::string listeners::local(std::size_t i) const { return bound_to(fds_[i]); }

std::vector<std::string> listeners::passed_for_nothing() const {
  std::vector<std::string> out;
  for (int fd = first_passed; fd < first_passed + passed_sockets(); ++fd)
    if (std::find(fds_.begin(), fds_.end(), fd) == fds_.end()) out.push_back(bound_to(fd));
  return out;
}

bool listeners::adopt(const void* wanted, unsigned size) {
  for (int fd = first_passed; fd < first_passed + passed_sockets(); ++fd) {
    sockaddr_storage address{};
    socklen_t got = sizeof address;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &got) != 0) continue;
    if (!same_address(address, wanted, size)) continue;
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    fds_.push_back(fd);
    return true;
  }
  return false;
}

std::string listeners::open(const std::string& address) {
  const auto parsed = conf::parse_listen_address(address);
  if (const auto* error = std::get_if<conf::address_error>(&parsed)) return error->what;
  const auto& at = std::get<conf::listen_address>(parsed);
  if (!at.unix_path.empty()) return open_unix(at.unix_path);
  return open_tcp(at.host, std::to_string(at.port), address);
}

std::string listeners::open_unix(const std::string& path) {
  const kernel_address at = to_kernel({.kind = net_address::family::unix_path, .path = path});
  const std::string address = "unix:" + path;
  if (at.size == 0) return "cannot listen on " + address + ": the path is longer than 107 bytes";
  if (adopt(&at.storage, at.size)) return {};
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return failure(address, errno);
  const auto* where = reinterpret_cast<const sockaddr*>(&at.storage);
  int error = ::bind(fd, where, at.size) == 0 ? 0 : errno;
  if (error == EADDRINUSE) {
    // A file without a listener behind it is left over from a process that died.
    const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool dead = ::connect(probe, where, at.size) != 0 && errno == ECONNREFUSED;
    ::close(probe);
    struct stat what {};
    if (!dead || ::lstat(path.c_str(), &what) != 0 || !S_ISSOCK(what.st_mode)) {
      ::close(fd);
      return failure(address, EADDRINUSE);
    }
    ::unlink(path.c_str());
    error = ::bind(fd, where, at.size) == 0 ? 0 : errno;
  }
  if (error == 0 && ::listen(fd, backlog_wanted) != 0) error = errno;
  if (error != 0) {
    ::close(fd);
    return failure(address, error);
  }
  fds_.push_back(fd);
  made_.push_back(path);
  return {};
}

std::string listeners::open_tcp(const std::string& host, const std::string& port,
                                const std::string& address) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0)
    return "cannot listen on " + address + ": " + ::gai_strerror(error);
  std::vector<kernel_address> all;
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    kernel_address at;
    std::memcpy(&at.storage, a->ai_addr, a->ai_addrlen);
    at.size = a->ai_addrlen;
    // With two lines in /etc/hosts the C library tells some addresses twice.
    const bool known = std::any_of(all.begin(), all.end(), [&](const kernel_address& other) {
      return same_address(at.storage, &other.storage, other.size);
    });
    if (!known) all.push_back(at);
  }
  ::freeaddrinfo(found);
  return open_each(all, address);
}

// With the first free one alone, a second process would be given "localhost" too: the other family of it.
std::string listeners::open_each(std::span<const kernel_address> all, const std::string& address) {
  const std::size_t before = fds_.size();
  bool listens = false;
  int error = EADDRNOTAVAIL;
  for (const kernel_address& at : all) {
    const int fault = listen_on(at);
    if (fault == 0) {
      listens = true;
      continue;
    }
    error = fault;
    if (fault == EADDRNOTAVAIL || fault == EAFNOSUPPORT) continue;  // a machine without IPv6, say
    listens = false;
    break;
  }
  if (listens) return {};
  for (; fds_.size() > before; fds_.pop_back()) ::close(fds_.back());
  return failure(address, error);
}

// 0 or the error.
int listeners::listen_on(const kernel_address& at) {
  if (adopt(&at.storage, at.size)) return 0;
  const int fd = ::socket(at.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int yes = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (at.storage.ss_family == AF_INET6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
  const auto* where = reinterpret_cast<const sockaddr*>(&at.storage);
  if (::bind(fd, where, at.size) == 0 && ::listen(fd, backlog_wanted) == 0) {
    fds_.push_back(fd);
    return 0;
  }
  const int error = errno;
  ::close(fd);
  return error;
}

}  // namespace penstock::io
