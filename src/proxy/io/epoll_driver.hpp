// The driver on Linux epoll: one level-triggered set a worker, one loop, no library between.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "proxy/worker/driver.hpp"

namespace penstock::io {

// Sockets of one worker. Everything but the constructor runs on the worker's thread.
class epoll_driver final : public worker::driver {
 public:
  // `wake` becomes readable when `on_wake` shall run. The listening descriptors stay their owner's.
  epoll_driver(std::vector<int> listening, int wake);
  ~epoll_driver() override;
  epoll_driver(const epoll_driver&) = delete;
  epoll_driver& operator=(const epoll_driver&) = delete;

  void attach(worker::driver_events& events) { events_ = &events; }

  // Waits for events until `until` at most and delivers them. `on_wake` runs when `wake` is readable.
  void run_once(instant until, const std::function<void()>& on_wake);

  // Whether this worker shall take new connections: its own wish and (others permitting) its share.
  void set_share_open(bool open);
  bool share_open() const { return share_open_; }
  // Stops for good: the listening sockets are about to be closed.
  void stop_listening();

  instant now() const override { return now_; }
  instant precise_now() const override;
  worker::socket_id connect(const net_address& to) override;
  std::size_t write(worker::socket_id to, std::span<const bytes_view> parts) override;
  void pause(worker::socket_id s) override;
  void resume(worker::socket_id s) override;
  void finish_sending(worker::socket_id s) override;
  void close(worker::socket_id s, bool abort) override;
  void accept_more(bool wanted) override;

 private:
  struct entry {
    int fd = -1;
    std::uint32_t generation = 0;
    std::uint32_t interest = 0;  // what epoll was told
    bool live = false;           // fd may be -1 for a connection that could not even be begun
    bool client = false;
    bool connecting = false;
    bool paused = false;
    bool finished = false;      // everything up to a FIN was read, and that was told
    bool leaving_told = false;  // a FIN was told ahead of unread bytes
    bool unwatched = false;     // out of the set: it hung up and nobody reads from it
    bool broken = false;        // of an engine: lost as told by `how`, once what it sent was read
    worker::loss how{};
  };
  enum class pending_kind : std::uint8_t { connected, lost };
  struct pending {
    worker::socket_id socket;
    pending_kind kind;
    worker::loss how;
  };

  worker::socket_id adopt(int fd, bool client, std::uint32_t interest);
  worker::socket_id connect_failed(worker::loss how);
  entry* find(worker::socket_id s);
  void want(worker::socket_id s, entry& e, std::uint32_t interest);
  void unwatch(entry& e);
  void watch_again(worker::socket_id s, entry& e);
  void fail_later(worker::socket_id s, worker::loss how);
  void release(worker::socket_id s, entry& e);
  void connection_broke(worker::socket_id s, entry& e, worker::loss how);
  void lose(worker::socket_id s, entry& e, worker::loss how);
  void deliver(worker::socket_id s, std::uint32_t happened);
  void receive(worker::socket_id s, bool peer_left);
  void connect_done(worker::socket_id s, entry& e);
  void accept_from(int listening);
  void update_listening();
  void run_pending();

  int set_;
  int wake_;
  std::vector<int> listening_;
  worker::driver_events* events_ = nullptr;
  instant now_;
  std::vector<entry> entries_;
  std::vector<std::uint32_t> free_;
  std::vector<pending> pending_;
  std::vector<pending> running_;
  std::unique_ptr<char[]> buffer_;
  bool wanted_ = true, share_open_ = true, stopped_ = false, in_set_ = false;
  instant retry_accept_ = never;  // out of descriptors: listen again then
};

}  // namespace penstock::io
