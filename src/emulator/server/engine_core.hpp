// The engine model in real time: one timer for all sequences, tokens handed to whoever asked.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "emulator/model/engine_model.hpp"

namespace penstock::emulator {

// Who gets the tokens. Called on the context's thread.
class token_sink {
 public:
  virtual ~token_sink() = default;
  virtual void on_event(const engine_event& event) = 0;
  // After all events of one wake-up: send what was gathered.
  virtual void flush() = 0;
};

// Single-threaded: everything runs on the thread of the context.
class engine_core {
 public:
  engine_core(boost::asio::io_context& context, const engine_settings& settings);

  // Ids are minted here; 0 when the model refuses. `sink` is called until the sequence finished or was
  // cancelled. `slow` stretches the times of its events.
  std::uint64_t submit(sequence request, token_sink& sink, double slow);
  void cancel(std::uint64_t id);

  // Hand-offs, as the model has them.
  void kv_loaded(std::uint64_t id, std::uint32_t max_output_tokens, std::vector<std::uint64_t> names);
  void kv_lost(std::uint64_t id);
  std::span<const block_id> pinned(std::uint64_t id) const { return model_.pinned(id); }
  void unpin(std::uint64_t id);

  // The engine's time, and when that is on the clock.
  instant now() const;
  std::chrono::steady_clock::time_point clock_of(instant at) const;

  // As of the last wake-up, which is never later than the end of the iteration under way.
  engine_counters counters() const { return model_.counters(); }
  const engine_settings& settings() const { return model_.settings(); }
  void reset_prefix_cache() { model_.reset_prefix_cache(); }
  void stop();

 private:
  struct listener {
    token_sink* sink = nullptr;
    double slow = 1;
    instant since{};
  };

  void advance_to(instant at);
  void run();
  void deliver(instant until);
  void dispatch(const engine_event& event);
  void arm();

  engine_model model_;
  boost::asio::steady_timer timer_;
  std::chrono::steady_clock::time_point start_;
  std::unordered_map<std::uint64_t, listener> listeners_;
  std::multimap<instant, engine_event> late_;  // events of stretched sequences, by when they are due
  std::vector<engine_event> events_;
  std::vector<std::uint64_t> touched_;  // sequences whose sinks want a flush
  std::uint64_t next_id_ = 1;
  instant armed_for_ = never;
  bool stopped_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // a timer that fired may outlive us
};

}  // namespace penstock::emulator
