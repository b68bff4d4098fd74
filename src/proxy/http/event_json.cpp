#include "proxy/http/event_json.hpp"

#include <simdjson.h>

namespace penstock::http {
namespace {

namespace dom = simdjson::dom;

// More tokens than this in one answer are nonsense and are not believed.
constexpr std::uint64_t believable = std::uint64_t{1} << 40;

bool read_count(const dom::element& value, std::uint64_t& out) {
  std::uint64_t n = 0;
  if (value.get(n) != simdjson::SUCCESS || n > believable) return false;
  out = n;
  return true;
}

// prompt_tokens_details / input_tokens_details
void read_details(const dom::element& value, token_usage& usage) {
  dom::object details;
  if (value.get(details) != simdjson::SUCCESS) return;
  for (const auto [key, v] : details) {
    if (key == "cached_tokens" && read_count(v, usage.cached)) usage.cached_known = true;
  }
}

// OpenAI counts cached tokens inside the prompt; Anthropic's input_tokens leaves out what was read
// from or written to the cache (llama.cpp: input 1 + cache read 22 = 23 prompt tokens).
bool read_usage(const dom::object& object, token_usage& usage) {
  bool any = false, input = false;
  std::uint64_t cache_read = 0, cache_written = 0;
  for (const auto [key, v] : object) {
    if (key == "prompt_tokens") {
      any |= read_count(v, usage.prompt);
    } else if (key == "input_tokens") {
      input = read_count(v, usage.prompt);
    } else if (key == "completion_tokens" || key == "output_tokens") {
      any |= read_count(v, usage.completion);
    } else if (key == "prompt_tokens_details" || key == "input_tokens_details") {
      read_details(v, usage);
    } else if (key == "cache_read_input_tokens") {
      if (read_count(v, cache_read)) {
        usage.cached = cache_read;
        usage.cached_known = true;
      }
    } else if (key == "cache_creation_input_tokens") {
      read_count(v, cache_written);
    }
  }
  if (input) usage.prompt += cache_read + cache_written;
  any |= input;
  if (any) usage.known = true;
  return any;
}

bool holds_something(const dom::element& v) {
  std::string_view text;
  dom::array array;
  dom::object object;
  if (v.get(text) == simdjson::SUCCESS) return !text.empty();
  if (v.get(array) == simdjson::SUCCESS) return array.begin() != array.end();
  if (v.get(object) == simdjson::SUCCESS) return object.begin() != object.end();
  return false;
}

bool content_key(std::string_view key) {
  return key == "content" || key == "reasoning" || key == "reasoning_content" || key == "thinking" ||
         key == "tool_calls" || key == "function_call" || key == "refusal" || key == "audio";
}

bool choice_has_content(const dom::element& choice) {
  dom::object members;
  if (choice.get(members) != simdjson::SUCCESS) return false;
  for (const auto [key, v] : members) {
    if (key == "text" && holds_something(v)) return true;
    dom::object delta;
    if (key != "delta" || v.get(delta) != simdjson::SUCCESS) continue;
    for (const auto [name, value] : delta) {
      if (content_key(name) && holds_something(value)) return true;
    }
  }
  return false;
}

void read_choices(const dom::element& value, event_facts& out) {
  dom::array choices;
  if (value.get(choices) != simdjson::SUCCESS) return;
  out.choices_empty = choices.begin() == choices.end();
  for (const dom::element choice : choices) out.content |= choice_has_content(choice);
}

// {"response": {"id", "usage"}} of the responses API, {"message": {"usage"}} of Anthropic's.
void read_wrapped(const dom::element& value, bool response, event_facts& out, token_usage& usage) {
  dom::object members;
  if (value.get(members) != simdjson::SUCCESS) return;
  for (const auto [key, v] : members) {
    dom::object counts;
    std::string_view text;
    if (key == "usage" && v.get(counts) == simdjson::SUCCESS) out.usage |= read_usage(counts, usage);
    if (response && key == "id" && v.get(text) == simdjson::SUCCESS) out.response_id.assign(text);
  }
}

}  // namespace

event_facts read_event_json(bytes_view data, token_usage& usage) {
  event_facts out;
  const simdjson::padded_string padded(data);
  dom::parser parser;
  dom::object top;
  if (parser.parse(padded).get(top) != simdjson::SUCCESS) return out;
  out.parsed = true;
  for (const auto [key, v] : top) {
    if (key == "error") {
      out.error |= !v.is_null();
    } else if (key == "usage") {
      dom::object counts;
      if (v.get(counts) == simdjson::SUCCESS) out.usage |= read_usage(counts, usage);
    } else if (key == "choices") {
      read_choices(v, out);
    } else if (key == "type") {
      std::string_view type;
      if (v.get(type) == simdjson::SUCCESS) out.type.assign(type);
    } else if (key == "response" || key == "message") {
      read_wrapped(v, key == "response", out, usage);
    }
  }
  out.error |= out.type == "error";
  return out;
}

bool read_usage_json(bytes_view object, token_usage& usage) {
  // Usage is flat but for its details; simdjson's usual depth of 1,024 would be 9 KiB for every answer.
  constexpr std::size_t deepest = 16;
  const simdjson::padded_string padded(object);
  dom::parser parser;
  dom::object counts;
  if (parser.allocate(padded.size(), deepest) != simdjson::SUCCESS) return false;
  return parser.parse(padded).get(counts) == simdjson::SUCCESS && read_usage(counts, usage);
}

}  // namespace penstock::http
