// The decode side of a hand-off: connections to prefill engines, and the loads that wait for them.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/model/kv_transfer.hpp"
#include "emulator/server/engine_core.hpp"
#include "emulator/server/hand_off.hpp"

namespace penstock::emulator {

class kv_loader;
class kv_peer;

struct kv_load_result {
  bool arrived = false;
  std::uint64_t content = 0;  // of what arrived; nobody checked that it is the right one
};

// One decode leg's hand-off, from the first contact to the notification. Destroying it before it is over
// aborts it: the prefill engine is told, as soon as it can be reached, that its blocks are not needed.
class kv_load {
 public:
  using done_call = std::function<void(kv_load_result)>;

  // `index`: which of the leg's choices.
  kv_load(kv_loader& loader, const hand_off_leg& leg, std::uint32_t index, done_call done);
  ~kv_load();
  kv_load(const kv_load&) = delete;
  kv_load& operator=(const kv_load&) = delete;

  // The blocks to load into are there: moves `tokens` tokens as soon as the content is known.
  void need(std::uint32_t tokens, double slower);
  // What a broken transfer does.
  void fail();

 private:
  friend class kv_peer;

  void contacted();
  void give_up();
  void content(std::uint64_t what);
  void move();
  void report(kv_load_result result);
  const std::string& id() const { return id_; }

  kv_loader& loader_;
  std::string engine_, id_;
  std::vector<block_id> blocks_;
  bool waits_;
  done_call done_;
  std::shared_ptr<kv_peer> peer_;
  std::uint64_t tag_;
  boost::asio::steady_timer timer_, patience_;
  std::uint32_t tokens_ = 0;  // 0: nobody needs it yet
  double slower_ = 1;
  std::optional<std::uint64_t> content_;
  bool over_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

struct load_counters {
  std::uint64_t transfers = 0, failed = 0, bytes = 0;
  double transfer_seconds = 0, post_seconds = 0;
};

// Single-threaded: everything runs on the thread of the context. Outlives its loads.
class kv_loader {
 public:
  kv_loader(boost::asio::io_context& context, engine_core& core, const hand_off_options& options);
  ~kv_loader();
  kv_loader(const kv_loader&) = delete;
  kv_loader& operator=(const kv_loader&) = delete;

  void call_me(std::string engine_id) { engine_id_ = std::move(engine_id); }
  // Closes all connections; loads that are under way never end.
  void stop();

  const load_counters& counters() const { return counters_; }
  std::size_t peers() const { return peers_.size(); }

 private:
  friend class kv_load;
  friend class kv_peer;

  std::shared_ptr<kv_peer> peer(const std::string& host, std::uint16_t port);

  boost::asio::io_context& context_;
  engine_core& core_;
  const hand_off_options& options_;
  kv_link link_;
  std::string engine_id_;
  std::map<std::string, std::shared_ptr<kv_peer>> peers_;  // by address
  load_counters counters_;
  std::uint64_t next_tag_ = 1;
};

}  // namespace penstock::emulator
