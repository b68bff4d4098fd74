// vLLM's connectors: NIXL and MoRI-IO (read mode), where the decode leg carries what the prefill leg
// answered, and Mooncake, where both start at once with an id of the proxy's.
#include <charconv>

#include "emulator/server/leg_checker.hpp"

namespace penstock::emulator {
namespace {

using simdjson::SUCCESS;
using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

constexpr std::string_view params = "kv_transfer_params";
constexpr std::string_view path = "kv_transfer_params.";

// The object that makes a request a leg; `is` tells which. Something else in its place is a complaint.
struct params_reading {
  std::optional<object> values;
  leg_kind is = leg_kind::none;
  std::optional<api_failure> failure;
};

params_reading read_params(const object& body) {
  params_reading r;
  const auto e = member(body, params);
  if (!e || e->is_null()) return r;
  object o;
  if (e->get(o) != SUCCESS) {
    leg_checker check("hand-off");
    check.complain(params, "must be an object");
    r.failure = check.take();
    return r;
  }
  r.values = o;
  if (is_true(o, "do_remote_decode")) r.is = leg_kind::prefill;
  if (is_true(o, "do_remote_prefill")) r.is = leg_kind::decode;
  return r;
}

// What makes a request a prefill. llm-d's side-car primes NIXL legs with min_tokens as well.
void want_one_token(const leg_call& call, bool all, leg_checker& check) {
  if (call.api == engine_api::responses) {
    want_number(call.body, "max_output_tokens", 1, true, check);
  } else {
    want_number(call.body, "max_tokens", 1, true, check);
    want_number(call.body, "max_completion_tokens", 1, all && call.api == engine_api::chat, check);
    want_number(call.body, "min_tokens", 1, all && call.api != engine_api::messages, check);
  }
  want_whole(call.body, check);
  want_single(call.body, check);
}

void want_no_origin(const object& values, leg_checker& check) {
  for (const std::string_view key :
       {"remote_engine_id", "remote_block_ids", "remote_host", "remote_port", "remote_request_id"}) {
    want_absent(values, path, key, check);
  }
}

leg_reading nixl_prefill(const leg_call& call, const object& values) {
  leg_checker check("NIXL prefill leg");
  want_one_token(call, true, check);
  want_flag(values, path, "do_remote_prefill", false, check);
  want_no_origin(values, check);
  leg_reading r{.leg = {.kind = leg_kind::prefill}};
  if (call.options.checks_legs) r.failure = check.take();
  return r;
}

// One group of blocks for each kind of layer.
void read_groups(const object& values, hand_off_leg& leg, leg_checker& check) {
  constexpr std::string_view field = "kv_transfer_params.remote_block_ids";
  const auto e = required(values, path, "remote_block_ids", check);
  if (!e) return;
  array groups;
  if (e->get(groups) != SUCCESS) return check.complain(field, "must be an array of arrays of block ids");
  for (const element group : groups) {
    if (!read_blocks(group, field, leg.blocks, check)) return;
  }
}

struct origin {
  std::string_view engine, host, id;
  std::uint64_t port = 0;
};

void take(const origin& from, hand_off_leg& leg) {
  leg.remote_engine = from.engine;
  leg.remote_host = from.host;
  leg.remote_port = static_cast<std::uint16_t>(from.port);
  leg.ids = {std::string(from.id)};
}

leg_reading nixl_decode(const leg_call& call, const object& values) {
  leg_reading r{.leg = {.kind = leg_kind::decode}};
  const auto has = [&](std::string_view key) { return member(values, key).has_value(); };
  r.deadly =
      !has("remote_engine_id") && !has("remote_block_ids") && !has("remote_host") && !has("remote_port");
  leg_checker check("NIXL decode leg");
  want_flag(values, path, "do_remote_decode", false, check);
  origin from;
  read_required(values, path, "remote_engine_id", from.engine, check);
  read_required(values, path, "remote_request_id", from.id, check);
  read_required(values, path, "remote_host", from.host, check);
  read_required(values, path, "remote_port", from.port, check);
  read_groups(values, r.leg, check);
  want_ports(from.port, "kv_transfer_params.remote_port", check);
  take(from, r.leg);
  leg_checker strict("NIXL decode leg");
  for (const std::string_view key : {"tp_size", "dcp_size", "pp_size", "remote_num_tokens", "transfer_mode",
                                     "remote_prefill_cached_tokens"}) {
    required(values, path, key, strict);
  }
  if (!has("remote_blocks_expiry_time")) required(values, path, "remote_blocks_expiry_time", strict);
  want_single(call.body, strict);
  r.failure = check.take();
  if (!r.failure && call.options.checks_legs) r.failure = strict.take();
  return r;
}

leg_reading moriio_prefill(const leg_call& call, const object& values) {
  leg_checker check("MoRI-IO prefill leg");
  want_one_token(call, false, check);
  want_flag(values, path, "do_remote_prefill", false, check);
  std::string_view id;
  read_required(values, path, "transfer_id", id, check);
  leg_reading r{.leg = {.kind = leg_kind::prefill}};
  r.leg.ids = {std::string(id)};
  r.failure = check.take();
  return r;
}

leg_reading moriio_decode(const leg_call& call, const object& values) {
  leg_reading r{.leg = {.kind = leg_kind::decode}};
  leg_checker check("MoRI-IO decode leg");
  want_flag(values, path, "do_remote_decode", false, check);
  origin from;
  std::uint64_t notify = 0;
  read_required(values, path, "transfer_id", from.id, check);
  read_required(values, path, "remote_engine_id", from.engine, check);
  read_required(values, path, "remote_host", from.host, check);
  read_required(values, path, "remote_handshake_port", from.port, check);
  read_required(values, path, "remote_notify_port", notify, check);
  required(values, path, "remote_dp_size", check);
  required(values, path, "tp_size", check);
  if (const auto e = required(values, path, "remote_block_ids", check))
    read_blocks(*e, "kv_transfer_params.remote_block_ids", r.leg.blocks, check);
  want_ports(from.port, "kv_transfer_params.remote_handshake_port", check);
  want_ports(notify, "kv_transfer_params.remote_notify_port", check);
  want_single(call.body, check);
  take(from, r.leg);
  r.failure = check.take();
  return r;
}

// Ranks of one engine are engines of their own: an id of one is unknown to the others.
std::string ranked(std::string_view transfer_id, std::string_view rank) {
  return fmt::format("{}@{}", transfer_id, rank.empty() ? "0" : rank);
}

leg_reading mooncake_prefill(const leg_call& call, const object& values) {
  leg_checker check("Mooncake prefill leg");
  want_one_token(call, false, check);
  want_flag(values, path, "do_remote_prefill", false, check);
  want_no_origin(values, check);
  std::string_view id;
  read_required(values, path, "transfer_id", id, check);
  std::uint32_t rank = 0;
  const std::string_view asked = call.dp_rank;
  const auto [end, ec] = std::from_chars(asked.data(), asked.data() + asked.size(), rank);
  const bool number = ec == std::errc{} && end == asked.data() + asked.size();
  if (!asked.empty() && (!number || rank >= call.options.dp_size))
    check.complain("x-data-parallel-rank", fmt::format("must be a rank below {}", call.options.dp_size));
  leg_reading r{.leg = {.kind = leg_kind::prefill}};
  r.leg.ids = {ranked(id, asked)};
  r.failure = check.take();
  return r;
}

leg_reading mooncake_decode(const leg_call& call, const object& values) {
  leg_reading r{.leg = {.kind = leg_kind::decode, .waits = true}};
  leg_checker check("Mooncake decode leg");
  want_flag(values, path, "do_remote_decode", false, check);
  origin from;
  std::string_view address;
  read_required(values, path, "transfer_id", from.id, check);
  read_required(values, path, "remote_engine_id", from.engine, check);
  read_required(values, path, "remote_bootstrap_addr", address, check);
  constexpr std::string_view scheme = "http://";
  constexpr std::string_view field = "kv_transfer_params.remote_bootstrap_addr";
  const std::size_t colon = address.rfind(':');
  if (!address.starts_with(scheme) || colon < scheme.size()) {
    check.complain(field, "must be http://HOST:PORT of the prefill engine's bootstrap server");
  } else {
    from.host = address.substr(scheme.size(), colon - scheme.size());
    const std::string_view port = address.substr(colon + 1);
    std::from_chars(port.data(), port.data() + port.size(), from.port);
    want_ports(from.port, field, check);
  }
  want_single(call.body, check);
  take(from, r.leg);
  // Engine ids of ranks are the engine's with _dpN behind it.
  const std::size_t mark = from.engine.rfind("_dp");
  if (mark == std::string_view::npos) {
    check.complain("kv_transfer_params.remote_engine_id", "must be the id of a rank, as GET /query tells it");
  } else {
    r.leg.remote_engine = from.engine.substr(0, mark);
    r.leg.ids = {ranked(from.id, from.engine.substr(mark + 3))};
  }
  r.failure = check.take();
  return r;
}

using reader = leg_reading (*)(const leg_call&, const object&);

leg_reading read_with(const leg_call& call, reader prefill, reader decode) {
  params_reading p = read_params(call.body);
  leg_reading r;
  r.failure = std::move(p.failure);
  if (p.is == leg_kind::none) return r;
  return p.is == leg_kind::prefill ? prefill(call, *p.values) : decode(call, *p.values);
}

}  // namespace

leg_reading read_nixl(const leg_call& call) { return read_with(call, nixl_prefill, nixl_decode); }
leg_reading read_moriio(const leg_call& call) { return read_with(call, moriio_prefill, moriio_decode); }
leg_reading read_mooncake(const leg_call& call) { return read_with(call, mooncake_prefill, mooncake_decode); }

}  // namespace penstock::emulator
