#include "proxy/io/socket_address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstring>

namespace penstock::io {

kernel_address to_kernel(const net_address& address) {
  kernel_address out;
  switch (address.kind) {
    case net_address::family::ipv4: {
      sockaddr_in in{};
      in.sin_family = AF_INET;
      in.sin_port = htons(address.port);
      std::memcpy(&in.sin_addr, address.ip.data(), 4);
      std::memcpy(&out.storage, &in, sizeof in);
      out.size = sizeof in;
      break;
    }
    case net_address::family::ipv6: {
      sockaddr_in6 in{};
      in.sin6_family = AF_INET6;
      in.sin6_port = htons(address.port);
      std::memcpy(&in.sin6_addr, address.ip.data(), 16);
      std::memcpy(&out.storage, &in, sizeof in);
      out.size = sizeof in;
      break;
    }
    case net_address::family::unix_path: {
      sockaddr_un un{};
      if (address.path.size() >= sizeof un.sun_path) break;
      un.sun_family = AF_UNIX;
      std::memcpy(un.sun_path, address.path.data(), address.path.size());
      std::memcpy(&out.storage, &un, sizeof un);
      out.size = sizeof un;
      break;
    }
    case net_address::family::none: break;
  }
  return out;
}

std::string text_of(const sockaddr_storage& address) {
  char host[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof in);
    ::inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
    return std::string(host) + ':' + std::to_string(ntohs(in.sin_port));
  }
  if (address.ss_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address, sizeof in);
    ::inet_ntop(AF_INET6, &in.sin6_addr, host, sizeof host);
    return '[' + std::string(host) + "]:" + std::to_string(ntohs(in.sin6_port));
  }
  return "unix";
}

}  // namespace penstock::io
