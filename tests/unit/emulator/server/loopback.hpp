// An emulated engine on a free port and a plain blocking client for it.
#pragma once

#include <doctest/doctest.h>
#include <simdjson.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <functional>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "emulator/server/engine_server.hpp"

namespace penstock::emulator::test {

namespace asio = boost::asio;
using asio::ip::tcp;

inline engine_options instant_options() {
  engine_options o;
  o.port = 0;
  o.class_name = "instant";
  o.models = {"tiny"};
  o.max_model_len = 4096;
  return o;
}

// How a connection ended.
enum class ending { open, fin, rst };

struct reply {
  std::string raw;  // all bytes
  int status = 0;
  std::string head, body;  // de-chunked
  std::vector<std::string> chunks;
  bool complete = false;  // by length or last chunk
  ending end = ending::open;

  // The data of server-sent events.
  std::vector<std::string> data() const {
    std::vector<std::string> all;
    for (std::size_t at = 0; (at = body.find("data: ", at)) != std::string::npos;) {
      const std::size_t stop = body.find("\n\n", at);
      all.push_back(body.substr(at + 6, stop - at - 6));
      at = stop == std::string::npos ? body.size() : stop;
    }
    return all;
  }
};

class client {
 public:
  explicit client(std::uint16_t port) : socket_(context_) {
    socket_.connect({asio::ip::address_v4::loopback(), port});
  }

  void send(const std::string& bytes) { asio::write(socket_, asio::buffer(bytes)); }
  void post(const std::string& path, const std::string& body, const std::string& headers = {},
            const std::string& type = "application/json") {
    send("POST " + path + " HTTP/1.1\r\nHost: e\r\nContent-Type: " + type + "\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  // One read; empty at the end of the connection.
  std::string read_some() {
    char buffer[65536];
    boost::system::error_code ec;
    const std::size_t n = socket_.read_some(asio::buffer(buffer), ec);
    if (ec == asio::error::eof) end_ = ending::fin;
    if (ec && ec != asio::error::eof) end_ = ending::rst;
    return {buffer, n};
  }
  // `all` holds what was read before.
  std::string read_until(const std::string& text, std::string all = {}) {
    while (all.find(text) == std::string::npos && end_ == ending::open) all += read_some();
    return all;
  }
  // Reads one answer, or to the end of the connection.
  reply read();
  bool readable_within(std::chrono::milliseconds t) {
    socket_.non_blocking(true);
    const auto until = std::chrono::steady_clock::now() + t;
    bool ready = false;
    while (!ready && std::chrono::steady_clock::now() < until) {
      char c = 0;
      boost::system::error_code ec;
      ready = socket_.receive(asio::buffer(&c, 1), tcp::socket::message_peek, ec) > 0 ||
              (ec && ec != asio::error::would_block);
      if (!ready) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    socket_.non_blocking(false);
    return ready;
  }
  void close() { socket_.close(); }
  ending end() const { return end_; }
  std::string rest;  // bytes after the last answer

 private:
  asio::io_context context_;
  tcp::socket socket_;
  ending end_ = ending::open;
};

// True when `r` holds a whole answer; fills it.
inline bool parse_reply(reply& r, std::string& rest) {
  const std::size_t start = r.raw.starts_with("HTTP/1.1 1") ? r.raw.find("\r\n\r\n") + 4 : 0;
  const std::size_t head_end = r.raw.find("\r\n\r\n", start);
  if (head_end == std::string::npos) return false;
  r.head = r.raw.substr(start, head_end + 4 - start);
  if (!r.head.starts_with("HTTP/1.1 ")) return false;
  r.status = std::stoi(r.head.substr(9, 3));
  r.body.clear();
  r.chunks.clear();
  std::size_t at = head_end + 4;
  if (const std::size_t cl = r.head.find("content-length: "); cl != std::string::npos) {
    const std::size_t n = std::stoul(r.head.substr(cl + 16));
    r.body = r.raw.substr(at, n);
    rest = r.raw.size() > at + n ? r.raw.substr(at + n) : "";
    return r.complete = r.raw.size() >= at + n;
  }
  if (r.head.find("transfer-encoding: chunked") == std::string::npos) {
    r.body = r.raw.substr(at);
    return false;
  }
  for (;;) {
    const std::size_t line = r.raw.find("\r\n", at);
    if (line == std::string::npos) return false;
    std::size_t n = 0;
    try {
      n = std::stoul(r.raw.substr(at, line - at), nullptr, 16);
    } catch (const std::exception&) {
      return false;
    }
    if (r.raw.size() < line + 2 + n + 2) return false;
    at = line + 2 + n + 2;
    if (n == 0) {
      rest = r.raw.substr(at);
      return r.complete = true;
    }
    r.chunks.push_back(r.raw.substr(line + 2, n));
    r.body += r.chunks.back();
  }
}

inline reply client::read() {
  reply r;
  r.raw = std::move(rest);
  rest.clear();
  while (!parse_reply(r, rest) && end_ == ending::open) r.raw += read_some();
  r.end = end_;
  return r;
}

class engine {
 public:
  explicit engine(const engine_options& options = instant_options()) : server_(context_, options) {
    thread_ = std::thread([this] { context_.run(); });
  }
  ~engine() {
    server_.stop();
    thread_.join();
  }
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;

  std::uint16_t port() const { return server_.port(); }
  engine_server& server() { return server_; }
  asio::io_context& context() { return context_; }

  reply post(const std::string& path, const std::string& body, const std::string& headers = {},
             const std::string& type = "application/json") {
    client c(port());
    c.post(path, body, headers, type);
    return c.read();
  }
  reply get(const std::string& path, const std::string& method = "GET") {
    client c(port());
    c.send(method + " " + path + " HTTP/1.1\r\nHost: e\r\n\r\n");
    return c.read();
  }
  // A number of /debug/requests.
  std::int64_t debug(const std::string& key) {
    simdjson::dom::parser parser;
    std::int64_t v = -1;
    const std::string body = get("/debug/requests").body;
    REQUIRE(parser.parse(body)[key].get(v) == simdjson::SUCCESS);
    return v;
  }
  // Waits for a condition, at most 5 s.
  static bool eventually(const std::function<bool()>& is) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (std::chrono::steady_clock::now() < until) {
      if (is()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }

 private:
  asio::io_context context_{1};
  engine_server server_;
  std::thread thread_;
};

inline const std::string chat_body =
    R"({"model":"tiny","messages":[{"role":"user","content":"Hello, what is a licence?"}],"max_tokens":8})";
inline const std::string stream_body =

    R"({"model":"tiny","messages":[{"role":"user","content":"Hello, what is a licence?"}],)"
    R"("max_tokens":8,"stream":true})";

}  // namespace penstock::emulator::test
