#include "proxy/config/endpoint_url.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "proxy/config/ip_text.hpp"
#include "proxy/config/text.hpp"

namespace penstock::conf {
namespace {

constexpr std::string_view url_example = "as in \"http://127.0.0.1:8000\"";
constexpr std::string_view listen_example =
    "as in \"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/run/penstock.sock\"";

address_error fail(std::string what, std::string_view hint) { return {std::move(what), std::string(hint)}; }

bool starts_with_scheme(std::string_view text, std::string_view scheme) {
  return text.size() >= scheme.size() && lower_case(text.substr(0, scheme.size())) == scheme;
}

struct host_port {
  std::string host;
  std::optional<std::string_view> port;
};

// "host", "host:port", "[v6]", "[v6]:port"
std::variant<host_port, address_error> split_host(std::string_view text, std::string_view hint) {
  host_port out;
  std::string_view rest;
  if (!text.empty() && text[0] == '[') {
    const auto close = text.find(']');
    if (close == std::string_view::npos) return fail("\"[\" without \"]\"", hint);
    out.host = lower_case(text.substr(1, close - 1));
    rest = text.substr(close + 1);
    if (out.host.find('%') != std::string::npos) return fail("zones of IPv6 addresses are not supported", "");
    if (!parse_v6(out.host)) return fail(fmt::format("{} is no IPv6 address", in_quotes(out.host)), hint);
    if (!rest.empty() && rest[0] != ':') return fail("after \"]\" only \":port\" may come", hint);
  } else {
    const auto colon = std::min(text.find(':'), text.size());
    if (std::count(text.begin(), text.end(), ':') > 1)
      return fail("too many colons", "put IPv6 addresses in brackets: \"[::1]:8000\"");
    out.host = lower_case(text.substr(0, colon));
    rest = text.substr(colon);
    if (out.host.empty()) return fail("the host is missing", hint);
    if (!valid_host_name(out.host))
      return fail(fmt::format("{} is no host name or address", in_quotes(out.host)), hint);
  }
  if (!rest.empty()) out.port = rest.substr(1);
  return out;
}

std::variant<std::uint16_t, address_error> parse_port(std::string_view text, std::uint16_t least) {
  std::uint16_t port = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (ec != std::errc{} || end != text.data() + text.size() || port < least)
    return fail(fmt::format("{} is no port", in_quotes(text)), fmt::format("{} to 65535", least));
  return port;
}

// The path after "unix:".
std::variant<std::string, address_error> parse_socket_path(std::string_view path) {
  constexpr std::size_t longest = 107;  // sockaddr_un.sun_path of Linux holds 108 bytes with the final NUL
  if (path.empty() || path[0] != '/')
    return fail("the socket's path must begin with \"/\"", "as in \"unix:/run/penstock.sock\"");
  if (path.size() > longest)
    return fail("the socket's path is longer than 107 bytes", "the kernel takes no more");
  const bool control =
      std::any_of(path.begin(), path.end(), [](char c) { return c >= 0 && (c < ' ' || c == 0x7f); });
  if (control) return fail("the socket's path has control characters", "");
  if (path.back() == '/') return fail("the socket's path ends in \"/\"", "name the socket itself");
  return std::string(path);
}

// What comes before every target; no trailing slash.
std::variant<std::string, address_error> parse_prefix(std::string_view path) {
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  for (const char c : path) {
    const bool plain =
        c > ' ' && c < 0x7f && std::string_view("\"<>\\^`{|}%").find(c) == std::string_view::npos;
    if (!plain)
      return fail("the path has characters that a plain path has not", "letters, digits and -._~/ are");
  }
  const auto slashed = fmt::format("{}/", path);
  for (const std::string_view bad : {"//", "/./", "/../"})
    if (slashed.find(bad) != std::string::npos && !path.empty())
      return fail("the path has empty or dot segments", "write it in its plain form");
  return std::string(path);
}

template <class T, class From>
std::optional<address_error> take(From&& from, T& to) {
  if (auto* bad = std::get_if<address_error>(&from)) return std::move(*bad);
  to = std::move(std::get<T>(from));
  return std::nullopt;
}

address_error wrong_scheme(std::string_view text) {
  if (starts_with_scheme(text, "https://"))
    return fail("TLS to engines is not there yet", "use http:// on a network you trust");
  if (text.find("://") != std::string_view::npos) return fail("the scheme is not http", url_example);
  if (text.find('@') == std::string_view::npos && text.find(':') != std::string_view::npos)
    return fail("the scheme is missing", fmt::format("write {}", in_quotes(fmt::format("http://{}", text))));
  return fail("no URL", url_example);
}

// Hosts compare by bytes, so that spellings of one address are equal. Names stay names.
struct known_host {
  std::optional<v4_bytes> v4;
  std::optional<v6_bytes> v6;
  std::string name;

  explicit known_host(std::string_view host) : v4(parse_v4(host)), v6(parse_v6(host)), name(host) {
    if (host == "localhost") v4 = v4_bytes{127, 0, 0, 1};
  }
  bool any_v4() const { return v4 == v4_bytes{}; }
  bool any_v6() const { return v6 == v6_bytes{}; }
  bool loopback() const {
    v6_bytes one{};
    one[15] = 1;
    return (v4 && (*v4)[0] == 127) || v6 == one;
  }
  bool equals(const known_host& other) const {
    if (v4 || v6) return v4 == other.v4 && v6 == other.v6;
    return name == other.name;
  }
};

}  // namespace

std::variant<endpoint_url, address_error> parse_endpoint_url(std::string_view text) {
  endpoint_url out;
  if (starts_with_scheme(text, "unix:")) {
    if (auto bad = take(parse_socket_path(text.substr(5)), out.unix_path)) return *bad;
    out.authority = "localhost";
    return out;
  }
  if (!starts_with_scheme(text, "http://")) return wrong_scheme(text);
  const auto rest = text.substr(7);
  if (rest.find_first_of("?#") != std::string_view::npos)
    return fail("a query or fragment has no place here", "");
  const auto slash = std::min(rest.find('/'), rest.size());
  if (rest.substr(0, slash).find('@') != std::string_view::npos)
    return fail("user and password have no place here", "use api_key or headers");
  host_port where;
  if (auto bad = take(split_host(rest.substr(0, slash), url_example), where)) return *bad;
  out.host = std::move(where.host);
  out.port = 80;
  if (where.port)
    if (auto bad = take(parse_port(*where.port, 1), out.port)) return *bad;
  if (auto bad = take(parse_prefix(rest.substr(slash)), out.prefix)) return *bad;
  out.authority = out.host.find(':') == std::string::npos ? out.host : fmt::format("[{}]", out.host);
  if (out.port != 80) out.authority += fmt::format(":{}", out.port);
  return out;
}

namespace {

// SGLang's bootstrap server is on the engine's host, at SGLANG_BOOTSTRAP_PORT.
void take_bootstrap_apart(const disaggregation_config& how, endpoint_config& endpoint) {
  constexpr std::uint16_t sglang_port = 8998;
  endpoint.bootstrap_host.clear();
  endpoint.bootstrap_port = 0;
  if (!how.enabled || !traits(how.connector).bootstrap || endpoint.role == endpoint_role::decode) return;
  if (!endpoint.bootstrap.empty()) {
    auto parsed = parse_listen_address(endpoint.bootstrap);
    auto* address = std::get_if<listen_address>(&parsed);
    if (address == nullptr) return;
    endpoint.bootstrap_host = std::move(address->host);
    endpoint.bootstrap_port = address->port;
  } else if (how.connector == connector_kind::sglang && !endpoint.address.host.empty()) {
    endpoint.bootstrap_host = endpoint.address.host;
    endpoint.bootstrap_port = sglang_port;
  }
}

}  // namespace

void take_urls_apart(config& c) {
  for (pool_config& pool : c.pools)
    for (endpoint_config& endpoint : pool.endpoints) {
      if (auto parsed = parse_endpoint_url(endpoint.url); auto* url = std::get_if<endpoint_url>(&parsed))
        endpoint.address = std::move(*url);
      take_bootstrap_apart(pool.disaggregation, endpoint);
    }
}

std::variant<listen_address, address_error> parse_listen_address(std::string_view text) {
  listen_address out;
  if (starts_with_scheme(text, "unix:")) {
    if (auto bad = take(parse_socket_path(text.substr(5)), out.unix_path)) return *bad;
    return out;
  }
  if (text.find("://") != std::string_view::npos) return fail("a listener is no URL", listen_example);
  if (!text.empty() && text[0] == '/')
    return fail("no address", fmt::format("write {}", in_quotes(fmt::format("unix:{}", text))));
  if (!text.empty() && (text.rfind(':') == 0 || text.substr(0, 2) == "*:"))
    return fail("the host is missing", "write 0.0.0.0 for all IPv4 addresses, [::] for all IPv6 ones");
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos)
    return fail("the host is missing", fmt::format("write {}", in_quotes(fmt::format("127.0.0.1:{}", text))));
  host_port where;
  if (auto bad = take(split_host(text, listen_example), where)) return *bad;
  if (!where.port) return fail("the port is missing", listen_example);
  out.host = std::move(where.host);
  if (auto bad = take(parse_port(*where.port, 0), out.port)) return *bad;
  return out;
}

bool same_listener(const listen_address& a, const listen_address& b) {
  if (!a.unix_path.empty() || !b.unix_path.empty()) return a.unix_path == b.unix_path;
  if (a.port != b.port || a.port == 0) return false;
  const known_host x(a.host);
  const known_host y(b.host);
  if ((x.any_v4() && y.v4) || (y.any_v4() && x.v4) || (x.any_v6() && y.v6) || (y.any_v6() && x.v6))
    return true;
  return x.equals(y);
}

bool reaches(const endpoint_url& url, const listen_address& listener) {
  if (!url.unix_path.empty() || !listener.unix_path.empty()) return url.unix_path == listener.unix_path;
  if (url.port != listener.port) return false;
  const known_host to(url.host);
  const known_host at(listener.host);
  const bool everywhere = at.any_v4() || at.any_v6();
  return to.equals(at) || ((to.loopback() || to.any_v4() || to.any_v6()) && everywhere);
}

}  // namespace penstock::conf
