// Simulated engines of a pool whose two legs start at once: they find each other by the name that both bodies
// carry, as vLLM's Mooncake connector does (prefill answers when it has computed and pins the blocks until
// they are fetched) or SGLang (prefill waits for its partner and answers when that has fetched).
#pragma once

#include <map>
#include <string>

#include "sim/engine_actor.hpp"

namespace sim {

class pair_actor;

// What became of one hand-off; written by both engines of it.
struct meeting {
  std::uint64_t request = 0;
  int attempt = -1;  // of the decode leg, in truths
  bool prefill_came = false, decode_came = false;
  bool pinned = false, fetched = false;
  bool told = false;        // the head of the prefill answer came to the proxy
  bool freed = false;       // the decode engine told that nobody wants the blocks
  bool died_alone = false;  // the decode engine failed when the proxy had hung up on it already
  bool ended = false;       // the prefill answer was sent to its end, and well
  // Blocks that a proxy leaves behind, and must know of.
  bool stranded() const { return pinned && told && !fetched && !freed && !died_alone; }
  pair_actor *prefill = nullptr, *decode = nullptr;
  std::uint64_t prefill_link = 0, decode_link = 0;
  std::string first_body;  // of the leg that came first
};

// All hand-offs of a run, by name.
using meeting_book = std::map<std::uint64_t, meeting>;

struct pair_behaviour {
  double fault_chance = 0.2;  // of a leg, before KV has gone over or behind
  duration answer_time =
      std::chrono::milliseconds(1);             // from the head to the end of a prefill answer, at most
  duration patience = std::chrono::seconds(2);  // of a leg whose partner does not come
  bool sglang = false, prefills_only = false, decodes_only = false;
  // To show that the checks fire: calls a prefill answer that ended well a bad one; does not tell its partner
  // that the proxy cut a decode leg.
  bool lies = false, forgets = false;
};

// What goes wrong with a prefill leg.
enum class prefill_fault : std::uint8_t {
  none,
  reset_at_once,  // these seven before blocks are handed over
  fin_at_once,
  never_answers,
  refuses,
  overloaded,
  breaks,
  nothing_handed_on,  // mooncake: the first token ended the answer
  half_an_answer,     // from here on behind the hand-over
  broken_answer,
  error_answer,
  never_ends,
  count_
};

class pair_actor final : public engine_actor {
 public:
  pair_actor(world& w, int index, engine_behaviour how, pair_behaviour legs, truths& truth,
             meeting_book& book)
      : engine_actor(w, index, how, truth), legs_(legs), book_(book) {}

  void closed(socket_id link, bool reset) override;

 private:
  void die() override;
  struct waiting_leg {
    std::uint64_t name = 0;
    job j;
    std::string body;
    bool prefills = false;
  };
  using leg_map = std::map<std::uint64_t, waiting_leg>;

  leg_map::iterator leg_of(std::uint64_t link, std::uint64_t name);
  bool take_leg(job& j, const std::string& body) override;
  void begin_prefill(std::uint64_t name, const job& j, const std::string& body);
  void compute(std::uint64_t name);
  bool fails_early(std::uint64_t name, const job& j, prefill_fault what);
  void note_told(std::uint64_t name);
  void note_death(std::uint64_t name, std::uint64_t link);
  void answer_prefill(std::uint64_t name);
  void end_prefill(std::uint64_t name);
  void begin_decode(std::uint64_t name, const job& j);
  void hand_over(std::uint64_t name);
  void fetch(std::uint64_t name);
  void end_leg(std::uint64_t link);
  void fail_leg(std::uint64_t link, int status);
  void watch_partner(std::uint64_t name, bool prefill_failed);
  void complain_of_partner(std::uint64_t name, bool prefill_failed);

  pair_behaviour legs_;
  meeting_book& book_;
  leg_map legs_here_;  // by link: until answered
};

}  // namespace sim
