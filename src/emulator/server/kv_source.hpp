// The prefill side of a hand-off: leases on pinned blocks, and the side channel where other engines fetch.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/model/kv_lease.hpp"
#include "emulator/server/engine_core.hpp"
#include "emulator/server/hand_off.hpp"

namespace penstock::emulator {

// Lines of text over TCP, one message each; a field that may hold blanks comes last.
//   decode engine                    prefill engine
//   hello ENGINE-ID                  engine ENGINE-ID
//   read TAG BLOCK,BLOCK,... LEASE   content TAG HEX TOKENS
//   beat LEASE, done LEASE, abort LEASE
// Single-threaded: everything runs on the thread of the context.
class kv_source {
 public:
  kv_source(boost::asio::io_context& context, engine_core& core, const hand_off_options& options);
  ~kv_source();
  kv_source(const kv_source&) = delete;
  kv_source& operator=(const kv_source&) = delete;

  // Throws boost::system::system_error.
  void listen(const std::string& host, std::string engine_id);
  // Closes the channel and all connections of it.
  void stop();

  // Takes over the pinned blocks of a sequence that has finished: the lease of that id.
  const kv_lease& grant(std::string id, std::uint64_t sequence, std::uint64_t content, std::uint32_t tokens);

  const std::string& engine_id() const { return engine_id_; }
  const std::string& host() const { return host_; }
  std::uint16_t port() const { return port_; }
  const lease_table& leases() const { return leases_; }

 private:
  class session;

  void accept();
  std::string answer(std::string_view line);
  void arm();

  engine_core& core_;
  lease_table leases_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer expiry_;
  std::set<std::shared_ptr<session>> sessions_;
  std::string engine_id_, host_;
  std::uint16_t port_ = 0;
  instant armed_for_ = never;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace penstock::emulator
