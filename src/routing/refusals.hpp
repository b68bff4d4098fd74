// What a caller is told when nobody can be asked.
#pragma once

#include <string_view>

#include "penstock/error.hpp"
#include "penstock/fleet_view.hpp"
#include "routing/candidates.hpp"

namespace penstock::routing {

// No pool lists or serves the model; the message names the models there are.
api_error refuse_model(std::string_view model, const fleet_view& fleet);
// The response is not remembered, or the engine that holds it cannot be asked.
api_error refuse_response(std::string_view response_id);
// The pool matched, but none of its endpoints can take the request now.
api_error refuse_pool(std::string_view pool, const absences& absent, const fleet_view& fleet);

}  // namespace penstock::routing
