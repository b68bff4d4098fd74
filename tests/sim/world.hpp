// A simulated network and clock under one real worker: every delay, split and fault comes from a seed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "penstock/random.hpp"
#include "proxy/worker/driver.hpp"

namespace sim {

using penstock::bytes_view;
using penstock::duration;
using penstock::instant;
using penstock::worker::socket_id;

// The far end of a socket of the worker: a client or an engine.
class actor {
 public:
  virtual ~actor() = default;
  virtual void connected(socket_id link) = 0;
  virtual void got(socket_id link, bytes_view bytes) = 0;
  // The worker closed: orderly (after what it sent) or with a reset.
  virtual void closed(socket_id link, bool reset) = 0;
};

// Bugs that a test plants at the seam to show that the checks find them.
enum class planted : std::uint8_t {
  none,
  swallow_client_loss,  // the worker never hears that a client reset its connection
  lose_written_bytes,   // a write claims to have taken more than it did
  repeat_engine_bytes,  // a piece of an engine's answer arrives twice
  swallow_ticks,        // deadlines never pass
  swallow_hang_ups,     // engines never hear that the worker closed
};

// What the network does; drawn per run.
struct weather {
  duration latency_max = std::chrono::milliseconds(3);
  std::size_t window = 16 * 1024;  // bytes in flight to a peer before the worker has to wait
  std::size_t piece_max = 4096;    // largest piece in which bytes arrive
  duration batch_max = std::chrono::microseconds(200);  // between events that may be told together
};

// What became of what an actor sent: the worker has it all, a reset overtook it, or the worker had closed.
enum class hearing : std::uint8_t { whole, reset, closed };

class world final : public penstock::worker::driver {
 public:
  explicit world(std::uint64_t seed) : rng(seed) {}

  penstock::prng rng;
  weather net;
  planted bug = planted::none;

  void attach(penstock::worker::driver_events& events) { events_ = &events; }
  // When the reset of the client of a request arrived at the worker, by request.
  std::map<std::uint64_t, instant> departed;
  // Engines that died of a request, by request.
  std::map<std::uint64_t, std::set<int>> killed;
  // What actors saw that must not happen.
  std::vector<std::string> complaints;

  // Engines by the port of their address.
  std::function<actor*(std::uint16_t port)> engine_at;

  void at(duration delay, std::function<void()> what);
  duration jitter(duration most) {
    return duration(static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(most.count()) + 1)));
  }
  bool chance(double p) { return rng.unit() < p; }

  // Runs until nothing is scheduled and `next_tick` is never, or until `end`. False: `end` was reached.
  bool run(instant end, const std::function<instant()>& next_tick);

  // Actors' side of a link.
  socket_id join(actor& client);                 // connects to the worker
  void send(socket_id link, std::string bytes);  // to the worker, in pieces, after a delay
  void finish(socket_id link);                   // FIN behind what was sent
  // RST: overtakes what was sent; `arrived` is called when it gets there.
  void reset(socket_id link, std::function<void()> arrived = nullptr);
  void consume(socket_id link, std::size_t n);  // frees the worker's window
  // Calls back once it is known what became of everything that was sent so far, FIN and reset included.
  void when_heard(socket_id link, std::function<void(hearing)> what);
  std::size_t open_links() const;

  instant now() const override { return now_; }
  instant precise_now() const override { return now_; }
  socket_id connect(const penstock::net_address& to) override;
  std::size_t write(socket_id to, std::span<const bytes_view> parts) override;
  void pause(socket_id s) override;
  void resume(socket_id s) override;
  void finish_sending(socket_id s) override;
  void close(socket_id s, bool abort) override;
  void accept_more(bool) override {}

 private:
  // What waits for the first `at` bytes of a link.
  struct mark {
    std::uint64_t at = 0;
    bool fin = false;
    std::function<void(hearing)> what;
  };
  struct link {
    std::uint32_t generation = 0;
    bool open = false;  // the worker holds this id
    bool client = false, connecting = false, paused = false;
    bool wants_writable = false;
    bool fin_sent = false;  // by the worker
    std::size_t window = 0;
    std::deque<std::string> inbox;  // towards the worker
    std::uint64_t sent = 0, heard = 0;
    std::deque<mark> marks;
    bool fin = false, fin_told = false, leaving_told = false, resetting = false, pumping = false;
    actor* peer = nullptr;
  };
  struct event {
    instant when;
    std::uint64_t order;
    std::function<void()> what;
    // The earliest is a heap's greatest.
    bool operator<(const event& o) const { return when != o.when ? when > o.when : order > o.order; }
  };

  link* find(socket_id s);
  socket_id make(actor* peer, bool client);
  void pump_soon(socket_id s);
  void pump(socket_id s);
  void tell_marks(socket_id s);
  void let_go(socket_id s, hearing how);
  void to_peer(socket_id s, std::function<void(actor&)> what);

  penstock::worker::driver_events* events_ = nullptr;
  std::vector<event> queue_;  // a heap
  std::uint64_t order_ = 0;
  instant now_{std::chrono::seconds(1000)};
  std::vector<link> links_;
  std::vector<std::uint32_t> free_;
  std::vector<instant> last_to_peer_;  // keeps the order of what goes to a peer
};

}  // namespace sim
