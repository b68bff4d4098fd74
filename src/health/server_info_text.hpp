// What SGLang tells of how it was started, read into what decisions and operators want to know.
#pragma once

#include <cstddef>
#include <optional>

#include "penstock/bytes.hpp"

namespace penstock::health {

inline constexpr std::size_t max_server_info_bytes = 4u << 20;

// GET /get_server_info of SGLang: whether it was started with --enable-cache-report, its
// `enable_cache_report`. nullopt: no such answer.
std::optional<bool> read_cache_report(bytes_view json);

}  // namespace penstock::health
