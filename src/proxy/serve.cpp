// `penstock serve` and `penstock check`.
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "proxy/admin/admin_server.hpp"
#include "proxy/admin/explain_page.hpp"
#include "proxy/admin/fleet_page.hpp"
#include "proxy/admin/metrics_page.hpp"
#include "proxy/admin/status_page.hpp"
#include "proxy/commands.hpp"
#include "proxy/config/load.hpp"
#include "proxy/config/reference.hpp"
#include "proxy/io/clock.hpp"
#include "proxy/io/log.hpp"
#include "proxy/io/process.hpp"
#include "proxy/io/service_manager.hpp"

namespace penstock {
namespace {

// More is no configuration and no request.
constexpr std::size_t largest_file = std::size_t{1} << 30;

std::optional<std::string> environment_variable(std::string_view name) {
  const char* value = std::getenv(std::string(name).c_str());
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

// The admin pages of a running process.
std::map<std::string, admin::page_maker> pages_of(io::process& running) {
  std::map<std::string, admin::page_maker> pages;
  pages["/"] = [&running](const auto& answer) {
    running.collect([&running, answer](const worker::worker_metrics& cells, bool) {
      answer(
          {.content_type = "text/html; charset=utf-8",
           .body = admin::status_page(cells, *running.fleet(), running.routing().board, io::read_clock())});
    });
  };
  pages["/metrics"] = [&running](const auto& answer) {
    running.collect([&running, answer](const worker::worker_metrics& cells, bool) {
      const auto& reloads = running.reloads();
      answer({.content_type = "text/plain; version=0.0.4; charset=utf-8",
              .body = admin::metrics_page(cells, *running.fleet(),
                                          {.reloads_good = reloads.good,
                                           .reloads_rejected = reloads.rejected,
                                           .last_reload_good = reloads.last_good,
                                           .log_lines_dropped = running.log_lines_dropped(),
                                           .workers = running.workers(),
                                           .now = io::read_clock()})});
    });
  };
  // Alive: the control loop answers, and so does every worker (collect() asks them all).
  pages["/livez"] = [&running](const auto& answer) {
    running.collect([answer](const worker::worker_metrics&, bool complete) {
      if (complete) return answer({.content_type = "text/plain", .body = "ok\n"});
      answer({.status = 503, .content_type = "text/plain", .body = "a worker does not answer\n"});
    });
  };
  pages["/readyz"] = [&running](const auto& answer) {
    const auto fleet = running.fleet();
    if (fleet->ready) return answer({.content_type = "text/plain", .body = "ok\n"});
    answer({.status = 503,
            .content_type = "text/plain",
            .body = fleet->draining ? "draining\n" : "no endpoint is up: see /debug/fleet\n"});
  };
  pages["/debug/fleet"] = [&running](const auto& answer) {
    running.collect([&running, answer](const worker::worker_metrics& cells, bool) {
      answer({.body = admin::fleet_page(cells, *running.fleet(), running.routing().board, io::read_clock())});
    });
  };
  return pages;
}

std::map<std::string, admin::form_maker> forms_of(io::process& running) {
  std::map<std::string, admin::form_maker> forms;
  // The query may name the call: /debug/explain?/v1/messages
  forms["/debug/explain"] = [&running](admin::form asked, const auto& answer) {
    running.collect([&running, asked = std::move(asked), answer](const worker::worker_metrics& cells, bool) {
      http::request_head head;
      for (const auto& [name, value] : asked.fields) head.fields.push_back({.name = name, .value = value});
      auto told = admin::explain_request(asked.body, asked.query, head, running.settings(), running.routing(),
                                         cells.pairs, *running.fleet(), io::read_clock());
      answer({.status = told.good ? 200 : 422,
              .content_type = "text/plain; charset=utf-8",
              .body = std::move(told.text)});
    });
  };
  return forms;
}

}  // namespace

int usage(arguments args, std::string_view text) {
  const bool asked = std::ranges::any_of(args, [](const auto& a) { return a == "--help" || a == "-h"; });
  std::fwrite(text.data(), 1, text.size(), asked ? stdout : stderr);
  return asked ? 0 : static_cast<int>(io::exit_code::configuration);
}

std::optional<std::string> read_file(const std::string& path) {
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  std::string text;
  int error = file == nullptr ? errno : 0;
  char buffer[64 * 1024];
  while (file != nullptr && error == 0) {
    const std::size_t n = std::fread(buffer, 1, sizeof buffer, file);
    text.append(buffer, n);
    if (std::ferror(file) != 0) error = errno;
    if (n < sizeof buffer) break;
    if (text.size() > largest_file) error = EFBIG;
  }
  if (file != nullptr) std::fclose(file);
  if (error == 0) return text;
  std::fprintf(stderr, "%s: cannot be read: %s\n", path.c_str(), std::strerror(error));
  return std::nullopt;
}

std::shared_ptr<const config> read_configuration(const std::string& file) {
  const auto text = read_file(file);
  if (!text) return nullptr;
  const conf::loaded result = conf::load(*text, file, environment_variable);
  for (const conf::problem& p : result.errors) std::fprintf(stderr, "%s\n", conf::to_string(p).c_str());
  for (const conf::problem& p : result.warnings)
    std::fprintf(stderr, "warning: %s\n", conf::to_string(p).c_str());
  return result.value;
}

int run_proxy(std::shared_ptr<const config> settings, const std::string& reread,
              void (*greeting)(const running_addresses&)) {
  boost::asio::io_context context(1);
  io::config_source source;
  if (!reread.empty()) source = [reread] { return read_configuration(reread); };
  io::process running(context, settings, source);
  admin::admin_server pages(context, pages_of(running), forms_of(running));
  if (!settings->admin.listen.empty()) {
    if (const std::string error = pages.listen(settings->admin.listen); !error.empty()) {
      io::log(io::log_level::error, error);
      return static_cast<int>(io::exit_code::cannot_listen);
    }
  }
  if (const std::string error = running.start(); !error.empty()) {
    io::log(io::log_level::error, error);
    return static_cast<int>(io::exit_code::cannot_listen);
  }
  for (const std::string& address : running.addresses())
    io::log(io::log_level::info, "serving on " + address);
  const std::string admin_address = settings->admin.listen.empty() ? "" : pages.address();
  if (!admin_address.empty()) io::log(io::log_level::info, "admin pages on " + admin_address);
  if (greeting != nullptr) greeting({running.addresses().front(), admin_address});
  io::exit_code code = io::exit_code::drained;
  running.on_drained = [&](io::exit_code c) {
    code = c;
    pages.close();
    context.stop();
  };
  context.run();
  return static_cast<int>(code);
}

int serve_command(arguments args) {
  if (args.size() != 2 || (args[0] != "-c" && args[0] != "--config")) {
    return usage(
        args,
        "usage: penstock serve -c FILE\n\n"
        "Runs the proxy that FILE describes. SIGHUP reads FILE again, SIGTERM drains, SIGUSR1 opens the\n"
        "access log again. FILE needs no more than the engines (conf/REFERENCE.md has every key):\n\n"
        "  [[pool]]\n  [[pool.endpoint]]\n  url = \"http://127.0.0.1:8000\"\n");
  }
  const auto settings = read_configuration(args[1]);
  if (settings == nullptr) return static_cast<int>(io::exit_code::configuration);
  return run_proxy(settings, args[1], nullptr);
}

int check_command(arguments args) {
  const bool print = args.size() == 2 && args[0] == "--print", live = args.size() == 2 && args[0] == "--live";
  if (args.size() != (print || live ? 2u : 1u) || args.back().starts_with('-')) {
    return usage(args,
                 "usage: penstock check [--print | --live] FILE\n\n"
                 "Reports every mistake in FILE; exit code 0 where there is none.\n"
                 "  --print   the configuration that results, defaults included\n"
                 "  --live    asks the engines too, with two one-token completions each\n");
  }
  const auto settings = read_configuration(args.back());
  if (settings == nullptr) return static_cast<int>(io::exit_code::configuration);
  if (print) {
    std::printf("%s", conf::effective_toml(*settings).c_str());
    return 0;
  }
  if (live) return check_live(settings);
  std::size_t endpoints = 0;
  for (const pool_config& pool : settings->pools) endpoints += pool.endpoints.size();
  std::printf("%s: valid; %zu pool%s, %zu endpoint%s\n", args.back().c_str(), settings->pools.size(),
              settings->pools.size() == 1 ? "" : "s", endpoints, endpoints == 1 ? "" : "s");
  return 0;
}

}  // namespace penstock
