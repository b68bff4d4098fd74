// `penstock explain`: the facts of one request, and what routing would do with it.
#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstdio>
#include <optional>
#include <variant>

#include "health/fleet_tracker.hpp"
#include "proxy/admin/explain_page.hpp"
#include "proxy/commands.hpp"
#include "proxy/config/endpoint_url.hpp"
#include "proxy/io/clock.hpp"
#include "proxy/io/http_get.hpp"

namespace penstock {
namespace {

// Every endpoint of the configuration as if it were up and idle: nothing is contacted.
std::shared_ptr<const fleet_view> idle_fleet(const std::shared_ptr<const config>& settings, instant now) {
  health::fleet_tracker tracker(1);
  tracker.apply(settings, now);
  const auto listed = tracker.build_view(now);
  for (const endpoint_view& e : listed->endpoints) {
    tracker.resolved(e.id, {{.kind = net_address::family::ipv4, .port = 1}}, now);
    tracker.bootstrap_read(e.id, std::vector<std::string>{"idle"}, now);
  }
  return tracker.build_view(now);
}

std::optional<net_address> address_of(boost::asio::io_context& context, const endpoint_address& target) {
  if (!target.unix_path.empty()) {
    net_address a;
    a.kind = net_address::family::unix_path;
    a.path = target.unix_path;
    return a;
  }
  using tcp = boost::asio::ip::tcp;
  boost::system::error_code ec;
  const auto found = tcp::resolver(context).resolve(target.host, std::to_string(target.port), ec);
  if (ec || found.empty()) return std::nullopt;
  net_address a;
  a.port = target.port;
  const auto at = found.begin()->endpoint().address();
  a.kind = at.is_v4() ? net_address::family::ipv4 : net_address::family::ipv6;
  if (at.is_v4()) {
    std::ranges::copy(at.to_v4().to_bytes(), a.ip.begin());
  } else {
    std::ranges::copy(at.to_v6().to_bytes(), a.ip.begin());
  }
  return a;
}

// Lets a running proxy explain, with what it has learned.
int ask_running(const std::string& url, std::string body) {
  const auto parsed = conf::parse_endpoint_url(url);
  const auto* target = std::get_if<conf::endpoint_url>(&parsed);
  if (target == nullptr) {
    std::fprintf(stderr, "%s: not a url of an admin listener; as in http://127.0.0.1:9090\n", url.c_str());
    return 1;
  }
  boost::asio::io_context context(1);
  const auto to = address_of(context, *target);
  io::get_result got{.how = io::get_result::outcome::connect_failed};
  if (to) {
    io::http_get(context,
                 {.to = *to,
                  .authority = target->authority,
                  .target = target->prefix + "/debug/explain",
                  .timeout = std::chrono::seconds(10),
                  .post = std::move(body)},
                 [&](io::get_result r) { got = std::move(r); });
    context.run();
  }
  if (got.how != io::get_result::outcome::answered) {
    std::fprintf(stderr, "%s: no answer; is `admin.listen` of the running proxy there?\n", url.c_str());
    return 1;
  }
  std::fwrite(got.body.data(), 1, got.body.size(), got.status == 200 ? stdout : stderr);
  return got.status == 200 ? 0 : 1;
}

struct explain_options {
  std::string config, request, state;  // paths, and the url of a running proxy; empty: none
};

// In any order.
std::optional<explain_options> read_options(arguments args) {
  explain_options out;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const bool config = args[i] == "-c" || args[i] == "--config", option = config || args[i] == "--state";
    std::string& to = config ? out.config : option ? out.state : out.request;
    if (option ? ++i == args.size() : args[i].starts_with('-')) return std::nullopt;
    if (!to.empty() || args[i].empty()) return std::nullopt;
    to = args[i];
  }
  if (out.config.empty() || out.request.empty()) return std::nullopt;
  return out;
}

}  // namespace

int explain_command(arguments args) {
  const auto options = read_options(args);
  if (!options) {
    return usage(
        args,
        "usage: penstock explain -c FILE REQUEST.json [--state URL]\n\n"
        "Tells what would be done with the request body in REQUEST.json, and why: by FILE alone, as if\n"
        "every engine were idle, or with what a running proxy has learned.\n"
        "  --state URL   that proxy's admin listener, as in http://127.0.0.1:9090\n");
  }
  const auto settings = read_configuration(options->config);
  if (settings == nullptr) return 1;
  auto read = read_file(options->request);
  if (!read) return 1;
  std::string body = std::move(*read);
  if (body.empty()) {
    std::fprintf(stderr, "%s: is empty; a request is one JSON object\n", options->request.c_str());
    return 1;
  }
  if (!options->state.empty()) return ask_running(options->state, std::move(body));
  const instant now = io::read_clock();
  routing::shared_state shared(settings->routing);
  const auto told =
      admin::explain_request(std::move(body), "", {}, *settings, shared, {}, *idle_fleet(settings, now), now);
  if (!told.good) {
    std::fprintf(stderr, "%s: %s", options->request.c_str(), told.text.c_str());
    return 1;
  }
  std::printf("With every endpoint up, idle and empty (--state asks a running proxy):\n\n%s",
              told.text.c_str());
  return 0;
}

}  // namespace penstock
