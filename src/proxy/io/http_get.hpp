// One GET to an engine, for probes and scrapes, or one POST of JSON; Beast behind a small door.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "penstock/net_address.hpp"
#include "penstock/time.hpp"

namespace penstock::io {

struct get_request {
  net_address to;
  std::string authority, target;
  std::vector<std::pair<std::string, std::string>> headers;
  duration timeout{};
  std::size_t body_limit = 16u << 20;
  std::string post;  // not empty: POST of this JSON
};

// How it went. `failed` stages match health's probe outcomes.
struct get_result {
  enum class outcome : std::uint8_t { answered, connect_failed, connect_timeout, timeout, reset, garbage };
  outcome how = outcome::answered;
  int status = 0;
  std::string body;
};

// Starts it on the control thread's context; `done` runs there exactly once, never inside this call.
void http_get(boost::asio::io_context& context, get_request request, std::function<void(get_result)> done);

}  // namespace penstock::io
