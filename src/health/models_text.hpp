// The answer of GET /v1/models read into what an engine serves, LoRA adapters included.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "penstock/bytes.hpp"
#include "penstock/fleet_view.hpp"

namespace penstock::health {

// Bounds of one answer: entries beyond the first are left out, longer ids are skipped.
inline constexpr std::size_t max_models = 4096;
inline constexpr std::size_t max_model_id_bytes = 1024;
inline constexpr std::size_t max_models_text_bytes = 16u << 20;

// nullopt: not a list of models (no JSON, no `data` array, above max_models_text_bytes). Entries without a
// usable `id` are left out, of equal ids the first stays. `root` is the id where the engine names none;
// llama.cpp's `aliases` become models of their own with the `root` of what they name, and its second list,
// `models`, is ignored. `max_model_len` is llama.cpp's `meta.n_ctx` where it has no field of its own.
std::optional<std::vector<served_model>> read_models(bytes_view json);

}  // namespace penstock::health
