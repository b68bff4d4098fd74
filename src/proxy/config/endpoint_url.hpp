// Addresses as a configuration writes them: where an engine is, and where we listen. No name is
// resolved here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "penstock/config.hpp"

namespace penstock::conf {

// Why an address was not understood. Holds no part of a URL that could be a secret.
struct address_error {
  std::string what;
  std::string hint;
};

// http://host[:port][/prefix], http://[v6][:port][/prefix] or unix:/path
using endpoint_url = endpoint_address;
std::variant<endpoint_url, address_error> parse_endpoint_url(std::string_view text);

// Fills the address of every endpoint whose url is one; those of a checked configuration all are.
void take_urls_apart(config& c);

// "host:port", "[v6]:port" or "unix:/path"; port 0 lets the kernel choose.
struct listen_address {
  std::string host;  // lower case, v6 without brackets; empty for unix
  std::uint16_t port = 0;
  std::string unix_path;

  friend bool operator==(const listen_address&, const listen_address&) = default;
};
std::variant<listen_address, address_error> parse_listen_address(std::string_view text);

// Whether both cannot be bound at once: the same socket path, or the same port on the same host, where
// 0.0.0.0 is every IPv4 host, :: every IPv6 host and "localhost" 127.0.0.1. Port 0 never collides.
bool same_listener(const listen_address& a, const listen_address& b);

// Whether a connection to `url` would arrive at `listener` of this machine: loopback or equal hosts
// and equal ports, or the same socket path. A forwarding loop, if the listener is ours.
bool reaches(const endpoint_url& url, const listen_address& listener);

}  // namespace penstock::conf
