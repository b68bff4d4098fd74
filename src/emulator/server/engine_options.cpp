#include "emulator/server/engine_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <string_view>

namespace penstock::emulator {
namespace {

template <class Number>
std::string read_number(std::string_view text, Number& value, Number least) {
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec == std::errc{} && end == text.data() + text.size() && value >= least) return {};
  return fmt::format("\"{}\" is not a number from {} on", text, least);
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
    const auto found = std::find_if(table().begin(), table().end(), [&](auto& o) { return o.name == name; });
    if (found == table().end()) {
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
  return result;
}

std::string engine_help() {
  std::string text =
      "penstock engine: an inference engine without an accelerator, with vLLM's HTTP API, timing and KV "
      "cache.\n\n"
      "usage: penstock engine [options]\n\n";
  for (const option& o : table()) {
    text += fmt::format("  {:<28} {}\n", fmt::format("{} {}", o.name, o.value), o.text);
  }
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
