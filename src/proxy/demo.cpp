// `penstock demo`: emulated engines and the proxy in one process; two that do all, or two that prefill and
// two that decode.
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
  explicit demo_engines(const std::vector<endpoint_role>& roles) {
    for (const endpoint_role role : roles) {
      emulator::engine_options options;
      options.port = 0;
      options.models = {"demo"};
      if (role != endpoint_role::both) {
        options.hand_off.connector = emulator::connector_kind::nixl;
        options.hand_off.role = *emulator::role_named(name(role));
      }
      servers_.push_back(std::make_unique<emulator::engine_server>(context_, options));
    }
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

void greet_disaggregated(const running_addresses& at) {
  std::printf(
      "\nPenstock serves two emulated prefill and two decode engines (model \"demo\", connector nixl) on "
      "http://%s\n"
      "Status page: http://%s/ and /metrics /readyz /debug/fleet\n"
      "\nTry a long prompt: one engine prefills it, another decodes, and the answer's head names both.\n"
      "(Prompts below 200 tokens go straight to a decode engine.)\n\n"
      "  curl -isN http://%s/v1/chat/completions -H 'Content-Type: application/json' \\\n"
      "    -H 'x-penstock-explain: 1' -d '{\"model\":\"demo\",\"stream\":true,\"max_tokens\":16,"
      "\"stream_options\":{\"include_usage\":true},'\\\n"
      "    '\"messages\":[{\"role\":\"user\",\"content\":\"'\"$(seq -s ' ' 600)\"'\"}]}'\n"
      "\nOnce more, and it goes straight to the decode engine, which holds it now. http://%s/debug/fleet "
      "shows "
      "the pair.\n"
      "\nCtrl-C ends it.\n\n",
      at.data.c_str(), at.admin.c_str(), at.data.c_str(), at.admin.c_str());
  std::fflush(stdout);
}

}  // namespace

int demo_command(arguments args) {
  std::vector<std::string> options(args.begin(), args.end());
  const bool split = std::erase(options, "--disaggregated") != 0;
  config settings = conf::defaults();
  settings.timeouts.drain_settle = duration{};
  settings.log.access = "stdout";
  settings.server.expose_routing = true;
  for (std::size_t i = 0; i < options.size(); i += 2) {
    const bool known = options[i] == "--listen" || options[i] == "--admin";
    if (!known || i + 1 == options.size()) {
      return usage(args,
                   "usage: penstock demo [--disaggregated] [--listen HOST:PORT] [--admin HOST:PORT]\n\n"
                   "Two emulated engines and the proxy in one process, until Ctrl-C.\n"
                   "  --disaggregated      two engines that prefill and two that decode\n"
                   "  --listen HOST:PORT   where clients connect (127.0.0.1:8080)\n"
                   "  --admin HOST:PORT    status page and metrics (127.0.0.1:9090)\n");
    }
    const auto parsed = conf::parse_listen_address(options[i + 1]);
    if (const auto* error = std::get_if<conf::address_error>(&parsed)) {
      std::fprintf(stderr, "%s %s: %s\n", options[i].c_str(), options[i + 1].c_str(), error->what.c_str());
      return 1;
    }
    if (options[i] == "--listen") settings.server.listen = {options[i + 1]};
    if (options[i] == "--admin") settings.admin.listen = options[i + 1];
  }
  std::vector<endpoint_role> roles(2, endpoint_role::both);
  if (split)
    roles = {endpoint_role::prefill, endpoint_role::prefill, endpoint_role::decode, endpoint_role::decode};
  const demo_engines engines(roles);
  pool_config pool{.name = "demo", .models = {"*"}, .route = policy::prefix};
  // By cost an idle engine would do all itself, and there would be nothing to see.
  constexpr std::int64_t shown_from = 200;
  if (split) pool.disaggregation = {.enabled = true, .split = shown_from};
  for (const std::string& url : engines.urls())
    pool.endpoints.push_back({.role = roles[pool.endpoints.size()], .url = url});
  settings.pools = {pool};
  conf::take_urls_apart(settings);
  return run_proxy(std::make_shared<const config>(std::move(settings)), "",
                   split ? greet_disaggregated : greet);
}

}  // namespace penstock
