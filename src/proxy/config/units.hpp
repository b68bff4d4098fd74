// Durations and sizes as people write them. Whole numbers with a unit; nothing is rounded.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "penstock/time.hpp"

namespace penstock::conf {

// Why a text is no such value; `hint` says how to write it.
struct unit_error {
  std::string what;
  std::string hint;
};

// "1h30m", "250ms", "0s": parts in falling units (h, m, s, ms, us), each once.
std::variant<duration, unit_error> parse_duration(std::string_view text);
// "64MiB", "1MB", "512B" or bytes alone ("4096"). KiB = 1024, kB or KB = 1000. Below 2^63.
std::variant<std::uint64_t, unit_error> parse_size(std::string_view text);

// The shortest text that parses back to the same value.
std::string format_duration(duration d);
std::string format_size(std::uint64_t bytes);

}  // namespace penstock::conf
