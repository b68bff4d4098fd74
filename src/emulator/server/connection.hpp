// One client connection of an emulated engine: reads requests, sends what exchanges write.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <memory>
#include <span>

namespace penstock::emulator {

class service;
class connection;

// What a connection takes from the server it belongs to.
class connection_owner {
 public:
  virtual ~connection_owner() = default;
  virtual service& engine() = 0;
  // Memory for one read; used before control returns to the loop.
  virtual std::span<char> read_buffer() = 0;
  // The connection is closed and forgets its owner.
  virtual void closed(connection& which) = 0;
};

// The socket is watched for reading in every state, so that a client that leaves takes its sequences out
// of the engine at once. Lives in its owner's list and in pending handlers; after close() it does not
// touch its owner.
class connection {
 public:
  virtual ~connection() = default;
  virtual void start() = 0;
  // RST when an answer is open, else FIN.
  virtual void close() = 0;
  // Ends the answer as a dying vLLM does, then closes.
  virtual void terminate() = 0;
  // Closes what has been idle for `keep_alive` (0: never) or lingers in its close.
  virtual void sweep(std::chrono::steady_clock::time_point now, std::chrono::milliseconds keep_alive) = 0;
};

std::shared_ptr<connection> make_connection(boost::asio::ip::tcp::socket socket, connection_owner& owner);

}  // namespace penstock::emulator
