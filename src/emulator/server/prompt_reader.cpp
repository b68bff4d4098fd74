#include "emulator/server/prompt_reader.hpp"

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "emulator/server/json_text.hpp"

namespace penstock::emulator {
namespace {

using simdjson::SUCCESS;
using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

std::string_view text_of(const object& o, std::string_view key) {
  std::string_view v;
  return o.at_key(key).get(v) == SUCCESS ? v : std::string_view{};
}

// One part of a message's content. What is neither text nor a known medium counts as its JSON.
void add_part(const object& part, prompt_builder& out) {
  if (const std::string_view text = text_of(part, "text"); !text.empty()) return out.text(text);
  for (const std::string_view key :
       {"image_url", "video_url", "audio_url", "input_audio", "source", "file_id"}) {
    element e;
    if (part.at_key(key).get(e) != SUCCESS) continue;
    std::string_view url;
    if (e.get(url) == SUCCESS || e["url"].get(url) == SUCCESS || e["data"].get(url) == SUCCESS)
      return out.media(url);
  }
  if (const std::string_view type = text_of(part, "type"); type == "text" || type == "input_text") return;
  out.text(std::string(simdjson::minify(part)));
}

void add_content(const element& content, prompt_builder& out) {
  std::string_view text;
  array parts;
  if (content.get(text) == SUCCESS) {
    out.text(text);
  } else if (content.get(parts) == SUCCESS) {
    for (const element part : parts) {
      object o;
      if (part.get(o) == SUCCESS) add_part(o, out);
      if (part.get(text) == SUCCESS) out.text(text);
    }
  }
}

void add_message(const object& message, std::string_view role, prompt_builder& out) {
  out.begin_message(role);
  element e;
  if (message.at_key("content").get(e) == SUCCESS) add_content(e, out);
  for (const std::string_view key : {"tool_calls", "name", "arguments", "output"}) {
    if (message.at_key(key).get(e) != SUCCESS || e.is_null()) continue;
    out.text(std::string(simdjson::minify(e)));
  }
}

void add_tools(const object& body, prompt_builder& out) {
  array tools;
  if (body.at_key("tools").get(tools) != SUCCESS || tools.size() == 0) return;
  out.begin_message("tools");
  out.text(std::string(simdjson::minify(tools)));
  out.end_message();
}

void add_system(const object& body, std::string_view key, prompt_builder& out) {
  element e;
  if (body.at_key(key).get(e) != SUCCESS || e.is_null()) return;
  out.begin_message("system");
  add_content(e, out);
  out.end_message();
}

// A list of messages as chat, messages and responses have it.
void add_conversation(const array& messages, bool open_ended, prompt_builder& out) {
  std::size_t left = messages.size();
  for (const element e : messages) {
    object message;
    --left;
    if (e.get(message) != SUCCESS) continue;
    std::string_view role = text_of(message, "role");
    if (role.empty()) role = text_of(message, "type") == "function_call_output" ? "tool" : "assistant";
    add_message(message, role, out);
    if (left > 0 || !open_ended) out.end_message();
  }
}

std::optional<api_failure> read_chat(const object& body, engine_api api, engine_request& r) {
  array messages;
  if (body.at_key("messages").get(messages) != SUCCESS) {
    return api_failure{
        400,
        "1 validation error:\n  {'type': 'list_type', 'loc': 'body.messages', 'msg': 'Input should be a "
        "valid list', 'input': '...'}",
        "Bad Request", "body.messages"};
  }
  if (messages.size() == 0) {
    return api_failure{400,
                       "Cannot apply chat template to an empty conversation. Provide at least one message.",
                       "BadRequestError", ""};
  }
  prompt_builder out;
  add_tools(body, out);
  if (api == engine_api::messages) add_system(body, "system", out);
  bool goes_on = false;
  if (body.at_key("continue_final_message").get(goes_on) != SUCCESS) goes_on = false;
  add_conversation(messages, goes_on, out);
  if (!goes_on) out.begin_message("assistant");
  r.prompts.push_back(out.take());
  return std::nullopt;
}

std::optional<api_failure> read_responses(const object& body, const prompt_context& context,
                                          engine_request& r) {
  prompt_builder out;
  add_tools(body, out);
  add_system(body, "instructions", out);
  if (const std::string_view id = text_of(body, "previous_response_id"); !id.empty()) {
    const std::vector<token_id> before = context.memory(id);
    if (before.empty()) {
      return api_failure{404, fmt::format("Response with id '{}' not found.", id), "invalid_request_error",
                         "response_id"};
    }
    out.raw(std::span(before).subspan(1));  // its own begin of text is left out
    out.end_message();
  }
  element input;
  if (body.at_key("input").get(input) != SUCCESS) return std::nullopt;
  array items;
  if (input.get(items) == SUCCESS) {
    add_conversation(items, false, out);
  } else {
    out.begin_message("user");
    add_content(input, out);
    out.end_message();
  }
  out.begin_message("assistant");
  r.prompts.push_back(out.take());
  return std::nullopt;
}

// A string, token ids, or a list of either.
void add_plain(const element& e, engine_request& r) {
  std::string_view text;
  if (e.get(text) == SUCCESS) {
    prompt_builder out;
    out.text(text);
    r.prompts.push_back(out.take());
    return;
  }
  array list;
  if (e.get(list) != SUCCESS) return;
  std::vector<token_id> ids;
  for (const element item : list) {
    std::uint64_t id = 0;
    if (item.get(id) == SUCCESS) {
      ids.push_back(static_cast<token_id>(id));
    } else {
      add_plain(item, r);
    }
  }
  if (!ids.empty()) r.prompts.push_back(std::move(ids));
}

void add_pair(std::string_view query, std::string_view document, engine_request& r) {
  prompt_builder out;
  out.text(query);
  out.end_message();
  out.text(document);
  r.prompts.push_back(out.take());
  r.texts.emplace_back(document);
}

std::vector<std::string_view> strings_of(const element& e) {
  std::vector<std::string_view> all;
  std::string_view one;
  array list;
  if (e.get(one) == SUCCESS) all.push_back(one);
  if (e.get(list) == SUCCESS) {
    for (const element item : list) {
      if (item.get(one) == SUCCESS || item["text"].get(one) == SUCCESS) all.push_back(one);
    }
  }
  return all;
}

std::optional<api_failure> read_pairs(const object& body, engine_api api, engine_request& r) {
  element left, right;
  const bool rerank = api == engine_api::rerank;
  if (body.at_key(rerank ? "query" : "text_1").get(left) != SUCCESS ||
      body.at_key(rerank ? "documents" : "text_2").get(right) != SUCCESS) {
    const std::string field = rerank ? "documents" : "text_1";
    return api_failure{
        400,
        fmt::format(
            "1 validation error:\n  {{'type': 'missing', 'loc': 'body.{0}', 'msg': 'Field required'}}",
            field),
        "Bad Request", "body." + field};
  }
  const auto queries = strings_of(left);
  const auto documents = strings_of(right);
  for (std::size_t i = 0; i < documents.size() && !queries.empty(); ++i) {
    add_pair(queries[queries.size() == documents.size() ? i : 0], documents[i], r);
  }
  return std::nullopt;
}

std::optional<api_failure> read_plain(const object& body, std::string_view key, engine_request& r) {
  element e;
  if (body.at_key(key).get(e) == SUCCESS) add_plain(e, r);
  return std::nullopt;
}

// A value that fits a JSON schema's type.
std::string sample_value(const element& schema) {
  array choices;
  if (schema["enum"].get(choices) == SUCCESS && choices.size() > 0)
    return std::string(simdjson::minify(choices.at(0)));
  std::string_view type;
  if (schema["type"].get(type) != SUCCESS) type = "string";
  if (type == "integer") return "7";
  if (type == "number") return "1.5";
  if (type == "boolean") return "true";
  if (type == "array") return "[]";
  if (type == "object") return "{}";
  return "\"the red fox\"";
}

std::string sample_arguments(const element& schema) {
  std::string out = "{";
  object properties;
  if (schema["properties"].get(properties) == SUCCESS) {
    for (const auto property : properties) {
      out += fmt::format("{}{}: {}", out.size() > 1 ? ", " : "", quote(property.key),
                         sample_value(property.value));
    }
  }
  return out + "}";
}

// Chat nests a tool in "function"; responses and messages do not.
element function_of(const element& tool) {
  element inner;
  return tool["function"].get(inner) == SUCCESS ? inner : tool;
}

std::string_view chosen_name(const object& body) {
  element choice;
  std::string_view name;
  if (body.at_key("tool_choice").get(choice) != SUCCESS) return {};
  if (choice.get(name) == SUCCESS) return name == "none" ? name : std::string_view{};
  if (choice["type"].get(name) == SUCCESS && name == "none") return name;
  return function_of(choice)["name"].get(name) == SUCCESS ? name : std::string_view{};
}

// Whether the conversation's last entry is the result of a tool.
bool ends_with_result(const object& body, engine_api api) {
  array list;
  if (body.at_key(api == engine_api::responses ? "input" : "messages").get(list) != SUCCESS ||
      list.size() == 0)
    return false;
  const element last = list.at(list.size() - 1);
  std::string_view text;
  if (last["role"].get(text) == SUCCESS && text == "tool") return true;
  if (last["type"].get(text) == SUCCESS && text == "function_call_output") return true;
  return last["content"].at(0)["type"].get(text) == SUCCESS && text == "tool_result";
}

}  // namespace

std::optional<api_failure> read_prompts(const object& body, const prompt_context& context,
                                        engine_request& r) {
  std::optional<api_failure> failure;
  switch (context.api) {
    case engine_api::chat:
    case engine_api::messages: failure = read_chat(body, context.api, r); break;
    case engine_api::responses: failure = read_responses(body, context, r); break;
    case engine_api::completions: failure = read_plain(body, "prompt", r); break;
    case engine_api::embeddings: failure = read_plain(body, "input", r); break;
    case engine_api::rerank:
    case engine_api::score: failure = read_pairs(body, context.api, r); break;
    case engine_api::tokenize: {
      element e;
      const bool chat = body.at_key("messages").get(e) == SUCCESS;
      failure = chat ? read_chat(body, context.api, r) : read_plain(body, "prompt", r);
      break;
    }
  }
  if (!failure && r.prompts.empty()) {
    return api_failure{400, "Either prompt or prompt_embeds must be provided and non-empty.",
                       "BadRequestError", ""};
  }
  return failure;
}

tool_call choose_tool(const object& body, engine_api api) {
  array tools;
  const std::string_view wanted = chosen_name(body);
  if (body.at_key("tools").get(tools) != SUCCESS || wanted == "none" || ends_with_result(body, api))
    return {};
  for (const element tool : tools) {
    const element function = function_of(tool);
    std::string_view name;
    if (function["name"].get(name) != SUCCESS || (!wanted.empty() && name != wanted)) continue;
    element schema;
    const bool given =
        function["parameters"].get(schema) == SUCCESS || function["input_schema"].get(schema) == SUCCESS;
    return {std::string(name), given ? sample_arguments(schema) : "{}"};
  }
  return {};
}

}  // namespace penstock::emulator
