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
enum class connector_kind : std::uint8_t { none, nixl, mooncake, sglang, trtllm, moriio };

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
  std::string engine_id;        // empty: another one each time the engine starts
  std::uint16_t side_port = 0;  // where other engines fetch KV, and the bootstrap server; 0: any free one
  std::uint32_t dp_size = 1;    // data-parallel ranks of a prefill engine
  std::chrono::milliseconds lease{0};                  // 0: the connector's
  std::chrono::milliseconds handshake_timeout{5'000};  // until a prefill engine that is not there is given up
  std::chrono::milliseconds partner_timeout{0};        // of a leg whose other leg does not come; 0: the lease
  transfer_settings transfer;
  bool recompute = false;   // vLLM's kv_load_failure_policy; false: fail
  bool checks_legs = true;  // false: wrong legs are taken as vLLM takes them
};

// How long KV waits to be fetched: as told, or as the connector has it.
std::chrono::milliseconds lease_of(const hand_off_options& options);
std::chrono::milliseconds partner_timeout_of(const hand_off_options& options);

// One leg as its body describes it.
struct hand_off_leg {
  leg_kind kind = leg_kind::none;
  std::vector<std::string> ids;  // of the leases, one for each choice; empty: the prefill engine mints one
  bool waits = false;            // the other leg may come later than this one
  std::int64_t number = 0;       // trtllm: disagg_request_id of a context leg
  // Of a decode leg: who has the KV ("": whoever is there), and where.
  std::string remote_engine, remote_host;
  std::uint16_t remote_port = 0;
  std::vector<block_id> blocks;
  std::vector<token_id> prompt;  // trtllm: the prompt as the context engine has cut it; empty: as in the body
};

struct leg_reading {
  hand_off_leg leg;
  std::optional<api_failure> failure;  // names the field that is wrong or missing
  bool deadly = false;                 // vLLM 0.32.0 fails an assertion and exits
};

// What leg of this engine's connector a body is. A body that is no JSON object is no leg. `dp_rank` is the
// value of x-data-parallel-rank, or empty.
leg_reading read_leg(const hand_off_options& options, engine_api api, std::string_view body,
                     std::string_view dp_rank = {});

// What a prefill answer tells of its lease, as the connector's member of the answer; "" where it tells
// nothing.
struct granted_lease {
  std::string_view engine_id, lease_id, host;
  std::uint16_t port = 0;
  const std::vector<block_id>& blocks;
  std::uint32_t tokens = 0, cached = 0;
  std::int64_t number = 0;  // trtllm
  token_id first_token = 0;
};
std::string to_json(connector_kind connector, const granted_lease& lease);

}  // namespace penstock::emulator
