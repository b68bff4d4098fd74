// penstock: picks the subcommand. What a process is made of is put together in serve.cpp and demo.cpp.
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/server/engine_server.hpp"
#include "proxy/admin/version.hpp"
#include "proxy/commands.hpp"
#include "proxy/config/text.hpp"

namespace {

constexpr std::string_view usage =
    "penstock - an inference proxy that knows which engine holds your prompt\n"
    "\n"
    "  penstock serve -c FILE                   run the proxy (SIGHUP reloads, SIGTERM drains)\n"
    "  penstock check [--print | --live] FILE   validate a configuration; --live asks its engines too\n"
    "  penstock explain -c FILE REQUEST.json [--state URL]\n"
    "                                           what would be done with a request, and why; URL of a "
    "running\n"
    "                                           proxy's admin listener: with what that has learned\n"
    "  penstock engine --port P [...]           an emulated engine, no accelerator needed (--help)\n"
    "  penstock demo [--disaggregated] [--listen HOST:PORT] [--admin HOST:PORT]\n"
    "                                           two emulated engines and the proxy in one process\n"
    "  penstock --version\n"
    "\n"
    "Each command tells more with --help.\n"
    "Exit codes: 0 drained or valid, 1 configuration or usage, 2 cannot listen, 3 drain deadline passed,\n"
    "70 internal error. Configuration reference: conf/REFERENCE.md\n";

int run(const std::vector<std::string>& args) {
  const std::string command = args.empty() ? "" : args.front();
  const penstock::arguments rest = penstock::arguments(args).subspan(args.empty() ? 0 : 1);
  if (command == "serve") return penstock::serve_command(rest);
  if (command == "check") return penstock::check_command(rest);
  if (command == "explain") return penstock::explain_command(rest);
  if (command == "engine") return penstock::emulator::engine_main(rest);
  if (command == "demo") return penstock::demo_command(rest);
  if (command == "--version" || command == "-V" || command == "version") {
    std::printf("penstock %.*s\n", static_cast<int>(penstock::admin::version.size()),
                penstock::admin::version.data());
    return 0;
  }
  const bool help = command == "--help" || command == "-h" || command == "help";
  if (!help && !command.empty()) {
    constexpr std::string_view commands[] = {"serve", "check", "explain", "engine", "demo"};
    const auto near = penstock::conf::nearest(command, commands);
    const std::string hint = near ? "; did you mean '" + std::string(*near) + "'?" : "";
    std::fprintf(stderr, "penstock: unknown command '%s'%s\n\n", command.c_str(), hint.c_str());
  }
  std::fwrite(usage.data(), 1, usage.size(), help ? stdout : stderr);
  return help ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "penstock: internal error: %s\n", e.what());
    return 70;
  }
}
