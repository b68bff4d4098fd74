// Asks endpoints and the name service what the fleet tracker wants to know.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "health/fleet_tracker.hpp"
#include "penstock/net_address.hpp"
#include "proxy/io/http_get.hpp"

namespace penstock::io {

// Carries out tasks on the control thread and gives the answers to the tracker. `changed` is called after
// each answer.
class fleet_probe {
 public:
  fleet_probe(boost::asio::io_context& context, health::fleet_tracker& tracker,
              std::function<void()> changed);

  void carry_out(const health::task& what, const health_config& settings);
  // Endpoints without addresses whose url names an IP address or a socket path get them at once, so that
  // the first request after a start or a reload finds them.
  void resolve_literals();
  // Called with what an engine that shows it says of itself: whether its answers tell cached_tokens. Where it
  // is not set nobody is asked.
  void on_cache_report(std::function<void(endpoint_id, bool)> told) { cache_report_ = std::move(told); }
  // No answer reaches the tracker any more.
  void stop() { *alive_ = false; }

 private:
  void resolve(const health::tracked_endpoint& of);
  void ask_bootstrap(const health::tracked_endpoint& of, const health_config& settings);
  void query_bootstrap(endpoint_id id, net_address to, const std::string& host, duration timeout);
  void ask_cache_report(endpoint_id id, const health_config& settings);
  void get(const health::tracked_endpoint& of, const std::string& path, const health_config& settings,
           std::function<void(endpoint_id, get_result)> done);
  void warn_once(const std::string& url, const std::vector<std::string>& warnings);

  boost::asio::io_context& context_;
  boost::asio::ip::tcp::resolver resolver_;
  health::fleet_tracker& tracker_;
  std::function<void()> changed_;
  std::function<void(endpoint_id, bool)> cache_report_;
  // The processes that were asked for it, by slot: id and epoch.
  std::map<std::uint16_t, std::pair<endpoint_id, std::uint32_t>> asked_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::map<std::string, bool> warned_;  // bounded by endpoints x kinds of warnings
};

}  // namespace penstock::io
