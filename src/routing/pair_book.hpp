// What one worker learned of pairs of engines: how long a hand-off takes, and which pairs cannot do it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "penstock/ids.hpp"
#include "penstock/time.hpp"

namespace penstock::routing {

// Seconds from the decode request to its first token as a line over the tokens that were transferred, where
// nobody is in the way: least squares, in which a sample weighs half after some 35 more, one above the line a
// tenth, and nothing where the engine was `crowded`.
class transfer_line {
 public:
  void learn(double tokens, double seconds, bool crowded);
  bool known() const { return weight_ >= 1; }
  double estimate(double tokens) const;
  void add(const transfer_line& other);

 private:
  double weight_ = 0, x_ = 0, y_ = 0, xx_ = 0, xy_ = 0;
};

class pair_book {
 public:
  // A pair that failed to hand over is avoided for a minute.
  void failed(endpoint_id prefill, endpoint_id decode, instant now);
  bool avoided(endpoint_id prefill, endpoint_id decode, instant now) const;

  // A decode request came to its first token after `took`; `tokens` were computed elsewhere. `crowded`:
  // others waited for room at the engine when it was sent, so that it waited too, as any request would: it
  // took no longer than that to transfer, and no more is told.
  void handed_over(endpoint_id prefill, endpoint_id decode, std::uint64_t tokens, duration took,
                   bool crowded = false);
  // Engines shake hands at first contact, which takes vLLM's NIXL connector seconds.
  bool connected(endpoint_id prefill, endpoint_id decode) const;

  // What is known of one pair. Seconds of a transfer are base + slope x tokens; `learned` of this pair, else
  // of all of them or by default.
  struct standing {
    endpoint_id prefill, decode;
    bool connected = false, learned = false;
    instant avoided_until{};
    double base = 0, slope = 0;
  };
  std::vector<standing> standings() const;
  // Takes in what another worker learned.
  void add(const pair_book& other);

  // Expected of the next hand-off. A first contact pays off for those that follow, so it counts in part.
  double seconds(endpoint_id prefill, endpoint_id decode, std::uint64_t tokens) const;

 private:
  struct pair {
    transfer_line line;
    instant avoided_until{};
    bool connected = false;
  };
  static std::uint64_t key(endpoint_id prefill, endpoint_id decode);
  const pair* find(endpoint_id prefill, endpoint_id decode) const;
  double transfer(const pair* p, double tokens) const;
  pair& at(endpoint_id prefill, endpoint_id decode);

  std::unordered_map<std::uint64_t, pair> pairs_;
  transfer_line all_;  // of all pairs: what is expected of one that is new
  double handshake_ = 1.0;
  std::uint64_t handshakes_ = 0;  // that were seen
};

}  // namespace penstock::routing
