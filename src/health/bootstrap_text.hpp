// The answer of GET /query of a Mooncake bootstrap server read into what the ranks of its engine are called.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "penstock/bytes.hpp"

namespace penstock::health {

inline constexpr std::size_t max_ranks = 4096;
inline constexpr std::size_t max_rank_id_bytes = 256;
inline constexpr std::size_t max_bootstrap_text_bytes = 1u << 20;

// {"0": {"engine_id": "..."}, "1": ...} -> ids by rank, "" where a rank is not there. nullopt: no such
// object, or no usable id in it. An id that JSON would have to escape is not usable: it is sent on as it is.
std::optional<std::vector<std::string>> read_bootstrap(bytes_view json);

}  // namespace penstock::health
