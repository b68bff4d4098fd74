#include "emulator/server/engine_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <limits>
#include <string_view>
#include <type_traits>

namespace penstock::emulator {
namespace {

template <class Number>
std::string read_number(std::string_view text, Number& value, Number least) {
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec == std::errc{} && end == text.data() + text.size() && value >= least) return {};
  constexpr bool small = std::is_integral_v<Number> && sizeof(Number) < 4;
  const std::string until = small ? fmt::format("to {}", std::numeric_limits<Number>::max()) : "on";
  return fmt::format("\"{}\" is not a number from {} {}", text, least, until);
}

struct option {
  std::string_view name;  // with value unless `value` is empty
  std::string_view value;
  std::string_view text;
  std::function<std::string(engine_options&, const std::string&)> set;  // error sentence or empty
};

std::string add_fault(engine_options& o, const std::string& v) {
  return parse_fault_rule(v, o.faults.emplace_back());
}

std::string set_class(engine_options& o, const std::string& v) {
  o.class_name = v;
  return find_engine_class(v) == nullptr ? unknown_class_message(v) : std::string{};
}

std::string set_speed(engine_options& o, const std::string& v) {
  std::string error = read_number(v, o.speed, 0.0);
  return error.empty() && !(o.speed >= 1e-3 && o.speed <= 1e6) ? "the speed must be between 0.001 and 1000000"
                                                               : error;
}

std::string set_keep_alive(engine_options& o, const std::string& v) {
  std::uint32_t s = 0;
  std::string error = read_number(v, s, 0U);
  o.keep_alive = std::chrono::seconds(s);
  return error;
}

std::string set_role(engine_options& o, const std::string& v) {
  const auto role = role_named(v);
  if (role) o.hand_off.role = *role;
  return role ? std::string{} : fmt::format("\"{}\" is none of both, prefill and decode", v);
}

std::string set_connector(engine_options& o, const std::string& v) {
  const auto kind = connector_named(v);
  if (kind) o.hand_off.connector = *kind;
  return kind ? std::string{} : fmt::format("\"{}\" is none of {}", v, connector_list());
}

std::string set_policy(engine_options& o, const std::string& v) {
  o.hand_off.recompute = v == "recompute";
  return o.hand_off.recompute || v == "fail" ? std::string{}
                                             : fmt::format("\"{}\" is neither fail nor recompute", v);
}

template <class Duration>
std::string set_milliseconds(Duration& d, const std::string& v) {
  std::uint32_t ms = 0;
  std::string error = read_number(v, ms, 0U);
  d = std::chrono::milliseconds(ms);
  return error;
}

std::string set_bandwidth(engine_options& o, const std::string& v) {
  double gigabytes = 0;
  std::string error = read_number(v, gigabytes, 0.0);
  o.hand_off.transfer.bytes_per_second = gigabytes * 1e9;
  return error;
}

const std::vector<option>& hand_off_table() {
  using o = engine_options;
  using s = const std::string&;
  static const std::vector<option> options = {
      {"--connector", "NAME", "nixl, mooncake, sglang, trtllm, moriio (read mode) or none (none)",
       set_connector},
      {"--role", "ROLE", "legs that it plays: prefill, decode, or both (both)", set_role},
      {"--engine-id", "ID", "its name in hand-offs (another one at each start)",
       [](o& x, s v) { return x.hand_off.engine_id = v, std::string{}; }},
      {"--side-channel-port", "P", "where others fetch KV, and the bootstrap server; 0: any free one (0)",
       [](o& x, s v) { return read_number(v, x.hand_off.side_port, std::uint16_t{0}); }},
      {"--data-parallel-size", "N", "ranks of a prefill engine: mooncake, sglang (1)",
       [](o& x, s v) { return read_number(v, x.hand_off.dp_size, 1U); }},
      {"--kv-lease", "MS", "how long KV waits to be fetched (nixl 30000; others as they have it)",
       [](o& x, s v) { return set_milliseconds(x.hand_off.lease, v); }},
      {"--kv-partner-timeout", "MS", "how long a concurrent leg waits for the other (the lease)",
       [](o& x, s v) { return set_milliseconds(x.hand_off.partner_timeout, v); }},
      {"--kv-bytes-per-token", "N", "bytes of a token's KV (131072)",
       [](o& x, s v) { return read_number(v, x.hand_off.transfer.bytes_per_token, 1U); }},
      {"--kv-bandwidth", "X", "gigabytes a second that it receives; 0: no time at all (25)", set_bandwidth},
      {"--kv-handshake", "MS", "first contact with another engine (250)",
       [](o& x, s v) { return set_milliseconds(x.hand_off.transfer.handshake, v); }},
      {"--kv-handshake-timeout", "MS", "until an engine that is not there is given up (5000)",
       [](o& x, s v) { return set_milliseconds(x.hand_off.handshake_timeout, v); }},
      {"--kv-load-failure-policy", "P", "KV that does not arrive: fail (500) or recompute (fail)",
       set_policy},
      {"--no-leg-checks", "", "take wrong legs as vLLM does, not with a 400",
       [](o& x, s) { return x.hand_off.checks_legs = false, std::string{}; }},
  };
  return options;
}

const std::vector<option>& table() {
  using o = engine_options;
  using s = const std::string&;
  static const std::vector<option> options = {
      {"--port", "P", "listening port; 0 takes any free one (8000)",
       [](o& x, s v) { return read_number(v, x.port, std::uint16_t{0}); }},
      {"--host", "ADDRESS", "address to listen on (127.0.0.1)",
       [](o& x, s v) { return x.host = v, std::string{}; }},
      {"--model", "NAME", "served model name, repeatable (emulated)",
       [](o& x, s v) { return x.models.push_back(v), std::string{}; }},
      {"--lora", "NAME", "served LoRA adapter of the first model, repeatable",
       [](o& x, s v) { return x.adapters.push_back(v), std::string{}; }},
      {"--class", "CLASS", "engine class: model/accelerator/tpN, demo or instant (demo)", set_class},
      {"--speed", "X", "run X times faster than the class (1)", set_speed},
      {"--kv-tokens", "N", "KV capacity in tokens (the class's)",
       [](o& x, s v) { return read_number(v, x.kv_tokens, std::uint64_t{1}); }},
      {"--block-size", "N", "tokens of a KV block (16)",
       [](o& x, s v) { return read_number(v, x.block_tokens, 1U); }},
      {"--max-num-seqs", "N", "sequences in one iteration (256)",
       [](o& x, s v) { return read_number(v, x.max_num_seqs, 1U); }},
      {"--max-num-batched-tokens", "N", "tokens of one iteration (8192)",
       [](o& x, s v) { return read_number(v, x.max_batched_tokens, 1U); }},
      {"--max-model-len", "N", "longest prompt plus answer (what KV memory holds, at most 131072)",
       [](o& x, s v) { return read_number(v, x.max_model_len, 1U); }},
      {"--no-prefix-caching", "", "forget prefixes",
       [](o& x, s) { return x.prefix_caching = false, std::string{}; }},
      {"--no-prompt-tokens-details", "", "usage without cached_tokens, as vLLM does unless told",
       [](o& x, s) { return x.prompt_tokens_details = false, std::string{}; }},
      {"--seed", "N", "of ids and of faults that happen by chance (1)",
       [](o& x, s v) { return read_number(v, x.seed, std::uint64_t{0}); }},
      {"--keep-alive", "S", "close connections idle for S seconds; 0: never (5)", set_keep_alive},
      {"--log-requests", "N", "requests kept for /debug/requests (64)",
       [](o& x, s v) { return read_number(v, x.log_requests, 0U); }},
      {"--fault", "RULE", "do something wrong, repeatable; see below", add_fault},
  };
  return options;
}

const option* find_option(std::string_view name) {
  for (const auto* options : {&table(), &hand_off_table()}) {
    const auto found =
        std::find_if(options->begin(), options->end(), [&](auto& o) { return o.name == name; });
    if (found != options->end()) return &*found;
  }
  return nullptr;
}

// What cannot go together.
std::string conflict(const engine_options& o) {
  if (o.hand_off.connector == connector_kind::sglang && o.hand_off.role == engine_role::both)
    return "--connector sglang needs --role prefill or decode: its legs look alike";
  if (o.hand_off.connector != connector_kind::none || o.hand_off.role == engine_role::both) return {};
  return fmt::format("--role {} needs a --connector ({})", name(o.hand_off.role), connector_list());
}

void append_options(const std::vector<option>& options, std::string& text) {
  for (const option& o : options)
    text += fmt::format("  {:<28} {}\n", fmt::format("{} {}", o.name, o.value), o.text);
}

}  // namespace

engine_settings settings_of(const engine_options& options, std::string& error) {
  const engine_class* c = find_engine_class(options.class_name);
  if (c == nullptr) {
    error = unknown_class_message(options.class_name);
    return {};
  }
  engine_settings s = engine_settings::of(*c);
  if (options.kv_tokens > 0) s.kv_tokens = options.kv_tokens;
  s.block_tokens = options.block_tokens;
  s.max_batched_tokens = options.max_batched_tokens;
  s.max_num_seqs = options.max_num_seqs;
  s.speed = options.speed;
  s.prefix_caching = options.prefix_caching;
  return s;
}

parsed_options parse_engine_options(std::span<const std::string> args) {
  parsed_options result;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "--help" || arg == "-h") {
      result.help = true;
      return result;
    }
    const std::size_t equals = arg.find('=');
    const std::string_view name = std::string_view(arg).substr(0, equals);
    const option* const found = find_option(name);
    if (found == nullptr) {
      result.error = fmt::format("unknown option \"{}\"; penstock engine --help lists all", arg);
      return result;
    }
    std::string value = equals == std::string::npos ? std::string{} : arg.substr(equals + 1);
    if (!found->value.empty() && equals == std::string::npos) {
      if (++i == args.size()) {
        result.error = fmt::format("{} needs a value ({})", arg, found->value);
        return result;
      }
      value = args[i];
    } else if (found->value.empty() && equals != std::string::npos) {
      result.error = fmt::format("{} takes no value", found->name);
      return result;
    }
    if (std::string error = found->set(result.options, value); !error.empty()) {
      result.error = fmt::format("{}: {}", found->name, error);
      return result;
    }
  }
  result.error = conflict(result.options);
  return result;
}

std::string engine_help() {
  std::string text =
      "penstock engine: an inference engine without an accelerator, with vLLM's HTTP API, timing and KV "
      "cache.\n\n"
      "usage: penstock engine [options]\n\n";
  append_options(table(), text);
  text += "\nHand-offs (prefill here, decode there); GET /debug/leases tells what is held for whom:\n";
  append_options(hand_off_table(), text);
  text += "\nClasses (measured step times; --speed scales them):\n";
  for (const engine_class& c : engine_classes()) {
    text += fmt::format("  {:<34} {:>8} us/step + {:>6} us/prompt token + {:>5} us/sequence, {} KV tokens\n",
                        c.name, c.fixed_us, c.prefill_us, c.decode_us, c.kv_tokens);
  }
  text += "\n";
  text += fault_help();
  text +=
      "\nFor tests: GET /debug/requests (counts and the last requests as they were received), GET "
      "/debug/body (the\n"
      "last request body, raw), DELETE /debug/requests, GET and POST /debug/faults. SIGTERM ends running "
      "streams as\n"
      "vLLM does: error event, [DONE], exit 0.\n";
  return text;
}

}  // namespace penstock::emulator
