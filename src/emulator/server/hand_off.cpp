#include "emulator/server/hand_off.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <simdjson.h>

#include <algorithm>
#include <utility>

#include "emulator/server/json_text.hpp"

namespace penstock::emulator {
namespace {

using simdjson::SUCCESS;
using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

struct role_name {
  std::string_view name;
  engine_role role;
};
constexpr role_name role_names[] = {
    {"both", engine_role::both}, {"prefill", engine_role::prefill}, {"decode", engine_role::decode}};

struct connector_name {
  std::string_view name;
  connector_kind kind;
};
constexpr connector_name connector_names[] = {{"none", connector_kind::none}, {"nixl", connector_kind::nixl}};

// Remembers the first complaint about a leg.
class checker {
 public:
  explicit checker(std::string leg) : leg_(std::move(leg)) {}

  void complain(std::string_view field, std::string_view what) {
    if (failure_) return;
    failure_ = api_failure{400, fmt::format("{}: `{}` {} (parameter={})", leg_, field, what, field),
                           "BadRequestError", std::string(field)};
  }
  std::optional<api_failure> take() { return std::move(failure_); }

 private:
  std::string leg_;
  std::optional<api_failure> failure_;
};

std::optional<element> member(const object& o, std::string_view key) {
  element e;
  if (o.at_key(key).get(e) != SUCCESS) return std::nullopt;
  return e;
}

bool is_true(const object& o, std::string_view key) {
  bool on = false;
  return o.at_key(key).get(on) == SUCCESS && on;
}

// A flag that must have one value; left out counts as false.
void want_flag(const object& o, std::string_view path, std::string_view key, bool wanted, checker& check) {
  const auto e = member(o, key);
  bool on = false;
  if (e && !e->is_null() && e->get(on) != SUCCESS)
    return check.complain(fmt::format("{}{}", path, key), "must be a boolean");
  if (on != wanted)
    check.complain(fmt::format("{}{}", path, key), wanted ? "must be true" : "must not be true");
}

void want_number(const object& o, std::string_view key, std::int64_t wanted, bool required, checker& check) {
  const auto e = member(o, key);
  std::int64_t v = 0;
  if (!e || e->is_null()) {
    if (required) check.complain(key, fmt::format("must be {} and is missing", wanted));
  } else if (e->get(v) != SUCCESS || v != wanted) {
    check.complain(key, fmt::format("must be {}, got {}", wanted, std::string(simdjson::minify(*e))));
  }
}

void want_absent(const object& o, std::string_view key, checker& check) {
  if (const auto e = member(o, key); e && !e->is_null()) check.complain(key, "must not be set");
}

// One prompt and one choice: more share one hand-off and the second finds foreign KV.
void want_single(const object& body, checker& check) {
  if (member(body, "n")) want_number(body, "n", 1, false, check);
  if (member(body, "best_of")) want_number(body, "best_of", 1, false, check);
  if (is_true(body, "use_beam_search")) check.complain("use_beam_search", "cannot be handed off");
  if (is_true(body, "echo")) check.complain("echo", "cannot be handed off");
  want_absent(body, "prompt_logprobs", check);
  array prompts;
  const auto prompt = member(body, "prompt");
  if (!prompt || prompt->get(prompts) != SUCCESS || prompts.size() == 0) return;
  std::int64_t id = 0;
  if (prompts.at(0).get(id) != SUCCESS)
    check.complain("prompt", "must be one prompt, not an array of prompts");
}

// The limits that make a request a prefill, as llm-d's side-car primes it.
void want_one_token(engine_api api, const object& body, checker& check) {
  if (api == engine_api::responses) {
    want_number(body, "max_output_tokens", 1, true, check);
  } else {
    want_number(body, "max_tokens", 1, true, check);
    want_number(body, "max_completion_tokens", 1, api == engine_api::chat, check);
    want_number(body, "min_tokens", 1, api != engine_api::messages, check);
  }
  want_flag(body, "", "stream", false, check);
  want_absent(body, "stream_options", check);
}

constexpr std::string_view params_path = "kv_transfer_params.";

// Fields that are there and not null.
std::optional<element> required(const object& params, std::string_view key, checker& check) {
  const auto e = member(params, key);
  if (e && !e->is_null()) return e;
  check.complain(fmt::format("{}{}", params_path, key),
                 "is missing: the prefill answer's object goes in verbatim");
  return std::nullopt;
}

template <class Value>
void read_required(const object& params, std::string_view key, Value& value, checker& check) {
  const auto e = required(params, key, check);
  if (e && e->get(value) != SUCCESS)
    check.complain(fmt::format("{}{}", params_path, key), "is not of the type that the prefill answer had");
}

void read_blocks(const object& params, hand_off_leg& leg, checker& check) {
  const auto e = required(params, "remote_block_ids", check);
  if (!e) return;
  array groups, ids;
  if (e->get(groups) != SUCCESS)
    return check.complain("kv_transfer_params.remote_block_ids", "must be an array of arrays of numbers");
  for (const element group : groups) {
    if (group.get(ids) != SUCCESS)
      return check.complain("kv_transfer_params.remote_block_ids", "must be an array of arrays of numbers");
    for (const element one : ids) {
      std::uint64_t id = 0;
      if (one.get(id) != SUCCESS || id >= no_block)
        return check.complain("kv_transfer_params.remote_block_ids", "must be an array of arrays of numbers");
      leg.blocks.push_back(static_cast<block_id>(id));
    }
  }
}

leg_reading nixl_prefill(const hand_off_options& options, engine_api api, const object& body,
                         const object& params) {
  checker check("NIXL prefill leg");
  want_one_token(api, body, check);
  want_single(body, check);
  want_flag(params, params_path, "do_remote_prefill", false, check);
  for (const std::string_view key :
       {"remote_engine_id", "remote_block_ids", "remote_host", "remote_port", "remote_request_id"}) {
    if (const auto e = member(params, key); e && !e->is_null())
      check.complain(fmt::format("{}{}", params_path, key), "must be null or left out");
  }
  leg_reading r;
  r.leg.kind = leg_kind::prefill;
  if (options.checks_legs) r.failure = check.take();
  return r;
}

leg_reading nixl_decode(const hand_off_options& options, const object& body, const object& params) {
  leg_reading r;
  r.leg.kind = leg_kind::decode;
  const auto has = [&](std::string_view key) { return member(params, key).has_value(); };
  r.deadly =
      !has("remote_engine_id") && !has("remote_block_ids") && !has("remote_host") && !has("remote_port");
  checker check("NIXL decode leg");
  want_flag(params, params_path, "do_remote_decode", false, check);
  std::string_view engine, host, id;
  std::uint64_t port = 0;
  read_required(params, "remote_engine_id", engine, check);
  read_required(params, "remote_request_id", id, check);
  read_required(params, "remote_host", host, check);
  read_required(params, "remote_port", port, check);
  read_blocks(params, r.leg, check);
  if (port > 65535) check.complain("kv_transfer_params.remote_port", "is not a port");
  r.leg.remote_engine = engine;
  r.leg.remote_host = host;
  r.leg.remote_port = static_cast<std::uint16_t>(port);
  r.leg.id = id;
  checker strict("NIXL decode leg");
  for (const std::string_view key : {"tp_size", "dcp_size", "pp_size", "remote_num_tokens", "transfer_mode",
                                     "remote_prefill_cached_tokens"}) {
    required(params, key, strict);
  }
  if (!member(params, "remote_blocks_expiry_time")) required(params, "remote_blocks_expiry_time", strict);
  want_single(body, strict);
  r.failure = check.take();
  if (!r.failure && options.checks_legs) r.failure = strict.take();
  return r;
}

leg_reading read_nixl(const hand_off_options& options, engine_api api, const object& body) {
  object params;
  if (const auto e = member(body, "kv_transfer_params"); e && !e->is_null()) {
    if (e->get(params) != SUCCESS) {
      leg_reading r;
      r.failure = api_failure{400, "`kv_transfer_params` must be an object (parameter=kv_transfer_params)",
                              "BadRequestError", "kv_transfer_params"};
      return r;
    }
    if (is_true(params, "do_remote_prefill")) return nixl_decode(options, body, params);
    if (is_true(params, "do_remote_decode")) return nixl_prefill(options, api, body, params);
  }
  return {};
}

// A leg that this engine's role does not play, and a whole request where only legs belong.
std::optional<api_failure> wrong_role(engine_role role, leg_kind leg) {
  if (role == engine_role::prefill && leg != leg_kind::prefill) {
    return api_failure{
        400,
        "This engine has --role prefill and serves prefill legs only: `kv_transfer_params` must ask "
        "with do_remote_decode (parameter=kv_transfer_params)",
        "BadRequestError", "kv_transfer_params"};
  }
  if (role == engine_role::decode && leg == leg_kind::prefill) {
    return api_failure{
        400, "This engine has --role decode and takes no prefill leg (parameter=kv_transfer_params)",
        "BadRequestError", "kv_transfer_params"};
  }
  return std::nullopt;
}

}  // namespace

std::optional<engine_role> role_named(std::string_view name) {
  for (const role_name& r : role_names) {
    if (r.name == name) return r.role;
  }
  return std::nullopt;
}

std::optional<connector_kind> connector_named(std::string_view name) {
  for (const connector_name& c : connector_names) {
    if (c.name == name) return c.kind;
  }
  return std::nullopt;
}

std::string connector_list() {
  std::string all;
  for (const connector_name& c : connector_names) all += (all.empty() ? "" : ", ") + std::string(c.name);
  return all;
}

std::string_view name(engine_role role) {
  for (const role_name& r : role_names) {
    if (r.role == role) return r.name;
  }
  return {};
}

std::string_view name(connector_kind kind) {
  for (const connector_name& c : connector_names) {
    if (c.kind == kind) return c.name;
  }
  return {};
}

leg_reading read_leg(const hand_off_options& options, engine_api api, std::string_view body) {
  if (options.connector == connector_kind::none || api > engine_api::messages) return {};
  simdjson::dom::parser parser;
  const simdjson::padded_string padded(body);
  object o;
  if (parser.parse(padded).get(o) != SUCCESS) return {};
  leg_reading r = read_nixl(options, api, o);
  if (!r.failure && options.checks_legs) r.failure = wrong_role(options.role, r.leg.kind);
  return r;
}

// One group of blocks: engines whose layers are all alike have one.
std::string to_json(const nixl_params& p) {
  return fmt::format(
      R"({{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[{}]],)"
      R"("remote_engine_id":{},"remote_request_id":{},"remote_host":{},"remote_port":{},"tp_size":1,)"
      R"("dcp_size":1,"pp_size":1,"remote_num_tokens":{},"remote_blocks_expiry_time":null,)"
      R"("transfer_mode":"pull","remote_prefill_cached_tokens":{}}})",
      fmt::join(p.blocks, ","), quote(p.engine_id), quote(p.lease_id), quote(p.host), p.port, p.tokens,
      p.cached);
}

}  // namespace penstock::emulator
