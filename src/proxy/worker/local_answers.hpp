// Answers that need no engine: the list of models.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "penstock/fleet_view.hpp"

namespace penstock::worker {

// GET /v1/models: what can be asked for here, which is what routing knows. The names of pools, and what
// their engines serve (LoRA adapters included) where the pool lets it pass; by name, so that every replica
// answers the same.
std::string models_body(const fleet_view& fleet);

// GET /v1/models/{id}; nothing when no pool would serve it under this name.
std::optional<std::string> model_body(const fleet_view& fleet, std::string_view id);

}  // namespace penstock::worker
