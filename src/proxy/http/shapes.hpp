// Errors and stream ends in the shape of each API.
#pragma once

#include <string>

#include "penstock/api.hpp"
#include "penstock/error.hpp"

namespace penstock::http {

// HTTP status of an error: its own, else its reason's.
int status_of(const api_error& e);

// The JSON body of an error answer: OpenAI's {"error":{message,type,param,code}} or, for Anthropic,
// {"type":"error","error":{type,message},"request_id":...}.
std::string error_body(dialect d, const api_error& e, std::string_view request_id);

// State an error event has to fit into.
struct stream_tail {
  std::string_view response_id;     // responses API, "" when none was seen
  std::uint64_t next_sequence = 0;  // responses API: sequence_number of the next event
};

// One whole SSE event that tells the client its stream is broken. Never an end marker.
std::string error_event(dialect d, const api_error& e, std::string_view request_id, const stream_tail& tail);

// How many bytes at the beginning of `text` may stand in a JSON string as they are; plain ASCII only.
std::size_t plain_json_length(std::string_view text);
// Appends `text` as the inside of a JSON string.
void append_json_escaped(std::string& out, std::string_view text);

}  // namespace penstock::http
