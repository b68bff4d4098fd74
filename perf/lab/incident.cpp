#include <fmt/format.h>

#include <array>
#include <charconv>

#include "world.hpp"

namespace penstock::lab {
namespace {

constexpr std::array<std::pair<std::string_view, event_kind>, 5> kinds = {{{"slow", event_kind::slow},
                                                                           {"stall", event_kind::stall},
                                                                           {"restart", event_kind::restart},
                                                                           {"join", event_kind::join},
                                                                           {"blind", event_kind::blind}}};

// Takes what stands before the first of `ends` off `text`.
std::string_view take(std::string_view& text, std::string_view ends) {
  const std::size_t n = std::min(text.find_first_of(ends), text.size());
  const std::string_view head = text.substr(0, n);
  text.remove_prefix(n);
  return head;
}

bool read_parts(std::string_view text, engine_incident& e) {
  const std::string_view kind = take(text, ":");
  bool known = false;
  for (const auto& [word, value] : kinds) {
    if (word != kind) continue;
    e.kind = value;
    known = true;
  }
  if (!known || text.empty()) return false;
  text.remove_prefix(1);
  const std::string_view engine = take(text, "@");
  if (engine != "*") {
    const auto [end, error] = std::from_chars(engine.data(), engine.data() + engine.size(), e.engine);
    if (error != std::errc{} || end != engine.data() + engine.size()) return false;
  }
  if (text.empty()) return false;
  while (!text.empty()) {
    const char sign = text.front();
    text.remove_prefix(1);
    const std::string_view part = take(text, "+/=");
    if (sign == '=') {
      const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), e.value);
      if (error != std::errc{} || end != part.data() + part.size() || !(e.value > 0)) return false;
      continue;
    }
    const std::optional<duration> d = parse_duration(part);
    if (!d) return false;
    (sign == '@' ? e.at : sign == '+' ? e.lasts : e.every) = *d;
  }
  return e.kind != event_kind::join || e.engine != nobody;
}

}  // namespace

std::optional<duration> parse_duration(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || !(value >= 0) || value > 1e9) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  double factor = 0;
  if (unit.empty() || unit == "s") factor = 1;
  if (unit == "ms") factor = 1e-3;
  if (unit == "m" || unit == "min") factor = 60;
  if (unit == "h") factor = 3600;
  if (factor == 0) return std::nullopt;
  return duration(static_cast<duration::rep>(value * factor * 1e9));
}

std::optional<engine_incident> parse_incident(std::string_view text, std::string& error) {
  engine_incident e;
  if (read_parts(text, e)) return e;
  error = fmt::format(
      "\"{}\" is no incident; write KIND:ENGINE@TIME[+LASTS][/EVERY][=VALUE] with KIND slow, stall, restart, "
      "join or blind and ENGINE a number or *: slow:0@0s, restart:*@300s+20s/300s, join:3@600s",
      text);
  return std::nullopt;
}

}  // namespace penstock::lab
