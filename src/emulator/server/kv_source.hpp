// The prefill side of a hand-off: leases on pinned blocks, and the side channel where other engines fetch.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <map>
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
//   await TAG LEASE                  the same, once there is such a lease that nobody has read
//   beat LEASE, done LEASE, abort LEASE
// A line that begins with GET makes it HTTP, for the bootstrap servers of Mooncake and SGLang.
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

  // Frees what was just granted, where its decode leg has said already that it does not want it.
  void free_declined(const std::string& id);

  // A prefill leg that waits for its decode leg: `met` is called once that asks for the id, `closed` when its
  // lease ended, or with false when all of that took longer than a leg waits. Both in a later turn of the
  // loop. forget() calls it off.
  struct meeting {
    std::function<void()> met;
    std::function<void(bool fetched)> closed;
  };
  void expect(const std::string& id, meeting m);
  void forget(const std::string& id) {
    meetings_.erase(id);
    told_.erase(id);
  }
  // Prefill legs whose ids the proxy minted: one of a name at a time, until its lease ended.
  bool in_use(const std::string& id) const { return under_way_.contains(id) || leases_.find(id) != nullptr; }
  void begin_leg(const std::string& id) { under_way_.insert(id); }
  void end_leg(const std::string& id) {
    under_way_.erase(id);
    declined_.erase(id);
  }

  const std::string& engine_id() const { return engine_id_; }
  const std::string& host() const { return host_; }
  std::uint16_t port() const { return port_; }
  const lease_table& leases() const { return leases_; }

 private:
  class session;

  struct waiter {
    std::weak_ptr<session> who;
    std::string tag;
  };
  struct expected {
    meeting calls;
    boost::asio::steady_timer patience;
    bool met = false, granted = false;
  };

  void accept();
  std::string answer(std::string_view line, const std::shared_ptr<session>& from);
  std::string bootstrap(std::string_view request) const;
  void meet(const std::string& id);
  void serve(const std::string& id);
  void close(const std::string& id, bool fetched);
  void tell(const std::string& id, bool fetched);
  // A decode leg may be here before its lease.
  bool may_come() const {
    return options_.connector == connector_kind::mooncake || options_.connector == connector_kind::sglang;
  }
  bool drop_waiter(std::string_view id, const std::shared_ptr<session>& from);
  void arm();

  engine_core& core_;
  const hand_off_options& options_;
  lease_table leases_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer expiry_, pause_;
  std::set<std::shared_ptr<session>> sessions_;
  std::multimap<std::string, waiter, std::less<>> waiting_;  // decode legs, by lease
  std::set<std::string> under_way_;
  // Mooncake: prefill legs under way whose decode leg does not want the blocks any more. Its engine asks for
  // none of them, and that request waits until they are there (send_kv_to_decode).
  std::set<std::string> declined_;
  std::map<std::string, expected> meetings_;
  std::map<std::string, std::function<void(bool)>> told_;  // closed, and not called yet
  std::string engine_id_, host_;
  std::uint16_t port_ = 0;
  instant armed_for_ = never;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace penstock::emulator
