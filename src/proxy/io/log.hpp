// Lines about the process itself, for people: to stderr, from the control thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace penstock::io {

enum class log_level : std::uint8_t { error, warn, info, debug };

// What is less important than this is not written. Set at start-up and by reloads.
void set_log_level(std::string_view name);
void log(log_level level, std::string_view text);

}  // namespace penstock::io
