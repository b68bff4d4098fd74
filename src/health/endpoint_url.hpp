// An endpoint's url taken apart: whom to connect to, and what the Host header and path start with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace penstock::health {

struct endpoint_target {
  std::string host;  // name or literal without brackets; empty for a unix socket
  std::uint16_t port = 0;
  std::string unix_path;    // empty for TCP
  std::string authority;    // Host header: as written, without the default port 80
  std::string path_prefix;  // "" or "/something", without a slash at the end
};

// "http://host[:port][/prefix]", "http://[v6]:port", "unix:/path". nullopt: none of these.
std::optional<endpoint_target> parse_endpoint_url(std::string_view url);

}  // namespace penstock::health
