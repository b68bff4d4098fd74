// Simulated engines of a pool whose legs go one after the other: they hand prefills on as vLLM's NIXL and
// MoRI-IO connectors do, or TensorRT-LLM; pin blocks until somebody fetches them or the lease is over, and
// answer a late or repeated read with other text.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "penstock/disaggregation.hpp"
#include "sim/engine_actor.hpp"

namespace sim {

// Blocks of all prefill engines of a run.
struct lease_book {
  struct pinned {
    instant until{};
    std::string name;  // what the prefill leg called it, if it did
    std::uint64_t request = 0;
    int engine = 0;
    bool told = false;     // the head of the prefill answer came to the proxy
    bool cut = false;      // ... or was on its way when that had closed
    bool fetched = false;  // or freed by who was to fetch
  };
  std::map<std::uint64_t, pinned> leases;
  std::uint64_t wrong_reads = 0;
};

struct handoff_behaviour {
  penstock::connector_kind connector = penstock::connector_kind::nixl;
  double fault_chance = 0.2;  // of a prefill leg
  duration lease = std::chrono::seconds(30);
  duration answer_time =
      std::chrono::milliseconds(1);  // from the head to the end of a prefill answer, at most
  bool prefills_only = false;
  bool forgets = false;  // to fetch: shows that the check fires
};

class handoff_actor final : public engine_actor {
 public:
  handoff_actor(world& w, int index, engine_behaviour how, handoff_behaviour legs, truths& truth,
                lease_book& book)
      : engine_actor(w, index, how, truth), legs_(legs), book_(book) {}

 private:
  bool take_leg(job& j, const std::string& body) override;
  void check_prefill(const std::string& body);
  void check_decode(const lease_book::pinned& l, std::uint64_t id, const std::string& body);
  std::optional<std::uint64_t> lease_in(const std::string& body) const;
  void prefill(const job& j, const std::string& name);
  void finish_with_prefill(const job& j);
  void grant(const job& j, const std::string& name);
  void note_heard(std::uint64_t lease, socket_id link);
  std::string answer_of(std::uint64_t lease, const std::string& name) const;
  void answer_slowly(const job& j, const std::string& body, std::uint64_t lease);

  handoff_behaviour legs_;
  lease_book& book_;
};

}  // namespace sim
