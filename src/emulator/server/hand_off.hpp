// The hand-off of a prefill from one engine to another, as HTTP bodies have it: what a leg asks for, and
// whether it asks as it must.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/model/block_pool.hpp"
#include "emulator/model/kv_transfer.hpp"
#include "emulator/server/leg.hpp"
#include "emulator/server/request.hpp"

namespace penstock::emulator {

enum class engine_role : std::uint8_t { both, prefill, decode };
enum class connector_kind : std::uint8_t { none, nixl };

// Names as on the command line and in the proxy's configuration; nothing for an unknown one.
std::optional<engine_role> role_named(std::string_view name);
std::optional<connector_kind> connector_named(std::string_view name);
// All connectors, for messages.
std::string connector_list();
std::string_view name(engine_role r);
std::string_view name(connector_kind c);

struct hand_off_options {
  connector_kind connector = connector_kind::none;
  engine_role role = engine_role::both;
  std::string engine_id;                               // empty: another one each time the engine starts
  std::uint16_t side_port = 0;                         // where other engines fetch KV; 0: any free one
  std::chrono::milliseconds lease{30'000};             // vLLM's kv_lease_duration, from 0.22 on
  std::chrono::milliseconds handshake_timeout{5'000};  // until a prefill engine that is not there is given up
  transfer_settings transfer;
  bool recompute = false;   // vLLM's kv_load_failure_policy; false: fail
  bool checks_legs = true;  // false: wrong legs are taken as vLLM takes them
};

// One leg as its body describes it. All but `kind` is of a decode leg.
struct hand_off_leg {
  leg_kind kind = leg_kind::none;
  std::string remote_engine, remote_host;
  std::uint16_t remote_port = 0;
  std::string id;  // of the lease
  std::vector<block_id> blocks;
};

struct leg_reading {
  hand_off_leg leg;
  std::optional<api_failure> failure;  // names the field that is wrong or missing
  bool deadly = false;                 // vLLM 0.32.0 fails an assertion and exits
};

// What leg of this engine's connector a body is. A body that is no JSON object is no leg.
leg_reading read_leg(const hand_off_options& options, engine_api api, std::string_view body);

// The kv_transfer_params of a prefill answer, in the order of vLLM 0.32.0.
struct nixl_params {
  std::string_view engine_id, lease_id, host;
  std::uint16_t port = 0;
  const std::vector<block_id>& blocks;
  std::uint32_t tokens = 0, cached = 0;
};
std::string to_json(const nixl_params& p);

}  // namespace penstock::emulator
