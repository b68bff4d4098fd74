// How long KV takes from one engine to another.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "penstock/time.hpp"

namespace penstock::emulator {

struct transfer_settings {
  // 128 KiB a token: 32 layers of 8 KV heads with 128 dimensions in 16 bits (Llama-3-8B).
  std::uint32_t bytes_per_token = 131072;
  double bytes_per_second = 25e9;  // of the receiving engine's link; 0 and less: no time at all
  duration post = std::chrono::microseconds(300);       // of each transfer, whatever its size
  duration handshake = std::chrono::milliseconds(250);  // of the first contact with an engine
};

// The receiving side of an engine: transfers share one link, first come, first served, and each engine that
// is spoken to for the first time costs a handshake. Virtual time of the caller; not thread-safe.
class kv_link {
 public:
  explicit kv_link(const transfer_settings& settings) : settings_(settings) {}

  // When the handshake with that engine is over; `now` when it was met before.
  instant meet(const std::string& engine, instant now);
  // It went away: the next contact is a first one.
  void forget(const std::string& engine) { known_.erase(engine); }
  // When `tokens` tokens that are asked for now have arrived. `slower` stretches this transfer.
  instant transfer(std::uint32_t tokens, instant now, double slower = 1);

  const transfer_settings& settings() const { return settings_; }

 private:
  transfer_settings settings_;
  std::set<std::string> known_;
  instant free_at_{};
};

}  // namespace penstock::emulator
