// One request inside the engine, from its parsed body to the last byte of its answer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "emulator/server/answer_shape.hpp"
#include "emulator/server/engine_core.hpp"
#include "emulator/server/framer.hpp"
#include "emulator/server/hand_off.hpp"
#include "emulator/server/kv_agent.hpp"

namespace penstock::emulator {

enum class outcome : std::uint8_t { open, finished, aborted, refused, broken };
std::string_view name(outcome o);

// What an exchange takes from the server. `flush` makes the connection look at the wire; it must not
// destroy the exchange before it returned.
struct exchange_setup {
  engine_core& core;
  engine_request request;
  fault_plan plan;
  framing how;
  answer_identity identity;
  std::uint64_t cache_seed = 0;
  std::function<void()> flush;
  // Called once with the prompt and answer of a response, for previous_response_id.
  std::function<void(const std::string& id, std::vector<token_id> tokens)> remember;
  kv_agent* kv = nullptr;  // set where `leg` is one
  hand_off_leg leg;
  bool asked_for_more = false;  // a prefill leg whose one token is all that the engine makes of it
};

// Owns its sequences: destroying it takes them out of the engine at once.
class exchange final : public token_sink {
 public:
  exchange(exchange_setup setup, wire& out);
  ~exchange() override;
  exchange(const exchange&) = delete;
  exchange& operator=(const exchange&) = delete;

  // Writes the head of a stream, as vLLM does before prefill.
  void open();
  // Puts its sequences into the engine.
  void submit();
  // SIGTERM: ends as a dying vLLM does.
  void terminate();
  // The client left: its sequences leave the engine at once.
  void abandon();

  void on_event(const engine_event& event) override;
  void flush() override { setup_.flush(); }

  outcome result() const { return result_; }
  std::uint32_t generated() const { return generated_; }

 private:
  struct choice {
    std::uint64_t sequence = 0;  // 0: finished
    std::uint32_t prompt = 0;    // index into the request's prompts
    std::uint32_t tokens = 0;
    std::uint32_t cached = 0;
    std::uint32_t created = 0;  // prompt tokens that its whole blocks add to the cache
    bool begun = false;
    bool needs_kv = false, lost_kv = false;
    std::unique_ptr<kv_load> load;
    bool open = false;  // its decode leg has not fetched yet
  };

  void submit_choice(std::uint32_t index);
  bool meets() const { return setup_.leg.kind == leg_kind::prefill && setup_.leg.waits; }
  void expect_choice(std::uint32_t index);
  void on_closed(std::uint32_t index, bool fetched);
  std::vector<std::uint64_t> names_of(std::uint32_t index, std::uint64_t seed) const;
  void on_load(std::uint32_t index, std::uint32_t tokens);
  void on_kv(std::uint32_t index, kv_load_result result);
  void hand_over(std::uint32_t index, std::uint64_t sequence);
  void fail_load();
  void on_token(std::uint32_t index);
  void send_token(std::uint32_t index);
  void send(answer_shape::events& events);
  void break_off(const std::string& next_event);
  void finish();
  void finish_whole();
  void release();
  void decline();
  usage_counts usage_of(const choice& c) const;
  usage_counts total_usage() const;

  exchange_setup setup_;
  framer framer_;
  std::unique_ptr<answer_shape> shape_;
  std::vector<choice> choices_;
  std::vector<answer> answers_;
  answer_shape::events events_;  // scratch
  std::uint32_t generated_ = 0;
  std::size_t unfinished_ = 0;
  bool stalled_ = false, submitted_ = false;
  outcome result_ = outcome::open;
};

}  // namespace penstock::emulator
