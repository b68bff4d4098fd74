// The emulated engine on a TCP port.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "emulator/server/engine_options.hpp"

namespace penstock::emulator {

// Serves as soon as the context runs, which one thread may do at a time; several engines may share a
// context. Throws boost::system::system_error when it cannot listen and std::invalid_argument for an
// unknown class.
class engine_server {
 public:
  engine_server(boost::asio::io_context& context, const engine_options& options);
  // To be called on the context's thread or when nobody runs it.
  ~engine_server();
  engine_server(const engine_server&) = delete;
  engine_server& operator=(const engine_server&) = delete;

  std::uint16_t port() const;
  // Closes the listener and all connections, with RST where an answer is open: kill -9. From any thread.
  void stop();
  // SIGTERM as vLLM takes it: running streams get an error event, [DONE] and a clean end; `done` is called
  // when all connections are closed, at most 2 s later. On the context's thread.
  void terminate(std::function<void()> done);

 private:
  class hub;

  boost::asio::io_context& context_;
  std::shared_ptr<hub> hub_;
};

// `penstock engine ARGS`: serves until SIGTERM or SIGINT. Returns the exit code: 0 ended, 1 bad options,
// 2 cannot listen.
int engine_main(std::span<const std::string> args);

}  // namespace penstock::emulator
