// A simulated OpenAI client: sends requests in pieces, reads or dawdles or leaves, and judges what it got.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sim/world.hpp"

namespace sim {

// What the engines did with one request, in the order of the attempts; written by engine_actor.
struct attempt_truth {
  int engine = 0;
  std::uint64_t events = 0;  // content events written
  bool done_marker = false;
  bool error_event = false;
  bool usage_asked = false;
  bool withheld = false;  // its prefill leg has not ended well: nothing of it may reach the client
};
using truths = std::map<std::uint64_t, std::vector<attempt_truth>>;

struct client_behaviour {
  int requests = 1;
  bool pipelined = false;
  bool stream = true;
  bool wants_usage = false;
  bool reads_slowly = false;
  double leave_chance = 0;  // per request: goes away at some moment
  bool leaves_with_reset = false;
  bool huge_body = false;
  bool one_byte_pieces = false;
  bool poison = false;  // its requests kill the engines that read them
};

// Lives until the run ends; several requests one after the other on one connection.
class client_actor final : public actor {
 public:
  client_actor(world& w, std::uint64_t first_request, client_behaviour how)
      : world_(w), how_(how), next_id_(first_request) {}

  void begin();
  void connected(socket_id) override {}
  void got(socket_id link, bytes_view bytes) override;
  void closed(socket_id link, bool reset) override;

  // Complaints about the answers, one line each; empty: all is well.
  std::vector<std::string> judge(const truths& truth) const;
  // Ids whose complete answers arrived: each must have been accounted exactly once.
  std::vector<std::uint64_t> answered() const;

 private:
  struct answer {
    std::uint64_t id = 0;
    int status = 0;
    bool sse = false, chunked = false, complete = false, cut = false;
    std::size_t length = 0;
    std::string body;
  };

  void send_request();
  void leave_later();
  void read_answers();
  bool read_head();
  bool read_body();
  std::string request_text(std::uint64_t id) const;
  void judge_stream(const answer& a, const std::vector<attempt_truth>& did,
                    std::vector<std::string>& out) const;

  world& world_;
  client_behaviour how_;
  std::uint64_t next_id_;
  int sent_ = 0;
  bool gone_ = false, closed_ = false;
  socket_id link_;
  std::string inbox_;
  std::vector<answer> answers_;  // the last one may be open
  bool in_body_ = false;
  std::vector<std::uint64_t> asked_;
};

}  // namespace sim
