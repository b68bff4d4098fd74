// Listening sockets: one an address, shared by all workers.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "proxy/io/socket_address.hpp"

namespace penstock::io {

// Open sockets; closes them, and removes unix socket files it made.
class listeners {
 public:
  listeners() = default;
  ~listeners();
  listeners(const listeners&) = delete;
  listeners& operator=(const listeners&) = delete;

  // Opens "host:port", "[v6]:port" or "unix:/path", or adopts a socket passed by systemd (LISTEN_FDS) that
  // is bound to it; of a name every address. Empty, or why it cannot listen, with the address in it. A
  // left-over unix socket file that nobody answers on is replaced.
  std::string open(const std::string& address);
  // The same for what a name was resolved to: all that this machine has, or none.
  std::string open_each(std::span<const kernel_address> all, const std::string& name);
  // Passed sockets that no listener was opened for: who connects to one waits for ever.
  std::vector<std::string> passed_for_nothing() const;

  const std::vector<int>& descriptors() const { return fds_; }
  // Where socket i really listens ("127.0.0.1:40123" for port 0).
  std::string local(std::size_t i) const;
  void close();

 private:
  std::string open_unix(const std::string& path);
  std::string open_tcp(const std::string& host, const std::string& port, const std::string& address);
  int listen_on(const kernel_address& at);
  bool adopt(const void* wanted, unsigned size);

  std::vector<int> fds_;
  std::vector<std::string> made_;  // unix paths to remove
};

}  // namespace penstock::io
