#include "options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>

#include "shapes.hpp"

namespace penstock::lab {
namespace {

template <class T>
bool number(std::string_view text, T least, T most, T& value) {
  T v{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (error != std::errc{} || end != text.data() + text.size() || !(v >= least) || !(v <= most)) return false;
  value = v;
  return true;
}

std::vector<std::string> split(std::string_view text, char by) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t end = text.find(by);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

// An option with a value: false when the value is none; `error` may say more.
struct setter {
  std::string_view name, value, text;
  std::function<bool(lab_options&, const std::string&, std::string&)> set;
};

bool set_time(duration& d, std::string_view text) {
  const std::optional<duration> got = parse_duration(text);
  if (got) d = *got;
  return got.has_value();
}

bool set_policies(lab_options& o, const std::string& text, std::string& error) {
  for (const std::string& one : split(text, ',')) {
    std::optional<policy_spec> p = parse_policy(one, error);
    if (!p) return false;
    o.policies.push_back(std::move(*p));
  }
  return true;
}

bool set_shape(lab_options& o, const std::string& text, std::string& error) {
  o.shape = text;
  if (find_shape(text) != nullptr) return true;
  error = fmt::format("unknown shape \"{}\"; the shapes are", text);
  for (const shape& s : shapes()) error += fmt::format(" {}", s.name);
  return false;
}

bool set_roles(lab_options& o, const std::string& text, std::string& error) {
  constexpr std::pair<std::string_view, endpoint_role> names[] = {
      {"both", endpoint_role::both}, {"prefill", endpoint_role::prefill}, {"decode", endpoint_role::decode}};
  for (const std::string& word : split(text, ',')) {
    const std::size_t colon = word.find(':');
    std::uint32_t count = 1;
    const bool counted =
        colon == std::string::npos || number(std::string_view(word).substr(colon + 1), 1U, 1024U, count);
    const auto* const found = std::find_if(std::begin(names), std::end(names), [&](const auto& n) {
      return n.first == std::string_view(word).substr(0, colon);
    });
    if (!counted || found == std::end(names)) {
      error = fmt::format("--roles: \"{}\" is no role; write prefill:2,decode:2 or both:4", word);
      return false;
    }
    o.roles.emplace_back(found->second, count);
  }
  return true;
}

bool set_incident(lab_options& o, const std::string& text, std::string& error) {
  const std::optional<engine_incident> e = parse_incident(text, error);
  if (e) o.incidents.push_back(*e);
  return e.has_value();
}

const std::vector<setter>& setters() {
  using O = lab_options;
  using S = const std::string;
  static const std::vector<setter> list = {
      {"--trace", "FILE", "a Mooncake (JSON lines) or Azure (CSV) trace, unpacked",
       [](O& o, S& v, std::string&) { return o.trace = v, !v.empty(); }},
      {"--shape", "NAME", "generated traffic instead; see below", set_shape},
      {"--requests", "N", "of a shape, about (4000)",
       [](O& o, S& v, std::string&) { return number(v, 1U, 10000000U, o.requests); }},
      {"--load", "X", "of a shape: share of what the engines could do at best (0.7)",
       [](O& o, S& v, std::string&) { return number(v, 0.001, 100.0, o.load); }},
      {"--engines", "N", "1 to 1024 (4)",
       [](O& o, S& v, std::string&) { return o.counted = number(v, 1U, 1024U, o.engines); }},
      {"--class", "NAME", "model/gpu/tpN; several as NAME:COUNT,NAME:COUNT",
       [](O& o, S& v, std::string&) { return o.classes = v, !v.empty(); }},
      {"--kv-tokens", "N", "KV cache of each engine in tokens (the class's)",
       [](O& o, S& v, std::string&) { return number<std::uint64_t>(v, 16, 1ULL << 36, o.kv_tokens); }},
      {"--speed", "X", "engines run X times as fast as their class (1)",
       [](O& o, S& v, std::string&) { return number(v, 0.001, 1e6, o.speed); }},
      {"--rate", "X", "arrivals come X times as fast (1)",
       [](O& o, S& v, std::string&) { return number(v, 0.001, 1000.0, o.rate); }},
      {"--spread", "TIME",
       "delays each arrival by a uniform part of TIME (3s for Mooncake, whose stamps are rounded)",
       [](O& o, S& v, std::string&) { return set_time(o.spread.emplace(), v); }},
      {"--cut", "TIME", "leaves out what arrives later",
       [](O& o, S& v, std::string&) { return set_time(o.cut.emplace(), v); }},
      {"--policy", "NAME,...", "what decides; see below", set_policies},
      {"--seeds", "N", "runs of each policy; beyond the first, sessions are drawn anew (1)",
       [](O& o, S& v, std::string&) { return number(v, 1U, 10000U, o.seeds); }},
      {"--first-seed", "N", "(1)",
       [](O& o, S& v, std::string&) { return number<std::uint64_t>(v, 1, 1ULL << 62, o.first_seed); }},
      {"--incident", "WHAT",
       "slow:0@0s=0.5, restart:*@300s+20s/300s, stall:1@60s+10s, join:3@600s, blind:*@0s", set_incident},
      {"--slo", "TIME", "TTFT that is good enough (2s)",
       [](O& o, S& v, std::string&) { return set_time(o.slo.ttft, v); }},
      {"--pace-slo", "TIME", "mean time between an answer's tokens that is good enough (50ms)",
       [](O& o, S& v, std::string&) { return set_time(o.slo.pace, v); }},
      {"--roles", "ROLE:N,...", "prefill, decode or both, in the order of the engines: split requests",
       set_roles},
      {"--transfer", "GB/s", "at which KV comes to an engine that has a prompt prefilled elsewhere (25)",
       [](O& o, S& v, std::string&) { return number(v, 0.001, 1e6, o.transfer_gbytes); }},
      {"--scrape-interval", "TIME", "of engines' metrics (Penstock's default)",
       [](O& o, S& v, std::string&) { return set_time(o.scrape_interval, v); }},
      {"--block-bytes", "N", "bytes of a prefix block (Penstock's default)",
       [](O& o, S& v, std::string&) { return number(v, 64U, 65536U, o.block_bytes); }},
      {"--first-port", "P", "of the engines' addresses, by which hashing places (20000)",
       [](O& o, S& v, std::string&) { return number(v, 1U, 64000U, o.first_port); }},
      {"--dump", "FILE", "writes the requests of the first seed as JSON lines",
       [](O& o, S& v, std::string&) { return o.dump = v, !v.empty(); }},
      {"--jobs", "N", "runs at the same time (2)",
       [](O& o, S& v, std::string&) { return number(v, 1U, 256U, o.jobs); }},
      {"--json", "FILE", "figures for programs; - for standard output",
       [](O& o, S& v, std::string&) { return o.json = v, !v.empty(); }},
  };
  return list;
}

bool build_fleet(lab_options& o, std::string& message) {
  std::vector<std::pair<std::string, std::uint32_t>> parts;
  const std::vector<std::string> words = split(o.classes, ',');
  std::uint32_t sum = 0;
  for (const std::string& word : words) {
    const std::size_t colon = word.find(':');
    std::uint32_t count = o.engines;
    if (words.size() > 1 && colon == std::string::npos) {
      message = "--class: several classes are written NAME:COUNT,NAME:COUNT";
      return false;
    }
    if (colon != std::string::npos && !number(std::string_view(word).substr(colon + 1), 1U, 1024U, count)) {
      message = fmt::format("--class: \"{}\" has no count from 1 to 1024 behind its colon", word);
      return false;
    }
    parts.emplace_back(word.substr(0, colon), count);
    sum += count;
  }
  if (sum > 1024) {
    message = "--class: more than 1024 engines";
    return false;
  }
  if (o.counted && sum != o.engines) {
    message = fmt::format("--class: {} engines, but --engines {}; one of the two is enough", sum, o.engines);
    return false;
  }
  for (const auto& [name, count] : parts) {
    const emulator::engine_class* c = emulator::find_engine_class(name);
    if (c == nullptr) {
      message = emulator::unknown_class_message(name);
      return false;
    }
    emulator::engine_settings s = emulator::engine_settings::of(*c);
    o.kv_bytes = std::max(o.kv_bytes, c->kv_bytes);
    if (o.kv_tokens > 0) s.kv_tokens = o.kv_tokens;
    s.speed = o.speed;
    o.fleet.insert(o.fleet.end(), count, s);
  }
  o.engines = sum;
  return true;
}

bool check_roles(lab_options& o, std::string& message) {
  for (const auto& [role, count] : o.roles) o.role_of.insert(o.role_of.end(), count, role);
  if (!o.roles.empty() && o.role_of.size() != o.engines) {
    message = fmt::format("--roles: {} roles for {} engines", o.role_of.size(), o.engines);
    return false;
  }
  // What may prefill, or decode, leaves another to do the other half.
  const auto count = [&o](endpoint_role r) { return std::count(o.role_of.begin(), o.role_of.end(), r); };
  const auto both = count(endpoint_role::both);
  const bool pair = count(endpoint_role::prefill) + both > 0 && count(endpoint_role::decode) + both > 0;
  if (!o.roles.empty() && (!pair || o.role_of.size() < 2)) {
    message = "--roles: nobody to prefill for another; write prefill:2,decode:2 or both:4";
    return false;
  }
  for (const policy_spec& p : o.policies) {
    if (p.split && o.roles.empty()) {
      message =
          fmt::format("--policy {}: say who prefills and who decodes: --roles prefill:2,decode:2", p.name);
      return false;
    }
    // A rule would have to choose two engines, which none of their descriptions tells how.
    if (p.by != brain::router && !o.roles.empty()) {
      message = fmt::format("--policy {}: does not know of engines with roles", p.name);
      return false;
    }
  }
  return true;
}

bool check_incidents(const lab_options& o, std::string& message) {
  for (const engine_incident& e : o.incidents) {
    if (e.engine == nobody || e.engine < o.engines) continue;
    message = fmt::format("--incident: no engine {}; they are 0 to {}", e.engine, o.engines - 1);
    return false;
  }
  return true;
}

bool check(lab_options& o, std::string& message) {
  if (o.trace.empty() == o.shape.empty()) {
    message = "name one of --trace FILE and --shape NAME";
    return false;
  }
  const char* const usual =
      o.roles.empty() ? "round_robin,least_tokens,sticky,prefix,oracle" : "never,always,threshold:16,cost";
  if (o.policies.empty() && !set_policies(o, usual, message)) return false;
  return build_fleet(o, message) && check_roles(o, message) && check_incidents(o, message);
}

}  // namespace

std::string usage() {
  std::string text =
      "usage: penstock-lab (--trace FILE | --shape NAME) [options]\n"
      "Routing policies on real and generated traffic, in virtual time, with emulated engines and the "
      "routing\n"
      "library of penstock. The same arguments give the same figures.\n\noptions:\n";
  for (const setter& s : setters())
    text += fmt::format("  {:<24} {}\n", fmt::format("{} {}", s.name, s.value), s.text);
  text += fmt::format(
      "  {:<24} {}\n", "--rough",
      "30 % not streamed, half without cached_tokens, 3 % of clients leave, bytes per token vary");
  text += fmt::format("  {:<24} {}\n", "--told-speeds",
                      "the router knows each engine's speed from the beginning");
  text += fmt::format("  {:<24} {}\n", "--quiet", "no progress on standard error");
  text += "\npolicies:\n" + policy_help() + "\nshapes:\n";
  for (const shape& s : shapes()) text += fmt::format("  {:<14} {}\n", s.name, s.text);
  text += "\nengine classes:\n ";
  for (const emulator::engine_class& c : emulator::engine_classes()) text += fmt::format(" {}", c.name);
  return text + "\n";
}

std::optional<lab_options> parse_options(const std::vector<std::string>& arguments, std::string& message) {
  lab_options o;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string name = arguments[i];
    if (name == "--help" || name == "-h") return std::nullopt;
    if (name == "--rough" || name == "--told-speeds" || name == "--quiet") {
      (name == "--rough" ? o.rough : name == "--quiet" ? o.quiet : o.told_speeds) = true;
      continue;
    }
    std::optional<std::string> value;
    if (const std::size_t equals = name.find('='); name.starts_with("--") && equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    const setter* found = nullptr;
    for (const setter& s : setters()) {
      if (s.name == name) found = &s;
    }
    if (found == nullptr) {
      message = fmt::format("unknown option {}; see --help", name);
      return std::nullopt;
    }
    if (!value && i + 1 < arguments.size()) value = arguments[++i];
    if (!value) {
      message = fmt::format("{} wants a value: {}", name, found->text);
      return std::nullopt;
    }
    if (found->set(o, *value, message)) continue;
    if (message.empty()) message = fmt::format("{} {}: not a good value; {}", name, *value, found->text);
    return std::nullopt;
  }
  if (!check(o, message)) return std::nullopt;
  return o;
}

}  // namespace penstock::lab
