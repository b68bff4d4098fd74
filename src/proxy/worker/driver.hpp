// The seam between a worker and the world: everything above it is pure and runs unchanged on epoll,
// io_uring, TLS and the simulator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "penstock/bytes.hpp"
#include "penstock/net_address.hpp"
#include "penstock/time.hpp"

namespace penstock::worker {

// A socket of a driver. Indices are small and reused; the generation tells owners of an index apart, so
// an event or a call that comes late hits nobody.
struct socket_id {
  std::uint32_t index = 0xffffffff;
  std::uint32_t generation = 0;
  constexpr explicit operator bool() const { return index != 0xffffffff; }
  friend constexpr bool operator==(socket_id, socket_id) = default;
};

// How a connection was lost. `local`: we lack descriptors, ports or memory; it says nothing of the peer.
enum class loss : std::uint8_t { refused, timed_out, unreachable, reset, local };

// What a connection carries once it stands: selects the codec. HTTP/2 joins with TLS.
enum class alpn : std::uint8_t { http1 };

// What a worker asks of its driver. Calls never call back into the worker: what they cause arrives as a
// later event. All on the worker's own thread.
class driver {
 public:
  virtual ~driver() = default;

  // The time of the current batch of events.
  virtual instant now() const = 0;
  // The time at this very moment, for measuring what we cost within a batch; dearer than now().
  virtual instant precise_now() const = 0;

  // Begins to connect. `connected` or `lost` follows, never at once.
  virtual socket_id connect(const net_address& to) = 0;

  // Sends as much of the parts, in order, as can be taken without waiting, and returns how many bytes
  // were. When that is less than offered, `writable` follows. A broken connection takes everything and
  // reports `lost` later. The bytes are not needed after the call.
  virtual std::size_t write(socket_id to, std::span<const bytes_view> parts) = 0;

  // No `received` until resume(); a client's leaving is told all the same.
  virtual void pause(socket_id s) = 0;
  virtual void resume(socket_id s) = 0;

  // Sends FIN after what was written.
  virtual void finish_sending(socket_id s) = 0;

  // Ends the connection at once; no event of it follows. `abort` sends RST, so that the peer's kernel
  // learns even if it never reads.
  virtual void close(socket_id s, bool abort) = 0;

  // Whether new connections are wanted.
  virtual void accept_more(bool wanted) = 0;
};

// What a driver tells its worker.
class driver_events {
 public:
  // A client connected. `peer` is its address as text, for the log.
  virtual void accepted(socket_id s, std::string_view peer) = 0;
  virtual void connected(socket_id s, alpn codec) = 0;
  // A connection that was being made or stood is gone; the id is dead. What an engine sent before comes
  // first.
  virtual void lost(socket_id s, loss how) = 0;
  // Bytes, valid during the call.
  virtual void received(socket_id s, bytes_view bytes) = 0;
  // Where the next bytes of this socket would best be put; empty for the driver's own buffer. A driver
  // that fills it reports received_there() and not received().
  virtual std::span<char> receive_target(socket_id s) = 0;
  virtual void received_there(socket_id s, std::size_t n) = 0;
  // The peer sent FIN: it will send nothing more. On client sockets this comes even while paused, ahead of
  // bytes that were not read, and once more behind them when reading went on.
  virtual void finished(socket_id s) = 0;
  // What write() could not take may be offered again.
  virtual void writable(socket_id s) = 0;
  // Deadlines are to be compared.
  virtual void tick() = 0;
  // No more of the above for now: what was put off while they came is to be done.
  virtual void batch_ended() = 0;

 protected:
  ~driver_events() = default;
};

}  // namespace penstock::worker
