// The admin listener over loopback, spoken to byte by byte.
#include "proxy/admin/admin_server.hpp"

#include <doctest/doctest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>
#include <fstream>

using namespace penstock::admin;
namespace asio = boost::asio;

namespace {

struct rig {
  rig()
      : server(
            context,
            {{"/metrics",
              [](const auto& answer) { answer({.content_type = "text/plain", .body = "m 1\n"}); }},
             {"/readyz", [](const auto& answer) { answer({.status = 503, .body = "{}"}); }},
             {"/late",
              [this](const auto& answer) { asio::post(context, [answer] { answer({.body = "late"}); }); }}},
            {{"/form", [](const form& f, const auto& answer) {
                std::string said = f.query + ":" + std::to_string(f.body.size());
                for (const auto& [name, value] : f.fields)
                  if (name == "X-Tenant") said += " of " + value;
                answer({.content_type = "text/plain", .body = std::move(said)});
              }}}) {}

  // Sends the text and collects what comes until the server closes (every text asks for that).
  template <class Socket>
  std::string talk(Socket& socket, const std::string& text) {
    std::string got;
    bool over = false;
    asio::async_write(socket, asio::buffer(text), [](boost::system::error_code, std::size_t) {});
    asio::async_read(socket, asio::dynamic_buffer(got),
                     [&](boost::system::error_code, std::size_t) { over = true; });
    while (!over && context.run_one_for(std::chrono::seconds(10)) != 0) {
    }
    CHECK(over);
    return got;
  }
  std::string ask(const std::string& text) {
    asio::ip::tcp::socket socket(context);
    const std::string at = server.address();
    const std::size_t colon = at.rfind(':');
    socket.connect({asio::ip::make_address(at.substr(0, colon)),
                    static_cast<unsigned short>(std::stoi(at.substr(colon + 1)))});
    return talk(socket, text);
  }
  std::string get(const std::string& path, const std::string& method = "GET") {
    return ask(method + " " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  }

  asio::io_context context;
  admin_server server;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

struct scratch {
  scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "penstock-admin-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root = name;
  }
  ~scratch() { std::filesystem::remove_all(root); }
  std::string root;
};

}  // namespace

TEST_CASE("admin_server: pages, with their status and type") {
  rig r;
  REQUIRE(r.server.listen("127.0.0.1:0").empty());
  const std::string metrics = r.get("/metrics?x=1");
  CHECK(has(metrics, "HTTP/1.1 200 OK\r\n"));
  CHECK(has(metrics, "Content-Type: text/plain\r\n"));
  CHECK(has(metrics, "Content-Length: 4\r\n"));
  CHECK(has(metrics, "\r\n\r\nm 1\n"));
  CHECK(has(r.get("/readyz"), "HTTP/1.1 503 "));
  CHECK(has(r.get("/late"), "\r\n\r\nlate"));
}

TEST_CASE("admin_server: an unknown page lists those there are") {
  rig r;
  REQUIRE(r.server.listen("127.0.0.1:0").empty());
  const std::string got = r.get("/nothing");
  CHECK(has(got, "HTTP/1.1 404 "));
  CHECK(has(got, "/metrics\n"));
  CHECK(has(got, "/readyz\n"));
}

TEST_CASE("admin_server: only GET and HEAD") {
  rig r;
  REQUIRE(r.server.listen("127.0.0.1:0").empty());
  for (const char* method : {"POST", "PUT", "DELETE", "PATCH"})
    CHECK(has(r.get("/metrics", method), "HTTP/1.1 405 "));
  const std::string head = r.get("/metrics", "HEAD");
  CHECK(has(head, "HTTP/1.1 200 OK\r\n"));
  CHECK(has(head, "Content-Length: 4\r\n"));
  CHECK(head.substr(head.size() - 4) == "\r\n\r\n");
}

TEST_CASE("admin_server: several requests on one connection, in order, however they are cut") {
  rig r;
  REQUIRE(r.server.listen("127.0.0.1:0").empty());
  const std::string got = r.ask(
      "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\nGET /late HTTP/1.1\r\nHost: h\r\n\r\n"
      "GET /nothing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  CHECK(got.find("m 1\n") < got.find("late"));
  CHECK(got.find("late") < got.find("no such page"));
}

TEST_CASE("admin_server: nonsense and heads without an end are closed") {
  rig r;
  REQUIRE(r.server.listen("127.0.0.1:0").empty());
  r.ask("\x16\x03\x01 not http\r\n\r\n");
  r.ask("GET / HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n");
  CHECK(has(r.get("/metrics"), "200 OK"));
}

TEST_CASE("admin_server: at most 64 connections, and room again when they end") {
  rig r;
  REQUIRE(r.server.listen("127.0.0.1:0").empty());
  const std::string at = r.server.address();
  const asio::ip::tcp::endpoint there(asio::ip::make_address("127.0.0.1"),
                                      static_cast<unsigned short>(std::stoi(at.substr(at.rfind(':') + 1))));
  {
    std::vector<asio::ip::tcp::socket> open;
    for (int i = 0; i < 64; ++i) {
      open.emplace_back(r.context);
      open.back().connect(there);
    }
    CHECK(r.get("/metrics").empty());
  }
  std::string got;
  for (int i = 0; i < 100 && got.empty(); ++i) got = r.get("/metrics");
  CHECK(has(got, "200 OK"));
}

TEST_CASE("admin_server: a form takes a POST up to 4 MiB, and nothing else") {
  rig r;
  REQUIRE(r.server.listen("127.0.0.1:0").empty());
  const auto post = [&](const std::string& path, std::size_t bytes) {
    return r.ask("POST " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: " +
                 std::to_string(bytes) + "\r\n\r\n" + std::string(bytes, 'x'));
  };
  CHECK(has(post("/form?/v1/messages", 100000), "/v1/messages:100000"));
  CHECK(has(post("/form", 0), "\r\n\r\n:0"));
  CHECK(has(r.get("/form"), "405"));
  CHECK(has(post("/metrics", 3), "405"));
  CHECK(has(r.get("/nothing"), "/form (POST)"));
  CHECK_FALSE(has(post("/form", (std::size_t{4} << 20) + 1), "200 OK"));
}

TEST_CASE("admin_server: a busy address is named") {
  rig one, two;
  REQUIRE(one.server.listen("127.0.0.1:0").empty());
  const std::string why = two.server.listen(one.server.address());
  CHECK(why.find("cannot listen on " + one.server.address() + " for the admin pages") == 0);
  CHECK_FALSE(two.server.listen("nonsense").empty());
}

TEST_CASE("admin_server: a unix socket, made and removed; left-over ones replaced, other files not") {
  const scratch dir;
  const std::string path = dir.root + "/admin";
  {
    asio::io_context context;
    asio::local::stream_protocol::acceptor died(context, asio::local::stream_protocol::endpoint(path));
  }
  REQUIRE(std::filesystem::exists(path));
  {
    rig r;
    REQUIRE(r.server.listen("unix:" + path).empty());
    CHECK(r.server.address() == "unix:" + path);
    asio::local::stream_protocol::socket socket(r.context);
    socket.connect(path);
    CHECK(has(r.talk(socket, "GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), "m 1\n"));
    rig second;
    CHECK_FALSE(second.server.listen("unix:" + path).empty());
    second.server.close();
    CHECK(std::filesystem::exists(path));
  }
  CHECK_FALSE(std::filesystem::exists(path));
  const std::string file = dir.root + "/precious";
  std::ofstream(file) << "data";
  {
    rig r;
    CHECK_FALSE(r.server.listen("unix:" + file).empty());
  }
  CHECK(std::filesystem::file_size(file) == 4);
}

TEST_CASE("admin_server: closed, nothing is left to run") {
  rig r;
  REQUIRE(r.server.listen("127.0.0.1:0").empty());
  const std::string at = r.server.address();
  asio::ip::tcp::socket socket(r.context);
  socket.connect({asio::ip::make_address("127.0.0.1"),
                  static_cast<unsigned short>(std::stoi(at.substr(at.rfind(':') + 1)))});
  r.server.close();
  socket.close();
  r.context.run_for(std::chrono::seconds(10));
  CHECK(r.context.stopped());
}
