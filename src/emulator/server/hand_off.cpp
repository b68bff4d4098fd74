#include "emulator/server/hand_off.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <simdjson.h>

#include "emulator/server/json_text.hpp"
#include "emulator/server/leg_checker.hpp"

namespace penstock::emulator {
namespace {

using namespace std::chrono_literals;

struct role_row {
  std::string_view name;
  engine_role role;
};
constexpr role_row roles[] = {
    {"both", engine_role::both}, {"prefill", engine_role::prefill}, {"decode", engine_role::decode}};

// `lease`: vLLM's kv_lease_duration, VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT, SGLang's
// SGLANG_DISAGGREGATION_WAITING_TIMEOUT, TensorRT-LLM's kv_transfer_timeout_ms, MoRI-IO's defer_timeout.
struct connector_row {
  std::string_view name;
  connector_kind kind;
  std::chrono::milliseconds lease;
  std::string_view member;  // that makes a body a leg
  leg_reading (*read)(const leg_call&);
};
constexpr connector_row connectors[] = {
    {"none", connector_kind::none, 0s, "", nullptr},
    {"nixl", connector_kind::nixl, 30s, "kv_transfer_params", read_nixl},
    {"mooncake", connector_kind::mooncake, 480s, "kv_transfer_params", read_mooncake},
    {"sglang", connector_kind::sglang, 300s, "bootstrap_room", read_sglang},
    {"trtllm", connector_kind::trtllm, 60s, "disaggregated_params", read_trtllm},
    {"moriio", connector_kind::moriio, 300s, "kv_transfer_params", read_moriio},
};

const connector_row& row(connector_kind kind) { return connectors[static_cast<std::size_t>(kind)]; }

// A leg that this engine's role does not play, and a whole request where only legs belong.
std::optional<api_failure> wrong_role(const hand_off_options& options, leg_kind leg) {
  const std::string_view member = row(options.connector).member;
  leg_checker check("This engine has another --role");
  if (options.role == engine_role::prefill && leg != leg_kind::prefill)
    check.complain(member, "must ask for a prefill: the engine has --role prefill and does nothing else");
  if (options.role == engine_role::decode && leg == leg_kind::prefill)
    check.complain(member, "asks for a prefill, but the engine has --role decode");
  return check.take();
}

// One group of blocks: engines whose layers are all alike have one. Members in the order of vLLM 0.32.0.
std::string nixl_json(const granted_lease& l) {
  return fmt::format(
      R"({{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[{}]],)"
      R"("remote_engine_id":{},"remote_request_id":{},"remote_host":{},"remote_port":{},"tp_size":1,)"
      R"("dcp_size":1,"pp_size":1,"remote_num_tokens":{},"remote_blocks_expiry_time":null,)"
      R"("transfer_mode":"pull","remote_prefill_cached_tokens":{}}})",
      fmt::join(l.blocks, ","), quote(l.engine_id), quote(l.lease_id), quote(l.host), l.port, l.tokens,
      l.cached);
}

std::string moriio_json(const granted_lease& l) {
  return fmt::format(
      R"({{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[{}],)"
      R"("remote_engine_id":{},"remote_host":{},"remote_handshake_port":{},"remote_notify_port":{},)"
      R"("remote_dp_size":1,"tp_size":1,"transfer_id":{}}})",
      fmt::join(l.blocks, ","), quote(l.engine_id), quote(l.host), l.port, l.port, quote(l.lease_id));
}

std::string trtllm_json(const granted_lease& l) {
  const std::string state = fmt::format(
      R"({{"engine":{},"host":{},"port":{},"lease":{},"number":{},"blocks":[{}]}})", quote(l.engine_id),
      quote(l.host), l.port, quote(l.lease_id), l.number, fmt::join(l.blocks, ","));
  return fmt::format(
      R"({{"request_type":"context_only","first_gen_tokens":[{}],"first_gen_log_probs":null,)"
      R"("first_gen_logits":null,"ctx_request_id":{},"encoded_opaque_state":"{}","draft_tokens":null,)"
      R"("disagg_request_id":{},"ctx_dp_rank":0,"ctx_info_endpoint":null,"schedule_style":null}})",
      l.first_token, l.number, base64(state), l.number);
}

}  // namespace

std::optional<engine_role> role_named(std::string_view name) {
  for (const role_row& r : roles) {
    if (r.name == name) return r.role;
  }
  return std::nullopt;
}

std::optional<connector_kind> connector_named(std::string_view name) {
  for (const connector_row& c : connectors) {
    if (c.name == name) return c.kind;
  }
  return std::nullopt;
}

std::string connector_list() {
  std::string all;
  for (const connector_row& c : connectors) all += (all.empty() ? "" : ", ") + std::string(c.name);
  return all;
}

std::string_view name(engine_role role) {
  for (const role_row& r : roles) {
    if (r.role == role) return r.name;
  }
  return {};
}

std::string_view name(connector_kind kind) { return row(kind).name; }

std::chrono::milliseconds lease_of(const hand_off_options& options) {
  return options.lease.count() > 0 ? options.lease : row(options.connector).lease;
}

std::chrono::milliseconds partner_timeout_of(const hand_off_options& options) {
  return options.partner_timeout.count() > 0 ? options.partner_timeout : lease_of(options);
}

leg_reading read_leg(const hand_off_options& options, engine_api api, std::string_view body,
                     std::string_view dp_rank) {
  if (options.connector == connector_kind::none || api > engine_api::messages) return {};
  simdjson::dom::parser parser;
  const simdjson::padded_string padded(body);
  simdjson::dom::object o;
  if (parser.parse(padded).get(o) != simdjson::SUCCESS) return {};
  leg_reading r = row(options.connector).read({options, api, o, dp_rank});
  if (!r.failure && options.checks_legs) r.failure = wrong_role(options, r.leg.kind);
  return r;
}

std::string to_json(connector_kind connector, const granted_lease& lease) {
  switch (connector) {
    case connector_kind::nixl: return nixl_json(lease);
    case connector_kind::moriio: return moriio_json(lease);
    case connector_kind::trtllm: return trtllm_json(lease);
    case connector_kind::none:
    case connector_kind::mooncake:
    case connector_kind::sglang: break;
  }
  return {};
}

}  // namespace penstock::emulator
