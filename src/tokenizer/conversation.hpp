// Messages, items, tools and their parts as canonical prompt bytes, for every API that has them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tokenizer/json_doc.hpp"
#include "tokenizer/prompt_writer.hpp"

namespace penstock::tokenizer {

// Writes the canonical bytes of a conversation. Only what templates render is written, in one order
// whatever the order of a message's keys: so ids, states and marks (cache_control) that clients add or move
// between turns change nothing, a string equals a single text part, and a conversation that goes on
// begins with the bytes it had before. What has an unexpected type is the engine's to refuse.
class conversation {
 public:
  conversation(const json_doc& doc, prompt_writer& out) : doc_(doc), out_(out) {}

  // An array of tools, each as its minified JSON less cache_control. Their keys keep the client's order,
  // because templates render schemas in it: another order is another prompt.
  void tools(json_doc::index array);
  // `documents` of chat: rendered before the messages.
  void documents(json_doc::index array);
  // `system` of messages and `instructions` of responses: a system message.
  void system(json_doc::index value);
  // `messages` of chat (OpenAI) and of messages (Anthropic).
  void messages(json_doc::index array);
  // `input` of responses: a string, or an array of items.
  void input(json_doc::index value);

 private:
  void message(json_doc::index value);
  void item(json_doc::index value);
  void content(json_doc::index value, bool system = false);
  void part(json_doc::index value, bool system);
  void tool_calls(json_doc::index array);
  void call(json_doc::index id, json_doc::index name, json_doc::index arguments);
  void media_part(media_kind kind, json_doc::index source, json_doc::index uuid);
  bool text_document(json_doc::index source);
  void framed(frame f, json_doc::index value);
  bool present(json_doc::index value) const { return value != json_doc::root && !doc_.is_null(value); }
  bool is_string(json_doc::index value) const { return value != json_doc::root && doc_.is_string(value); }

  const json_doc& doc_;
  prompt_writer& out_;
  int nesting_ = 0;  // of content in content
  std::string scratch_;
};

}  // namespace penstock::tokenizer
