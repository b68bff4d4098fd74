// Simulated engines of a split pool: they hand prefills on as vLLM's NIXL connector does, pin blocks until
// somebody fetches them or the lease is over, and answer a late or repeated read with other text.
#pragma once

#include <map>
#include <string>

#include "sim/engine_actor.hpp"

namespace sim {

// Blocks of all prefill engines of a run.
struct lease_book {
  struct pinned {
    instant until{};
    bool fetched = false;
    bool excused =
        false;  // the engine broke the connection, or the proxy hung up before the answer reached it
  };
  std::map<std::uint64_t, pinned> leases;
  std::uint64_t wrong_reads = 0;
};

struct handoff_behaviour {
  double fault_chance = 0.2;  // of a prefill leg
  duration lease = std::chrono::seconds(30);
  duration answer_time =
      std::chrono::milliseconds(1);  // from the head to the end of a prefill answer, at most
  bool prefills_only = false;
};

class handoff_actor final : public engine_actor {
 public:
  handoff_actor(world& w, int index, engine_behaviour how, handoff_behaviour legs, truths& truth,
                lease_book& book)
      : engine_actor(w, index, how, truth), legs_(legs), book_(book) {}

  void closed(socket_id link, bool reset) override;

 private:
  bool take_leg(job& j, const std::string& body) override;
  void prefill(const job& j);
  void grant(const job& j);

  handoff_behaviour legs_;
  lease_book& book_;
  std::map<std::uint64_t, std::uint64_t> granted_;  // by link: the lease of its last answer
};

}  // namespace sim
