#include "health/endpoint_url.hpp"

#include <charconv>

namespace penstock::health {
namespace {

constexpr std::string_view tcp_scheme = "http://", unix_scheme = "unix:";
constexpr std::uint16_t default_port = 80;

// What would break a Host header or a request line.
bool is_plain(std::string_view text) {
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (u <= 0x20 || u == 0x7f || c == '?' || c == '#' || c == '@') return false;
  }
  return true;
}

bool read_port(std::string_view text, std::uint16_t& port) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return !text.empty() && error == std::errc{} && end == text.data() + text.size() && port != 0;
}

// host, host:port, [v6], [v6]:port
bool read_authority(std::string_view text, endpoint_target& out) {
  std::string_view host = text, port;
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == std::string_view::npos) return false;
    host = text.substr(1, close - 1);
    port = text.substr(close + 1);
    if (host.find(':') == std::string_view::npos) return false;
  } else if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon);
  }
  out.port = default_port;
  if (!port.empty() && (port.front() != ':' || !read_port(port.substr(1), out.port))) return false;
  if (host.empty() || host.find_first_of("[]") != std::string_view::npos) return false;
  out.host = std::string(host);
  out.authority = std::string(out.port == default_port ? text.substr(0, text.size() - port.size()) : text);
  return true;
}

}  // namespace

std::optional<endpoint_target> parse_endpoint_url(std::string_view url) {
  endpoint_target out;
  if (url.starts_with(unix_scheme)) {
    out.unix_path = std::string(url.substr(unix_scheme.size()));
    out.authority = "localhost";
    if (!out.unix_path.starts_with('/') || out.unix_path.find('\0') != std::string::npos) return std::nullopt;
    return out;
  }
  if (!url.starts_with(tcp_scheme) || !is_plain(url)) return std::nullopt;
  url.remove_prefix(tcp_scheme.size());
  const auto slash = std::min(url.find('/'), url.size());
  auto prefix = url.substr(slash);
  while (prefix.ends_with('/')) prefix.remove_suffix(1);
  out.path_prefix = std::string(prefix);
  if (!read_authority(url.substr(0, slash), out)) return std::nullopt;
  return out;
}

}  // namespace penstock::health
