// From the prompt members of a parsed body to tokens, and the choice of a tool to call.
#pragma once

#include <optional>

#include <simdjson.h>

#include "emulator/server/request.hpp"

namespace penstock::emulator {

struct prompt_context {
  engine_api api;
  const response_memory& memory;
};

// Fills prompts and texts of `r`.
std::optional<api_failure> read_prompts(const simdjson::dom::object& body, const prompt_context& context,
                                        engine_request& r);

// The tool that the answer calls: with tools, unless tool_choice is none or the last message is a tool's
// result; the named one, else the first.
tool_call choose_tool(const simdjson::dom::object& body, engine_api api);

}  // namespace penstock::emulator
