#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "proxy/config/check.hpp"
#include "proxy/config/endpoint_url.hpp"
#include "proxy/config/schema.hpp"
#include "proxy/config/text.hpp"
#include "proxy/config/units.hpp"

namespace penstock::conf {
namespace {

// What happens when the lesser key is at its default and that is above the greater one: limits are for
// the user to settle, a deadline just gives way to the one around it.
enum class by_default : std::uint8_t { error, gives_way };

struct order_rule {
  std::string_view lesser;
  std::string_view greater;
  by_default when_unset;
  std::string_view why;  // follows "lesser (value) is greater than greater (value): "
};

// In this order, since what gave way is the greater of a later rule.
constexpr std::array<order_rule, 9> order_rules{{
    {"limits.body_bytes", "limits.body_memory", by_default::error, "one body must fit"},
    {"limits.stream_buffer", "limits.buffer_memory", by_default::error, "one stream must fit"},
    {"limits.held_bytes", "limits.stream_buffer", by_default::error, "what is held must fit into it"},
    {"timeouts.first_token", "timeouts.total", by_default::gives_way, "it could never pass"},
    {"timeouts.between_events", "timeouts.total", by_default::gives_way, "it could never pass"},
    {"timeouts.connect", "timeouts.first_token", by_default::gives_way, "it could never pass"},
    {"routing.hold", "timeouts.first_token", by_default::gives_way,
     "requests would be late before they are sent"},
    {"timeouts.drain_settle", "timeouts.drain", by_default::gives_way, "draining begins with it"},
    {"health.timeout", "health.interval", by_default::gives_way, "it would stretch the interval"},
}};

struct found_key {
  const key_spec* spec;
  setting value;
};

found_key look_up(const config& c, std::string_view path) {
  const auto dot = path.find('.');
  const auto& s = section(path.substr(0, dot));
  const auto* key = s.key(path.substr(dot + 1));
  return {key, key->member.get(s.view(c))};
}

std::string shown(const found_key& k) {
  auto text = to_toml(*k.spec, k.value);
  std::erase(text, '"');
  return text;
}

bool is_zero(const setting& v) { return v == setting{duration::zero()} || v == setting{std::int64_t{0}}; }

void check_order(config& c, const order_rule& rule, report& out) {
  const std::string a(rule.lesser);
  const std::string b(rule.greater);
  if (!out.usable(a) || !out.usable(b)) return;
  const auto lesser = look_up(c, a);
  const auto greater = look_up(c, b);
  // Where 0 stands for "none", there is nothing to compare.
  if (greater.spec->zero_allowed && is_zero(greater.value)) return;
  if (!(greater.value < lesser.value)) return;
  if (!out.has(a) && rule.when_unset == by_default::gives_way) {
    store(*lesser.spec, section(a.substr(0, a.find('.'))).find(c), greater.value);
    return;
  }
  const auto& told = out.has(a) ? a : b;
  const auto& rest = out.has(a) ? b : a;
  out.error(told,
            fmt::format("{} ({}) is greater than {} ({}): {}", a, shown(lesser), b, shown(greater), rule.why),
            out.has(rest) ? "" : fmt::format("{} is at its default", rest));
}

void check_path(const std::string& key, const std::string& path, report& out) {
  if (!out.usable(key)) return;
  if (path.empty() || path[0] != '/' || !visible_ascii(path) || path.find('#') != std::string::npos)
    out.error(key, fmt::format("{}: {} is no path", key, in_quotes(path)), "as in \"/health\"");
}

void check_access_log(const config& c, report& out) {
  const auto& to = c.log.access;
  constexpr std::array<std::string_view, 3> words{"stdout", "stderr", "off"};
  if (!out.usable("log.access") || std::find(words.begin(), words.end(), to) != words.end()) return;
  const bool control = std::any_of(to.begin(), to.end(), [](char ch) { return ch >= 0 && ch < ' '; });
  if (to.find('/') != std::string::npos && to.back() != '/' && !control) return;
  const auto near = nearest(to, words);
  out.error("log.access",
            fmt::format("log.access: {} is neither stdout, stderr, off nor a file's path", in_quotes(to)),
            near ? fmt::format("did you mean \"{}\"?", *near) : "as in \"/var/log/penstock/access.log\"");
}

// Why a passthrough path is none; empty if it is one.
std::string_view bad_passthrough(std::string_view path) {
  if (path.empty() || path[0] != '/') return "it must begin with \"/\"";
  if (path == "/" || path.back() == '/') return "it must name one path in full";
  if (path.find('*') != std::string_view::npos) return "patterns are not read, name each path in full";
  if (path.find_first_of("?#") != std::string_view::npos) return "a query or fragment has no place here";
  if (path.find('%') != std::string_view::npos) return "write it without percent signs";
  if (!visible_ascii(path) || path.find_first_of("\"<>\\^`{|}") != std::string_view::npos)
    return "it has characters that a plain path has not";
  const auto slashed = fmt::format("{}/", path);
  for (const std::string_view bad : {"//", "/./", "/../"})
    if (slashed.find(bad) != std::string::npos) return "it has empty or dot segments";
  return {};
}

// Served anyway, each by its own rules.
constexpr std::array<std::string_view, 13> served_paths{"/v1/chat/completions",
                                                        "/v1/completions",
                                                        "/v1/embeddings",
                                                        "/v1/models",
                                                        "/v1/responses",
                                                        "/v1/messages",
                                                        "/tokenize",
                                                        "/detokenize",
                                                        "/v1/rerank",
                                                        "/v1/score",
                                                        "/health",
                                                        "/ping",
                                                        "/metrics"};

void check_hints(const config& c, report& out) {
  const auto is_name = [](std::string_view name) {
    constexpr std::string_view others = "!#$%&'*+-.^_`|~";
    return !name.empty() && std::all_of(name.begin(), name.end(), [&](char ch) {
      return (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
             others.find(ch) != std::string_view::npos;
    });
  };
  const auto& names = c.routing.session_headers;
  for (std::size_t i = 0; out.usable("routing.session_headers") && i < names.size(); ++i) {
    if (is_name(names[i])) continue;
    const auto key = fmt::format("routing.session_headers[{}]", i);
    out.error(key, fmt::format("{}: {} is no header name", key, in_quotes(names[i])),
              "write for example x-session-id");
  }
  const std::string_view salt = c.routing.tenant_salt, kind = "header:";
  if (!out.usable("routing.tenant_salt") || salt.empty()) return;
  if (salt.starts_with(kind) && is_name(salt.substr(kind.size()))) return;
  out.error("routing.tenant_salt", fmt::format("routing.tenant_salt: {} names no header", in_quotes(salt)),
            "write \"header:x-tenant-id\", or leave it out");
}

void check_passthrough(const config& c, report& out) {
  const auto& paths = c.server.passthrough;
  if (!out.usable("server.passthrough")) return;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const auto key = fmt::format("server.passthrough[{}]", i);
    if (!out.usable(key)) continue;
    const auto why = bad_passthrough(paths[i]);
    if (!why.empty()) {
      out.error(key, fmt::format("server.passthrough: {}: {}", in_quotes(paths[i]), why),
                "as in \"/v2/rerank\"");
    } else if (std::find(paths.begin(), paths.begin() + static_cast<std::ptrdiff_t>(i), paths[i]) !=
               paths.begin() + static_cast<std::ptrdiff_t>(i)) {
      out.warn(key, fmt::format("server.passthrough: {} is named twice", in_quotes(paths[i])), "");
    } else if (std::find(served_paths.begin(), served_paths.end(), paths[i]) != served_paths.end()) {
      out.warn(key,
               fmt::format("server.passthrough: {} has rules of its own, which stay", in_quotes(paths[i])),
               "leave it out");
    }
  }
}

void warn_about_sections(const config& c, report& out) {
  using namespace std::chrono_literals;
  const auto warn = [&](const std::string& key, bool odd, std::string_view what, std::string hint) {
    if (odd && out.has(key) && out.usable(key))
      out.warn(key, fmt::format("{}: {}", key, what), std::move(hint));
  };
  const auto& t = c.timeouts;
  warn("timeouts.engine_idle", t.engine_idle >= 5s,
       "uvicorn, below vLLM and SGLang, closes idle connections after 5s, and requests will race that",
       "4s, or raise the engine's timeout too");
  warn("limits.body_bytes", c.limits.body_bytes < (1U << 20U),
       "prompts of a long context will be refused: 128k tokens are some 0.5MiB of JSON, with many escapes "
       "twice that",
       "32MiB is the default");
  warn("timeouts.first_token", t.first_token < 10s, "the prefill of a long prompt takes longer than that",
       "10m is the default");
  warn("timeouts.between_events", t.between_events < 5s,
       "an engine that preempts a sequence is silent for longer than that", "1m is the default");
  warn("timeouts.sse_keepalive", t.sse_keepalive >= t.first_token && out.usable("timeouts.first_token"),
       "timeouts.first_token passes before it, so none is ever sent", "\"0s\" turns it off");
}

}  // namespace

void check_sections(config& c, report& out) {
  for (const auto& rule : order_rules) check_order(c, rule, out);
  check_path("health.path", c.health.path, out);
  check_path("health.metrics_path", c.health.metrics_path, out);
  check_access_log(c, out);
  check_passthrough(c, out);
  check_hints(c, out);
  warn_about_sections(c, out);
}

}  // namespace penstock::conf
