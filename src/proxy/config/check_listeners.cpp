#include <fmt/core.h>

#include <optional>
#include <vector>

#include "proxy/config/check.hpp"
#include "proxy/config/endpoint_url.hpp"
#include "proxy/config/text.hpp"

namespace penstock::conf {
namespace {

struct listener {
  std::string key;
  std::string text;
  listen_address address;
};

void add(std::string key, const std::string& text, std::vector<listener>& all, report& out) {
  auto parsed = parse_listen_address(text);
  if (auto* bad = std::get_if<address_error>(&parsed)) {
    out.error(key, fmt::format("{}: {}: {}", plain_key(key), in_quotes(text), bad->what), bad->hint);
    return;
  }
  for (const auto& other : all) {
    if (!same_listener(other.address, std::get<listen_address>(parsed))) continue;
    // Where one of the two is a default, the mistake is what the file says.
    const bool mine = out.has(key);
    const auto& told = mine ? key : other.key;
    const auto& rest = mine ? other.key : key;
    out.error(told,
              fmt::format("{}: {} is the same address as {} of {}", plain_key(told),
                          in_quotes(mine ? text : other.text), in_quotes(mine ? other.text : text),
                          plain_key(rest)),
              out.has(rest) ? fmt::format("see line {}", out.where(rest).line) : "that is the default");
    return;
  }
  all.push_back({std::move(key), text, std::move(std::get<listen_address>(parsed))});
}

void check_loops(const config& c, const std::vector<listener>& all, report& out) {
  for (std::size_t p = 0; p < c.pools.size(); ++p) {
    for (std::size_t e = 0; e < c.pools[p].endpoints.size(); ++e) {
      const auto key = fmt::format("pool[{}].endpoint[{}].url", p, e);
      const auto parsed = parse_endpoint_url(c.pools[p].endpoints[e].url);
      const auto* url = std::get_if<endpoint_url>(&parsed);
      if (url == nullptr || !out.usable(key)) continue;
      for (const auto& one : all)
        if (reaches(*url, one.address))
          out.error(key,
                    fmt::format("pool.endpoint.url: {} is a listener of this configuration itself",
                                in_quotes(c.pools[p].endpoints[e].url)),
                    fmt::format("{} is {}", plain_key(one.key), in_quotes(one.text)));
    }
  }
}

}  // namespace

void check_listeners(const config& c, report& out) {
  std::vector<listener> all;
  if (out.usable("server.listen") && c.server.listen.empty())
    out.error("server.listen", "server.listen: no listener", "as in [\"127.0.0.1:8080\"]");
  if (out.usable("server.listen"))
    for (std::size_t i = 0; i < c.server.listen.size(); ++i) {
      auto key = fmt::format("server.listen[{}]", i);
      if (out.usable(key)) add(std::move(key), c.server.listen[i], all, out);
    }
  if (out.usable("admin.listen") && !c.admin.listen.empty()) add("admin.listen", c.admin.listen, all, out);
  check_loops(c, all, out);
}

}  // namespace penstock::conf
