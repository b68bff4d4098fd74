// Both sides of hand-offs of one engine, and what it tells about them.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <string>

#include "emulator/server/kv_loader.hpp"
#include "emulator/server/kv_source.hpp"

namespace penstock::emulator {

class kv_agent {
 public:
  kv_agent(boost::asio::io_context& context, engine_core& core, const hand_off_options& options)
      : options_(options), source_(context, core, options_), loader_(context, core, options_) {}

  // Opens the side channel; throws boost::system::system_error.
  void start(const std::string& host, std::string engine_id);
  void stop();

  // Leases the blocks of a prefill leg that has finished: what its answer tells of it, or "".
  struct prefilled {
    std::string id;  // of the lease
    std::uint64_t sequence = 0, content = 0;
    std::uint32_t tokens = 0, cached = 0;
    token_id first_token = 0;
    std::int64_t number = 0;
  };
  std::string grant(const prefilled& p);

  const hand_off_options& options() const { return options_; }
  kv_source& source() { return source_; }
  kv_loader& loader() { return loader_; }

  // For /debug/leases and /metrics; `labels` are those of the engine's other series.
  std::string leases_json(const engine_counters& engine, instant now) const;
  std::string metrics_text(const engine_counters& engine, std::string_view labels) const;

 private:
  hand_off_options options_;
  kv_source source_;
  kv_loader loader_;
};

}  // namespace penstock::emulator
