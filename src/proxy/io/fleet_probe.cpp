#include "proxy/io/fleet_probe.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "health/bootstrap_text.hpp"
#include "health/findings.hpp"
#include "health/metrics_text.hpp"
#include "health/models_text.hpp"
#include "health/server_info_text.hpp"
#include "proxy/http/head.hpp"
#include "proxy/io/clock.hpp"
#include "proxy/io/log.hpp"

namespace penstock::io {
namespace {

health::probe_outcome outcome_of(const get_result& r) {
  using from = get_result::outcome;
  using to = health::probe_outcome;
  switch (r.how) {
    case from::connect_failed: return to::connect_failed;
    case from::connect_timeout: return to::connect_timeout;
    case from::timeout: return to::timeout;
    case from::reset: return to::reset;
    case from::garbage: return to::garbage;
    case from::answered: break;
  }
  return r.status >= 200 && r.status < 300 ? to::ok : to::bad_status;
}

bool answered_well(const get_result& r) { return r.how == get_result::outcome::answered && r.status == 200; }

net_address plain(const boost::asio::ip::tcp::endpoint& e) {
  net_address out;
  out.port = e.port();
  if (e.address().is_v4()) {
    out.kind = net_address::family::ipv4;
    const auto bytes = e.address().to_v4().to_bytes();
    std::copy(bytes.begin(), bytes.end(), out.ip.begin());
  } else {
    out.kind = net_address::family::ipv6;
    const auto bytes = e.address().to_v6().to_bytes();
    std::copy(bytes.begin(), bytes.end(), out.ip.begin());
  }
  return out;
}

// Which series of a page are this endpoint's: those of its rank, where nothing else is said.
std::string engine_label(const endpoint_config& settings) {
  if (!settings.engine_label.empty() || settings.data_parallel_rank < 0) return settings.engine_label;
  return std::to_string(settings.data_parallel_rank);
}

// The address, where the url needs no name service.
std::optional<net_address> literal(const endpoint_address& at) {
  if (!at.unix_path.empty()) return net_address{.kind = net_address::family::unix_path, .path = at.unix_path};
  boost::system::error_code ec;
  const auto ip = boost::asio::ip::make_address(at.host, ec);
  if (ec) return std::nullopt;
  return plain({ip, at.port});
}

}  // namespace

fleet_probe::fleet_probe(boost::asio::io_context& context, health::fleet_tracker& tracker,
                         std::function<void()> changed)
    : context_(context), resolver_(context), tracker_(tracker), changed_(std::move(changed)) {}

void fleet_probe::carry_out(const health::task& what, const health_config& settings) {
  const health::tracked_endpoint* of = tracker_.find(what.endpoint);
  if (of == nullptr) return;
  switch (what.kind) {
    case health::task_kind::resolve: return resolve(*of);
    case health::task_kind::probe:
      return get(*of, settings.path, settings, [this, began = read_clock()](endpoint_id id, get_result r) {
        tracker_.probed(id, {.outcome = outcome_of(r), .started = began}, read_clock());
      });
    case health::task_kind::scrape:
      return get(*of, settings.metrics_path, settings,
                 [this, label = engine_label(of->settings)](endpoint_id id, get_result r) {
                   std::optional<engine_state> state;
                   std::vector<std::string> warnings;
                   if (answered_well(r)) {
                     state = health::read_metrics(r.body, {label}, read_clock(), warnings);
                     if (state->scraped_at == instant{}) state.reset();
                   }
                   if (const auto* e = tracker_.find(id)) warn_once(e->settings.url, warnings);
                   tracker_.scraped(id, state, read_clock());
                 });
    case health::task_kind::models:
      return get(*of, "/v1/models", settings, [this, settings](endpoint_id id, get_result r) {
        std::optional<std::vector<served_model>> models;
        if (answered_well(r)) models = health::read_models(r.body);
        const bool shows_switches = models && health::is_engine(*models, "sglang");
        tracker_.models_read(id, std::move(models), read_clock());
        if (shows_switches) ask_cache_report(id, settings);
      });
    case health::task_kind::bootstrap: return ask_bootstrap(*of, settings);
  }
}

// Each process of an engine is asked until it has answered once, whatever it answered.
void fleet_probe::ask_cache_report(endpoint_id id, const health_config& settings) {
  const health::tracked_endpoint* of = tracker_.find(id);
  if (of == nullptr || of->addresses.empty() || !cache_report_) return;
  const std::pair process(id, of->epoch);
  if (const auto known = asked_.find(id.slot); known != asked_.end() && known->second == process) return;
  get(*of, "/get_server_info", settings, [this, process](endpoint_id at, const get_result& r) {
    if (r.how != get_result::outcome::answered) return;
    asked_[at.slot] = process;
    const std::optional<bool> told = answered_well(r) ? health::read_cache_report(r.body) : std::nullopt;
    if (told) cache_report_(at, *told);
  });
}

void fleet_probe::get(const health::tracked_endpoint& of, const std::string& path,
                      const health_config& settings, std::function<void(endpoint_id, get_result)> done) {
  get_request request{.to = of.addresses.front(),
                      .authority = of.settings.address.authority,
                      .target = of.settings.address.prefix + path,
                      .headers = of.settings.headers,
                      .timeout = settings.timeout};
  const bool own_key = std::any_of(request.headers.begin(), request.headers.end(),
                                   [](const auto& h) { return http::iequals(h.first, "authorization"); });
  if (!of.settings.api_key.empty() && !own_key)
    request.headers.emplace_back("Authorization", "Bearer " + of.settings.api_key);
  http_get(context_, std::move(request),
           [this, alive = alive_, id = of.id, done = std::move(done)](get_result r) {
             if (!*alive) return;
             done(id, std::move(r));
             changed_();
           });
}

void fleet_probe::resolve_literals() {
  const auto listed = tracker_.build_view(read_clock());
  for (const endpoint_view& e : listed->endpoints) {
    const health::tracked_endpoint* of = tracker_.find(e.id);
    if (of == nullptr || !of->addresses.empty()) continue;
    if (auto address = literal(of->settings.address))
      tracker_.resolved(e.id, {std::move(*address)}, read_clock());
  }
}

void fleet_probe::resolve(const health::tracked_endpoint& of) {
  const endpoint_id id = of.id;
  if (auto address = literal(of.settings.address)) {
    tracker_.resolved(id, {std::move(*address)}, read_clock());
    return changed_();
  }
  using tcp = boost::asio::ip::tcp;
  resolver_.async_resolve(
      of.settings.address.host, std::to_string(of.settings.address.port), tcp::resolver::numeric_service,
      [this, alive = alive_, id](boost::system::error_code ec, const tcp::resolver::results_type& found) {
        if (!*alive) return;
        std::vector<net_address> addresses;
        if (!ec)
          for (const auto& entry : found) addresses.push_back(plain(entry.endpoint()));
        tracker_.resolved(id, std::move(addresses), read_clock());
        changed_();
      });
}

// The bootstrap server of a prefill engine is a server of its own, at an address of its own.
void fleet_probe::ask_bootstrap(const health::tracked_endpoint& of, const health_config& settings) {
  const endpoint_address at{.host = of.settings.bootstrap_host, .port = of.settings.bootstrap_port};
  if (auto address = literal(at))
    return query_bootstrap(of.id, std::move(*address), at.host, settings.timeout);
  using tcp = boost::asio::ip::tcp;
  resolver_.async_resolve(at.host, std::to_string(at.port), tcp::resolver::numeric_service,
                          [this, alive = alive_, id = of.id, host = at.host, timeout = settings.timeout](
                              boost::system::error_code ec, const tcp::resolver::results_type& found) {
                            if (!*alive) return;
                            if (!ec && !found.empty())
                              return query_bootstrap(id, plain(found.begin()->endpoint()), host, timeout);
                            tracker_.bootstrap_read(id, std::nullopt, read_clock());
                            changed_();
                          });
}

void fleet_probe::query_bootstrap(endpoint_id id, net_address to, const std::string& host, duration timeout) {
  const bool v6 = host.find(':') != std::string::npos;
  const std::string authority = (v6 ? "[" + host + "]" : host) + ":" + std::to_string(to.port);
  http_get(context_,
           {.to = std::move(to),
            .authority = authority,
            .target = "/query",
            .timeout = timeout,
            .body_limit = health::max_bootstrap_text_bytes},
           [this, alive = alive_, id](const get_result& r) {
             if (!*alive) return;
             std::optional<std::vector<std::string>> ids;
             if (answered_well(r)) ids = health::read_bootstrap(r.body);
             tracker_.bootstrap_read(id, std::move(ids), read_clock());
             changed_();
           });
}

void fleet_probe::warn_once(const std::string& url, const std::vector<std::string>& warnings) {
  for (const std::string& text : warnings) {
    const std::string line = url + ": " + text;
    constexpr std::size_t most = 4096;
    if (warned_.size() < most && warned_.emplace(line, true).second)
      log(log_level::warn, "metrics of " + line);
  }
}

}  // namespace penstock::io
