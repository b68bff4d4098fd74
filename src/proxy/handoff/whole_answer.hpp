// A prefill answer that is the client's answer: TensorRT-LLM's context engine ended it with its first token.
#pragma once

#include <string>

#include "penstock/api.hpp"
#include "penstock/bytes.hpp"

namespace penstock::handoff {

// The answer without what engines say to each other: the hand-off and the prompt's tokens. Everything else
// stays to the byte.
std::string plain_answer(bytes_view body);

// The same as the event stream that the client asked for (chat and text completions): one event with all
// that was generated, one with the end, one with usage if `usage`, and [DONE]. Values are the answer's own
// bytes. Empty where the body is no such answer.
std::string answer_as_events(api_kind api, bytes_view body, bool usage);

}  // namespace penstock::handoff
