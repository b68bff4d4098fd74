// One real worker on a driver that a test plays by hand.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "proxy/worker/worker.hpp"

namespace penstock::worker::testing {

using namespace std::chrono_literals;

// Sockets as records: what the worker wrote, and what it asked for.
class hand_driver final : public driver {
 public:
  struct socket {
    std::string out;            // what the peer can read
    std::size_t window = npos;  // bytes the peer still takes
    std::uint16_t port = 0;     // of an engine's address
    bool client = false, open = true, paused = false, fin = false, reset = false, wants_writable = false;
  };
  static constexpr std::size_t npos = static_cast<std::size_t>(-1);

  instant now() const override { return clock; }
  instant precise_now() const override { return clock; }
  socket_id connect(const net_address& to) override {
    const socket_id s = add(false);
    sockets[s.index].port = to.port;
    connecting.push_back(s);
    return s;
  }
  std::size_t write(socket_id to, std::span<const bytes_view> parts) override {
    ++writes;
    socket& s = sockets[to.index];
    std::size_t taken = 0;
    for (const bytes_view part : parts) {
      const std::size_t n = std::min(part.size(), s.window);
      s.out += part.substr(0, n);
      if (s.window != npos) s.window -= n;
      taken += n;
      if (n < part.size()) {
        s.wants_writable = true;
        break;
      }
    }
    return taken;
  }
  void pause(socket_id s) override { sockets[s.index].paused = true; }
  void resume(socket_id s) override { sockets[s.index].paused = false; }
  void finish_sending(socket_id s) override { sockets[s.index].fin = true; }
  void close(socket_id s, bool abort) override {
    sockets[s.index].open = false;
    sockets[s.index].reset = abort;
  }
  void accept_more(bool wanted) override { accepting = wanted; }

  socket_id add(bool client) {
    sockets.push_back({.client = client});
    return {static_cast<std::uint32_t>(sockets.size() - 1), 1};
  }
  socket& at(socket_id s) { return sockets[s.index]; }

  instant clock{1000s};
  std::vector<socket> sockets;
  std::vector<socket_id> connecting;  // in the order of the calls
  bool accepting = true;
  int writes = 0;
};

struct recorder final : observer {
  std::vector<account_record> accounts;
  std::vector<endpoint_outcome> outcomes;
  std::multiset<std::uint64_t> claims;
  void account(const account_record& r) override { accounts.push_back(r); }
  void outcome(const endpoint_outcome& o) override { outcomes.push_back(o); }
  bool claim_request_id(std::uint64_t hash) override {
    if (claims.count(hash) != 0) return false;
    claims.insert(hash);
    return true;
  }
  void release_request_id(std::uint64_t hash) override { claims.erase(claims.find(hash)); }
};

inline config settings() {
  config c;
  c.limits = {.head_bytes = 32768,
              .head_fields = 100,
              .body_bytes = 1 << 20,
              .body_memory = 64 << 20,
              .stream_buffer = 4096,
              .buffer_memory = 64 << 20,
              .held_bytes = 16384,
              .event_bytes = 1 << 20,
              .connections = 1000,
              .idle_per_endpoint = 16,
              .retry_budget = 0.2};
  c.timeouts = {.connect = 2s,
                .request_head = 10s,
                .request_body = 60s,
                .memory_wait = 1s,
                .body_rate = 1024,
                .first_token = 30s,
                .between_events = 10s,
                .total = 600s,
                .client_idle = 60s,
                .engine_idle = 4s,
                .client_stall = 20s,
                .sse_keepalive = 15s};
  c.routing = {
      .table_bytes = 1 << 16, .block_bytes = 1024, .lambda = 8, .sequence_cost = 200, .load_factor = 1.25};
  return c;
}

inline std::shared_ptr<fleet_view> fleet_of(const config& c, std::size_t engines) {
  auto fleet = std::make_shared<fleet_view>();
  fleet->version = 1;
  fleet->settings = std::make_shared<const config>(c);
  fleet->ready = true;
  fleet->pools.push_back({.name = "main", .models = {"*"}});
  for (std::size_t i = 0; i < engines; ++i) {
    endpoint_view e;
    e.id = {static_cast<std::uint16_t>(i), 1};
    e.settings.url = fmt::format("http://engine-{}", i);
    e.authority = fmt::format("engine-{}", i);
    e.addresses = {{.kind = net_address::family::ipv4, .port = static_cast<std::uint16_t>(i + 1)}};
    e.state = life::up;
    fleet->endpoints.push_back(e);
    fleet->pools[0].endpoints.push_back(static_cast<std::uint32_t>(i));
  }
  return fleet;
}

class bench {
 public:
  explicit bench(const config& c = settings(), std::size_t engines = 1) : bench(fleet_of(c, engines)) {}
  explicit bench(std::shared_ptr<fleet_view> f)
      : fleet(std::move(f)),
        shared(fleet->settings->routing),
        w(std::make_unique<worker>(
            worker_parts{.io = io, .told = told, .routing = shared, .fleet = fleet, .seed = 1})) {}

  socket_id client() {
    const socket_id s = io.add(true);
    w->accepted(s, "10.0.0.1:4711");
    return s;
  }
  // Bytes from the peer of a socket, straight into the body where the worker offers that.
  void give(socket_id s, bytes_view bytes) {
    while (!bytes.empty()) {
      const std::span<char> direct = w->receive_target(s);
      if (direct.empty()) {
        w->received(s, bytes);
        break;
      }
      const std::size_t n = std::min(direct.size(), bytes.size());
      std::copy_n(bytes.data(), n, direct.data());
      bytes.remove_prefix(n);
      w->received_there(s, n);
    }
    w->batch_ended();
  }
  // The oldest connection that the worker asked for stands now.
  socket_id engine() {
    if (io.connecting.empty()) return {};
    const socket_id s = io.connecting.front();
    io.connecting.erase(io.connecting.begin());
    w->connected(s, alpn::http1);
    w->batch_ended();
    return s;
  }
  // The peer takes `n` more bytes.
  void take(socket_id s, std::size_t n) {
    auto& sock = io.at(s);
    sock.window = n == hand_driver::npos ? n : sock.window + n;
    if (!std::exchange(sock.wants_writable, false)) return;
    w->writable(s);
    w->batch_ended();
  }
  // What the peer has read since the last call.
  std::string read(socket_id s) {
    w->batch_ended();
    return std::exchange(io.at(s).out, std::string());
  }

  void wait(duration d) {
    const instant until = io.clock + d;
    while (w->next_tick() <= until) {
      io.clock = std::max(io.clock, w->next_tick());
      w->tick();
      w->batch_ended();
    }
    io.clock = until;
  }

  // Every client leaves and time passes: what is still held then was leaked.
  bool rests() {
    for (std::uint32_t i = 0; i < io.sockets.size(); ++i)
      if (io.sockets[i].client && io.sockets[i].open) w->finished({i, 1});
    wait(10min);
    const auto h = w->held();
    const auto load = shared.board.read({0, 1});
    const bool open = std::any_of(io.sockets.begin(), io.sockets.end(), [](const auto& s) { return s.open; });
    return h.clients + h.engines + h.idle_engines + h.requests + h.body_bytes + h.buffer_bytes + h.timers ==
               0 &&
           !open && told.claims.empty() && load.sequences == 0 &&
           load.prefill_tokens + load.decode_tokens == 0;
  }

  std::shared_ptr<fleet_view> fleet;
  hand_driver io;
  recorder told;
  routing::shared_state shared;
  std::unique_ptr<worker> w;
};

inline std::string post(std::string_view body, std::string_view fields = "", std::string_view version = "1.1",
                        std::string_view path = "/v1/chat/completions") {
  return fmt::format(
      "POST {} HTTP/{}\r\nHost: h\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n{}", path,
      version, fields, body.size(), body);
}
inline constexpr std::string_view stream_body =
    R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]})";
inline constexpr std::string_view json_body =
    R"({"model":"m","messages":[{"role":"user","content":"hello"}]})";
inline constexpr std::string_view json_answer =
    R"({"id":"a","usage":{"prompt_tokens":5,"completion_tokens":2}})";

inline std::string answer_of(std::string_view body, int status = 200, std::string_view fields = "") {
  return fmt::format("HTTP/1.1 {} X\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n{}",
                     status, fields, body.size(), body);
}
inline constexpr std::string_view stream_head =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
inline std::string chunk(std::string_view bytes) {
  return fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
}
inline std::string token(std::string_view text) {
  return fmt::format("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", text);
}
inline constexpr std::string_view end_marker = "data: [DONE]\n\n";
inline constexpr std::string_view last_chunk = "0\r\n\r\n";

inline bool has(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }
inline bool begins(std::string_view text, std::string_view part) {
  return text.substr(0, part.size()) == part;
}

// Body of one chunked answer; "?" when its framing is broken, without the end when it is not there.
inline std::string dechunk(std::string_view answer, bool* complete = nullptr) {
  const std::size_t head = answer.find("\r\n\r\n");
  if (head == answer.npos) return "?";
  answer.remove_prefix(head + 4);
  std::string body;
  if (complete != nullptr) *complete = false;
  while (!answer.empty()) {
    const std::size_t line = answer.find("\r\n");
    if (line == answer.npos) return "?";
    const std::size_t n = std::stoul(std::string(answer.substr(0, line)), nullptr, 16);
    if (answer.size() < line + 4 + n) return "?";
    body += answer.substr(line + 2, n);
    if (answer.substr(line + 2 + n, 2) != "\r\n") return "?";
    answer.remove_prefix(line + 4 + n);
    if (n == 0 && complete != nullptr) *complete = true;
  }
  return body;
}

}  // namespace penstock::worker::testing
