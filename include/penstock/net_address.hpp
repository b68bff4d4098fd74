// A resolved address as plain data; only drivers turn it into a socket address.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace penstock {

struct net_address {
  enum class family : std::uint8_t { none, ipv4, ipv6, unix_path };
  family kind = family::none;
  std::array<std::uint8_t, 16> ip{};  // network order; the first 4 bytes for ipv4
  std::uint16_t port = 0;
  std::string path;  // unix_path only

  friend bool operator==(const net_address&, const net_address&) = default;
};

}  // namespace penstock
