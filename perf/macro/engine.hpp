// The benchmark's engine: answers out of prebuilt bytes, streams one SSE event a chunk on a schedule.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "loop.hpp"
#include "wire.hpp"

namespace penstock::perf {

struct engine_options {
  std::vector<std::uint16_t> ports;
  std::vector<std::uint16_t> prefill_ports;  // of engines that answer with a hand-off
  std::uint32_t prefill_blocks = 0;          // that it names
  bool stream = false;                       // a POST is answered by a stream, else by one JSON object
  nanos event_interval = 20'000'000;         // of one stream
  std::uint32_t events_max = 0;              // content events of a stream; 0: until end_streams()
  nanos tick = 0;                            // events leave at multiples of it; 0: each at its own instant
};

struct engine_counters {
  std::uint64_t events = 0;   // sent, without the usage event that a proxy may have asked for
  std::uint64_t answers = 0;  // to POSTs, not streamed
  std::uint64_t prefills = 0;
  std::uint64_t streams = 0;  // begun
  std::uint64_t broken = 0;   // streams whose peer left, requests that were no HTTP
};

class engine_connection;

class engine {
 public:
  engine(poller& p, engine_options options);
  ~engine();
  // Sends what is due; the time of the next event, or `never`.
  nanos tick(nanos time);
  // Streams end at their next event: finish reason, usage where asked, [DONE].
  void end_streams() { ending_ = true; }
  const engine_counters& counters() const { return counters_; }

 private:
  friend class engine_connection;
  class acceptor;
  struct due_event {
    nanos at;
    engine_connection* connection;  // lives until its due event was seen, closed or not
    bool operator>(const due_event& other) const { return at > other.at; }
  };
  void accept(int fd, bool prefills);
  void start_stream(engine_connection& c, nanos time);
  void close(engine_connection& c);
  void remove(engine_connection& c);

  poller& poller_;
  engine_options options_;
  std::string prefill_answer_;
  engine_counters counters_;
  bool ending_ = false;
  std::vector<std::unique_ptr<acceptor>> acceptors_;
  std::vector<std::unique_ptr<engine_connection>> connections_;
  // A heap, not ticks: each stream keeps its own phase, so events reach the proxy one by one and not in
  // bunches of a timer's width.
  std::priority_queue<due_event, std::vector<due_event>, std::greater<>> due_;
  std::minstd_rand phase_{20261122};
  std::vector<char> scratch_;
};

}  // namespace penstock::perf
