// Plain addresses and the kernel's.
#pragma once

#include <sys/socket.h>

#include <string>

#include "penstock/net_address.hpp"

namespace penstock::io {

struct kernel_address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

// size 0 if it cannot be expressed (no family, a path that is too long).
kernel_address to_kernel(const net_address& address);

// "127.0.0.1:4711", "[::1]:4711" or "unix".
std::string text_of(const sockaddr_storage& address);

}  // namespace penstock::io
