// `penstock demo`: two emulated engines and the proxy in one process.
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <thread>

#include "emulator/server/engine_server.hpp"
#include "proxy/commands.hpp"
#include "proxy/config/endpoint_url.hpp"
#include "proxy/config/load.hpp"

namespace penstock {
namespace {

// Engines on a thread of their own, as real ones would be on machines of their own.
class demo_engines {
 public:
  explicit demo_engines(std::size_t count) {
    emulator::engine_options options;
    options.port = 0;
    options.models = {"demo"};
    for (std::size_t i = 0; i < count; ++i)
      servers_.push_back(std::make_unique<emulator::engine_server>(context_, options));
    thread_ = std::thread([this] { context_.run(); });
  }
  ~demo_engines() {
    context_.stop();
    thread_.join();
  }
  std::vector<std::string> urls() const {
    std::vector<std::string> out;
    for (const auto& server : servers_) out.push_back("http://127.0.0.1:" + std::to_string(server->port()));
    return out;
  }

 private:
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{context_.get_executor()};
  std::vector<std::unique_ptr<emulator::engine_server>> servers_;
  std::thread thread_;
};

void greet(const running_addresses& at) {
  std::printf(
      "\nPenstock serves two emulated engines (model \"demo\") on http://%s\n"
      "Status page: http://%s/ and /metrics /readyz /debug/fleet\n"
      "\nTry it:\n\n"
      "  curl -N http://%s/v1/chat/completions -H 'Content-Type: application/json' \\\n"
      "    -d '{\"model\":\"demo\",\"stream\":true,\"max_tokens\":32,"
      "\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'\n"
      "\nCtrl-C ends it.\n\n",
      at.data.c_str(), at.admin.c_str(), at.data.c_str());
  std::fflush(stdout);
}

}  // namespace

int demo_command(arguments args) {
  config settings = conf::defaults();
  settings.timeouts.drain_settle = duration{};
  settings.log.access = "stdout";
  settings.server.expose_routing = true;
  for (std::size_t i = 0; i < args.size(); i += 2) {
    const bool known = args[i] == "--listen" || args[i] == "--admin";
    if (!known || i + 1 == args.size()) {
      std::fprintf(stderr, "usage: penstock demo [--listen HOST:PORT] [--admin HOST:PORT]\n");
      return 1;
    }
    const auto parsed = conf::parse_listen_address(args[i + 1]);
    if (const auto* error = std::get_if<conf::address_error>(&parsed)) {
      std::fprintf(stderr, "%s %s: %s\n", args[i].c_str(), args[i + 1].c_str(), error->what.c_str());
      return 1;
    }
    if (args[i] == "--listen") settings.server.listen = {args[i + 1]};
    if (args[i] == "--admin") settings.admin.listen = args[i + 1];
  }
  const demo_engines engines(2);
  pool_config pool{.name = "demo", .models = {"*"}, .route = policy::prefix};
  for (const std::string& url : engines.urls()) pool.endpoints.push_back({.url = url});
  settings.pools = {pool};
  conf::take_urls_apart(settings);
  return run_proxy(std::make_shared<const config>(std::move(settings)), "", greet);
}

}  // namespace penstock
