#include "proxy/io/log.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <ctime>
#include <string>

#include "proxy/io/clock.hpp"

namespace penstock::io {
namespace {

constexpr std::string_view level_names[] = {"error", "warn", "info", "debug"};

// The one process-wide variable: how much to say is not worth an argument of every function.
std::atomic<log_level> written_level{log_level::info};

}  // namespace

void set_log_level(std::string_view name) {
  for (std::size_t i = 0; i < std::size(level_names); ++i)
    if (level_names[i] == name) written_level = static_cast<log_level>(i);
}

void log(log_level level, std::string_view text) {
  if (level > written_level.load()) return;
  const std::int64_t us = wall_clock_us();
  const std::time_t s = us / 1000000;
  std::tm utc{};
  ::gmtime_r(&s, &utc);
  const std::string line =
      fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z {} {}\n", utc.tm_year + 1900, utc.tm_mon + 1,
                  utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, us / 1000 % 1000,
                  level_names[static_cast<std::size_t>(level)], text);
  // The control thread must not wait for a pipe that nobody reads.
  pollfd sink{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (::poll(&sink, 1, 0) == 0) return;
  [[maybe_unused]] const auto n = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace penstock::io
