#include "proxy/config/units.hpp"

#include <fmt/core.h>

#include <array>
#include <limits>
#include <optional>

#include "proxy/config/text.hpp"

namespace penstock::conf {
namespace {

struct unit {
  std::string_view name;
  std::uint64_t factor;
};

// Falling, so that the order of the parts of a duration is the order of this table.
constexpr std::array<unit, 5> time_units{{{"h", 3'600'000'000'000},
                                          {"m", 60'000'000'000},
                                          {"s", 1'000'000'000},
                                          {"ms", 1'000'000},
                                          {"us", 1'000}}};

// Binary units first: they are preferred when a size is printed.
constexpr std::array<unit, 10> size_units{{{"TiB", 1ULL << 40},
                                           {"GiB", 1ULL << 30},
                                           {"MiB", 1ULL << 20},
                                           {"KiB", 1ULL << 10},
                                           {"TB", 1'000'000'000'000},
                                           {"GB", 1'000'000'000},
                                           {"MB", 1'000'000},
                                           {"kB", 1'000},
                                           {"KB", 1'000},
                                           {"B", 1}}};

constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
constexpr std::string_view size_hint = "units: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB";
constexpr std::string_view duration_hint = "units: us, ms, s, m, h, as in \"30s\" or \"1m30s\"";

bool digit(char c) { return c >= '0' && c <= '9'; }

// Takes leading digits off `text`. Nothing when there are none or they exceed 63 bits.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  std::uint64_t n = 0;
  std::size_t used = 0;
  for (; used < text.size() && digit(text[used]); ++used) {
    const auto d = static_cast<std::uint64_t>(text[used] - '0');
    if (n > (most - d) / 10) return std::nullopt;
    n = n * 10 + d;
  }
  if (used == 0) return std::nullopt;
  text.remove_prefix(used);
  return n;
}

std::string_view take_word(std::string_view& text) {
  std::size_t used = 0;
  while (used < text.size() && !digit(text[used])) ++used;
  const auto word = text.substr(0, used);
  text.remove_prefix(used);
  return word;
}

bool starts_like_fraction(std::string_view rest) {
  return !rest.empty() && (rest[0] == '.' || rest[0] == ',');
}

unit_error duration_error(std::string_view text, std::string_view why, std::string hint = {}) {
  return {fmt::format("{} is no duration: {}", in_quotes(text), why),
          hint.empty() ? std::string(duration_hint) : std::move(hint)};
}

unit_error size_error(std::string_view text, std::string_view why, std::string_view hint = size_hint) {
  return {fmt::format("{} is no size: {}", in_quotes(text), why), std::string(hint)};
}

// What is wrong with the unit `word` after the number `n`.
unit_error bad_time_unit(std::string_view text, std::uint64_t n, std::string_view word) {
  if (word.empty())
    return duration_error(text, "it has no unit", fmt::format("write \"{}s\" for seconds", n));
  if (starts_like_fraction(word))
    return duration_error(text, "fractions are not read", "use a smaller unit, as in \"1s500ms\"");
  return duration_error(text, fmt::format("unknown unit {}", in_quotes(word)));
}

}  // namespace

std::variant<duration, unit_error> parse_duration(std::string_view text) {
  if (text.empty()) return duration_error(text, "it is empty");
  if (text[0] == '-') return duration_error(text, "it is negative", "0s is the least");
  std::string_view rest = text;
  std::uint64_t total = 0;
  std::size_t next_unit = 0;
  while (!rest.empty()) {
    const bool has_digit = digit(rest[0]);
    const auto n = take_number(rest);
    if (!n) return duration_error(text, has_digit ? "the number is too large" : "a number is missing");
    const auto word = take_word(rest);
    std::size_t i = 0;
    while (i < time_units.size() && time_units[i].name != word) ++i;
    if (i == time_units.size()) return bad_time_unit(text, *n, word);
    if (i < next_unit) return duration_error(text, "units must fall and occur once", "as in \"1h30m\"");
    next_unit = i + 1;
    if (*n > (most - total) / time_units[i].factor) return duration_error(text, "the number is too large");
    total += *n * time_units[i].factor;
  }
  return duration{static_cast<duration::rep>(total)};
}

std::variant<std::uint64_t, unit_error> parse_size(std::string_view text) {
  if (text.empty()) return size_error(text, "it is empty");
  if (text[0] == '-') return size_error(text, "it is negative", "0 is the least");
  std::string_view rest = text;
  const bool has_digit = digit(rest[0]);
  const auto n = take_number(rest);
  if (!n) return size_error(text, has_digit ? "the number is too large" : "a number is missing");
  if (rest.empty()) return *n;
  if (starts_like_fraction(rest))
    return size_error(text, "fractions are not read", "use a smaller unit, as in \"1536MiB\"");
  for (const auto& u : size_units) {
    if (u.name != rest) continue;
    if (*n > most / u.factor) return size_error(text, "the number is too large");
    return *n * u.factor;
  }
  if (rest == "k" || rest == "K" || rest == "M" || rest == "G" || rest == "T")
    return size_error(text, "the unit could be 1000 or 1024 based",
                      fmt::format("write \"{0}{1}iB\" or \"{0}{2}B\"", *n, rest == "k" ? "K" : rest,
                                  rest == "K" ? "k" : rest));
  return size_error(text, fmt::format("unknown unit {}", in_quotes(rest)));
}

std::string format_duration(duration d) {
  if (d <= duration::zero()) return "0s";
  auto left = static_cast<std::uint64_t>(d.count());
  std::string out;
  for (const auto& u : time_units) {
    if (left >= u.factor) out += fmt::format("{}{}", left / u.factor, u.name);
    left %= u.factor;
  }
  return out.empty() ? "0s" : out;
}

std::string format_size(std::uint64_t bytes) {
  if (bytes == 0) return "0";
  for (const auto& u : size_units)
    if (u.factor > 1 && bytes % u.factor == 0) return fmt::format("{}{}", bytes / u.factor, u.name);
  return fmt::format("{}", bytes);
}

}  // namespace penstock::conf
