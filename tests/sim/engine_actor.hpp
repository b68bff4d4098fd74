// A simulated engine: answers like vLLM, and misbehaves as told.
#pragma once

#include <map>
#include <string>

#include "sim/client_actor.hpp"
#include "sim/world.hpp"

namespace sim {

enum class fault : std::uint8_t {
  none,
  reset_at_once,  // RST when the request came
  fin_at_once,
  reset_midway,
  fin_midway,
  stall_midway,
  garbage,
  status_500,
  status_429,
  error_then_done,  // vLLM at SIGTERM
  no_marker,
  never_answers,
  count_
};

struct engine_behaviour {
  double fault_chance = 0.3;
  duration event_gap = std::chrono::milliseconds(5);
  int events_max = 20;
  bool closes_idle = false;  // ends keep-alive connections early: the stale-connection race
};

class engine_actor : public actor {
 public:
  engine_actor(world& w, int index, engine_behaviour how, truths& truth)
      : world_(w), index_(index), how_(how), truth_(truth) {}

  void connected(socket_id link) override;
  void got(socket_id link, bytes_view bytes) override;
  void closed(socket_id link, bool reset) override;
  // Answers that are still being produced although their connection is closed: must be none.
  std::size_t running() const { return running_; }
  // A request killed it: its connections are reset, and nobody gets another.
  bool dead() const { return dead_; }

 protected:
  struct connection {
    socket_id link;
    std::string inbox;
    bool busy = false;
    std::size_t head = 0, whole = 0;  // of the next request, once its head is there
  };
  struct job {
    socket_id link;
    std::uint64_t id = 0;
    std::size_t attempt = 0;
    fault what = fault::none;
    int events = 0, written = 0, break_at = 0;
    bool usage = false;
    instant began{};
    bool foreign = false;                  // made of another request's KV
    bool streams = false, headed = false;  // ... and the head of the stream is out
  };
  virtual void die();
  // FIN, and nothing that comes on this link is read any more.
  void hang_up(socket_id link);
  // A request of which something else than an answer is wanted: true when it was taken care of. `j` is the
  // answer's otherwise.
  virtual bool take_leg(job&, const std::string& /*body*/) { return false; }
  static std::uint64_t key(socket_id s) { return (std::uint64_t{s.generation} << 32) | s.index; }
  static socket_id link_of(std::uint64_t key) {
    return {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)};
  }

  void take(connection& c);
  void answer(const connection& c, const std::string& body);
  // Draws what becomes of the request and begins to answer.
  void begin(job j, const std::string& body);
  void act(const job& j);
  void send_head(job& j);
  void answer_whole(const job& j, int status);
  void stream(const job& j);
  void next_event(job j);
  void check_departure(const job& j);
  void end_stream(const job& j);
  void write_event(socket_id link, const std::string& event);
  void finish_job(const job& j);

  world& world_;
  int index_;
  engine_behaviour how_;
  truths& truth_;
  std::map<std::uint64_t, connection> links_;
  std::size_t running_ = 0;
  bool dead_ = false;
};

}  // namespace sim
