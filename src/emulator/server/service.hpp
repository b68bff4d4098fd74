// The engine's HTTP API without HTTP: which path does what, under which faults.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "emulator/server/engine_core.hpp"
#include "emulator/server/engine_options.hpp"
#include "emulator/server/exchange.hpp"
#include "emulator/server/request_log.hpp"
#include "penstock/random.hpp"

namespace penstock::emulator {

// A request as the connection read it.
struct engine_call {
  std::string method, target;
  std::string content_type, request_id, faults, dp_rank;  // header values, or empty
  std::string head, body;                                 // as received
};

// What the connection does with a call: wait `delay_head`, open the exchange if there is one, wait
// `delay_first`, submit it. Without an exchange the wire is filled already.
struct engine_reply {
  std::unique_ptr<exchange> running;
  fault_plan plan;
  std::uint64_t log_id = 0;  // 0: not logged
  std::string adapter;
  outcome ended = outcome::finished;  // where nothing runs
};

class service {
 public:
  service(boost::asio::io_context& context, const engine_options& options, const engine_settings& settings);

  engine_reply handle(engine_call call, const framing& how, wire& out, std::function<void()> flush);
  // Closes the log entry of a reply.
  void ended(const engine_reply& reply, std::uint16_t status, outcome how, std::uint32_t tokens);

  engine_core& core() { return core_; }
  // Engines of one seed mint different ids: a client may ask any of them for an earlier response.
  // The side channel of hand-offs opens; throws boost::system::system_error when it cannot.
  void listens_on(std::uint16_t port);
  // Nothing of this engine answers or fetches any more.
  void stop();
  // Faults of the server itself.
  bool refuses() const;
  bool resets_next_accept();
  // Called when the switches changed.
  void on_faults_changed(std::function<void()> call) { faults_changed_ = std::move(call); }

  std::size_t connections = 0;  // open, kept by the server
  std::uint64_t accepted = 0;

 private:
  void apply_rules(const engine_call& call, leg_kind leg, fault_plan& plan, std::string& error);
  leg_reading leg_of(const engine_call& call) const;
  std::optional<api_failure> taken(const hand_off_leg& leg) const;
  void respond(const engine_call& call, const leg_reading& leg, const framing& how, wire& out,
               const std::function<void()>& flush, engine_reply& reply);
  void get(const engine_call& call, std::string_view path, framer& f);
  void debug(const engine_call& call, std::string_view path, framer& f);
  void replace_faults(const engine_call& call, framer& f);
  void generate(engine_api api, const engine_call& call, const leg_reading& leg, const framing& how,
                wire& out, const std::function<void()>& flush, engine_reply& reply, framer& f);
  void transcribe(const engine_call& call, framer& f, engine_reply& reply);
  void detokenize(const engine_call& call, framer& f, engine_reply& reply);
  std::string mint_id(std::string_view asked);
  std::string models_json() const;
  std::string metrics_text();
  void remember(const std::string& id, std::vector<token_id> tokens);

  engine_options options_;
  model_list models_;
  engine_core core_;
  std::unique_ptr<kv_agent> kv_;  // null without a connector
  prng random_;                   // of faults
  prng ids_;
  request_log log_;
  std::int64_t started_ = 0;                                             // Unix time
  std::deque<std::pair<std::string, std::vector<token_id>>> responses_;  // the last 1,024
  std::map<std::string, int> adapters_running_;
  std::function<void()> faults_changed_;
};

}  // namespace penstock::emulator
