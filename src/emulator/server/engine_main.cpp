// `penstock engine`.
#include <fmt/format.h>
#include <sys/resource.h>

#include <boost/asio/signal_set.hpp>
#include <boost/system/system_error.hpp>
#include <csignal>
#include <cstdio>

#include "emulator/server/engine_server.hpp"

namespace penstock::emulator {
namespace {

// Thousands of streams need thousands of descriptors.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int serve(const engine_options& options) {
  boost::asio::io_context context(1);
  engine_server server(context, options);
  const std::string model = options.models.empty() ? "emulated" : options.models.front();
  fmt::print("emulated engine {} serves \"{}\" at http://{}:{}\n", options.class_name, model, options.host,
             server.port());
  std::fflush(stdout);
  boost::asio::signal_set signals(context, SIGTERM, SIGINT);
  signals.async_wait([&](boost::system::error_code ec, int) {
    if (!ec) server.terminate([&] { context.stop(); });
  });
  context.run();
  return 0;
}

}  // namespace

int engine_main(std::span<const std::string> args) {
  const parsed_options parsed = parse_engine_options(args);
  if (parsed.help) {
    fmt::print("{}", engine_help());
    return 0;
  }
  if (!parsed.error.empty()) {
    fmt::print(stderr, "penstock engine: {}\n", parsed.error);
    return 1;
  }
  raise_descriptor_limit();
  try {
    return serve(parsed.options);
  } catch (const boost::system::system_error& e) {
    fmt::print(stderr, "penstock engine: cannot listen on {}:{}: {}\n", parsed.options.host,
               parsed.options.port, e.code().message());
    return 2;
  }
}

}  // namespace penstock::emulator
