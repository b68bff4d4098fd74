// A decode engine's connection to one prefill engine.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "emulator/server/kv_loader.hpp"

namespace penstock::emulator {

// Connects at once and goes on trying until the handshake times out, as ZeroMQ does; then, or when the
// connection is lost, all its loads fail and its owner forgets it. Lives in its owner's map, in loads and in
// pending handlers.
class kv_peer final : public std::enable_shared_from_this<kv_peer> {
 public:
  kv_peer(kv_loader& owner, std::string address);

  void start(const std::string& host, std::uint16_t port);
  void close();

  bool ready() const { return state_ == state::ready; }
  const std::string& engine_id() const { return engine_id_; }

  void join(kv_load& load);
  void leave(const kv_load& load);
  // Sends a line to the engine of that id ("": any) once it is reached; nobody else gets it.
  void say(const std::string& engine, std::string line);

 private:
  enum class state : std::uint8_t { connecting, greeting, ready, closed };

  void connect();
  void greet();
  void met();
  void read();
  void on_line(std::string_view line);
  void write();
  void beat();
  void lost();

  kv_loader* owner_;  // null once closed
  std::string address_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::ip::tcp::endpoint endpoint_;
  boost::asio::steady_timer timer_;     // between attempts, then of the handshake, then of heartbeats
  boost::asio::steady_timer deadline_;  // until it must be ready
  state state_ = state::connecting;
  std::string engine_id_;
  std::map<std::uint64_t, kv_load*> loads_;                 // by tag
  std::vector<std::pair<std::string, std::string>> early_;  // said before it was ready: engine and line
  std::string inbox_, waiting_, sending_;
};

}  // namespace penstock::emulator
