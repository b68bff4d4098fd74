#include "proxy/http/sse_scanner.hpp"

#include <algorithm>

#include "proxy/http/byte_search.hpp"
#include "proxy/http/event_json.hpp"

namespace penstock::http {
namespace {

constexpr std::size_t npos = bytes_view::npos;
// Buffers above this are given back once they are empty: most streams of a worker are idle.
constexpr std::size_t kept_bytes = 1024;
constexpr std::size_t max_response_id = 256;
// An oversized event tells its name this early or not at all.
constexpr std::size_t name_window = 4096;

bool ends_with(bytes_view s, bytes_view suffix) {
  return s.size() >= suffix.size() && s.substr(s.size() - suffix.size()) == suffix;
}

bool is_done(bytes_view data) {
  while (!data.empty() && data.back() == ' ') data.remove_suffix(1);
  return data == "[DONE]";
}

bool content_key(bytes_view key) {
  return key == "content" || key == "reasoning_content" || key == "reasoning" || key == "tool_calls" ||
         key == "refusal" || key == "function_call" || key == "audio" || key == "thinking";
}

// Offset of the closing quote of a string that begins at `from`; npos if it has escapes or no end.
std::size_t plain_string_end(bytes_view s, std::size_t from) {
  for (std::size_t i = from; i < s.size(); ++i) {
    if (s[i] == '"') return i;
    if (s[i] == '\\') return npos;
  }
  return npos;
}

// Walks the members of one delta object as engines write it. True: it has content for certain. False:
// it may not, ask the parser.
bool delta_has_content(bytes_view s, std::size_t after_key) {
  std::size_t at = value_of_key(s, after_key);
  if (at == npos || s[at] != '{') return false;
  ++at;
  for (;;) {
    at = skip_blanks(s, at);
    if (at >= s.size() || s[at] != '"') return false;
    const std::size_t key_end = plain_string_end(s, at + 1);
    if (key_end == npos) return false;
    const bytes_view key = s.substr(at + 1, key_end - at - 1);
    at = value_of_key(s, key_end + 1);
    if (at == npos || at + 4 >= s.size()) return false;
    if (s[at] == '"') {
      const bool empty = s[at + 1] == '"';
      if (!empty && content_key(key)) return true;
      at = empty ? at + 1 : plain_string_end(s, at + 1);
      if (at == npos) return false;
      ++at;
    } else if (s.substr(at, 4) == "null") {
      at += 4;
    } else {
      const std::size_t inside = skip_blanks(s, at + 1);
      const bool filled = inside < s.size() && s[inside] != ']' && s[inside] != '}';
      return (s[at] == '[' || s[at] == '{') && filled && content_key(key);
    }
    at = skip_blanks(s, at);
    if (at >= s.size() || s[at] != ',') return false;
    ++at;
  }
}

// Keys of five letters that matter in an event after the first token, found in one pass.
struct quick_look {
  bool ask = false;          // "usage" or "error" with a value: only the parser knows
  std::size_t delta = npos;  // just past the first "delta"
};

quick_look look_quickly(bytes_view data) {
  quick_look out;
  each_pair(data, '"', '"', 6, [&](std::size_t at) {
    const char* const word = data.data() + at + 1;
    const bool delta = std::memcmp(word, "delta", 5) == 0;
    if (!delta && std::memcmp(word, "usage", 5) != 0 && std::memcmp(word, "error", 5) != 0) return false;
    const std::size_t value = value_of_key(data, at + 7);
    if (value == npos) return false;
    if (delta) {
      if (out.delta == npos) out.delta = at + 7;
      return false;
    }
    out.ask |= data[value] != 'n';
    return out.ask;
  });
  return out;
}

bool text_has_content(bytes_view data) {
  const std::size_t at = find_word(data, "\"text\"");
  if (at == npos) return false;
  const std::size_t value = value_of_key(data, at + 6);
  return value != npos && data[value] == '"' && value + 1 < data.size() && data[value + 1] != '"';
}

// The event's type for streams without `event:` lines.
bytes_view response_type(bytes_view data) {
  for (const bytes_view start : {R"("type":"response.)", R"("type": "response.)"}) {
    const std::size_t at = find_word(data, start);
    if (at == npos) continue;
    const std::size_t begin = at + start.size() - bytes_view("response.").size();
    const std::size_t end = plain_string_end(data, begin);
    return end == npos ? bytes_view() : data.substr(begin, end - begin);
  }
  return {};
}

}  // namespace

sse_scanner::sse_scanner(api_kind api, std::size_t event_limit) : event_limit_(event_limit), api_(api) {}

event_kind sse_scanner::content() {
  first_token_ = true;
  ++content_events_;
  return event_kind::content;
}

event_kind sse_scanner::failed() {
  error_ = true;
  return event_kind::error;
}

event_kind sse_scanner::end_of_response(bool failure) {
  ended_ = true;
  end_is_failure_ = failure;
  error_ |= failure;
  return event_kind::end_marker;
}

event_kind sse_scanner::classify_parsed(bytes_view data) {
  const event_facts facts = read_event_json(data, usage_);
  if (facts.error) return failed();
  if (facts.usage && facts.choices_empty) return event_kind::usage_only;
  if (facts.content || !reads_choices()) return content();
  return event_kind::frame;
}

event_kind sse_scanner::classify_quickly(bytes_view data) {
  const quick_look seen = look_quickly(data);
  if (seen.ask) return classify_parsed(data);
  if (!reads_choices()) return content();
  const bool sure = api_ == api_kind::chat ? seen.delta != npos && delta_has_content(data, seen.delta)
                                           : text_has_content(data);
  return sure ? content() : classify_parsed(data);
}

event_kind sse_scanner::classify_choices(const event_fields& f) {
  if (is_done(f.data)) {
    ended_ = true;
    return event_kind::end_marker;
  }
  if (f.name == "error") return failed();
  return first_token_ ? classify_quickly(f.data) : classify_parsed(f.data);
}

void sse_scanner::note_sequence(bytes_view data) {
  ++next_sequence_;
  const std::size_t at = find_word(data, "\"sequence_number\"");
  if (at == npos) return;
  const std::size_t value = value_of_key(data, at + 17);
  std::uint64_t n = 0;
  std::size_t i = value;
  for (; i < data.size() && data[i] >= '0' && data[i] <= '9' && i < value + 15; ++i) {
    n = n * 10 + static_cast<unsigned>(data[i] - '0');
  }
  if (i > value && value != npos) next_sequence_ = n + 1;
}

event_kind sse_scanner::classify_responses(const event_fields& f) {
  note_sequence(f.data);
  event_facts facts;
  bytes_view type = f.name.empty() ? response_type(f.data) : f.name;
  const bool parsed = type.empty();
  if (parsed) {
    facts = read_event_json(f.data, usage_);
    type = facts.type;
  }
  if (ends_with(type, ".delta")) return content();
  if (type == "error") return failed();
  const bool failure = type == "response.failed";
  const bool end = failure || type == "response.completed" || type == "response.incomplete";
  if (!parsed) {
    const bool telling = end || (response_id_.empty() && !first_token_);
    if (!telling) return event_kind::frame;
    facts = read_event_json(f.data, usage_);
  }
  if (response_id_.empty() && facts.response_id.size() <= max_response_id) {
    response_id_ = std::move(facts.response_id);
  }
  if (end) return end_of_response(failure);
  return facts.error && facts.type != "response.created" ? failed() : event_kind::frame;
}

event_kind sse_scanner::classify_messages(const event_fields& f) {
  bytes_view type = f.name;
  event_facts facts;
  if (type.empty() || type == "message_start" || type == "message_delta") {
    facts = read_event_json(f.data, usage_);
    if (type.empty()) type = facts.type;
  }
  if (type == "content_block_delta") return content();
  if (type == "error" || facts.error) return failed();
  if (type != "message_stop") return event_kind::frame;
  ended_ = true;
  return event_kind::end_marker;
}

event_fields sse_scanner::fields_of(bytes_view event) {
  const bool marked = at_start_ && event.substr(0, byte_order_mark.size()) == byte_order_mark;
  at_start_ = false;
  return read_event(marked ? event.substr(byte_order_mark.size()) : event, joined_);
}

event_kind sse_scanner::classify(bytes_view event) {
  const event_fields f = fields_of(event);
  if (!f.has_data) return event_kind::comment;
  ++events_;
  switch (api_) {
    case api_kind::responses: return classify_responses(f);
    case api_kind::messages: return classify_messages(f);
    default: return classify_choices(f);
  }
}

// The name decides where there is one; an OpenAI chunk of this size is taken for content.
void sse_scanner::begin_oversized(bytes_view start) {
  in_oversized_ = true;
  oversized_ends_ = oversized_fails_ = false;
  ++oversized_;
  ++events_;
  start = start.substr(0, std::min(name_window, event_limit_));
  const event_fields f = fields_of(start);
  if (api_ == api_kind::responses) {
    note_sequence(f.data);
    const bytes_view type = f.name.empty() ? response_type(f.data) : f.name;
    oversized_fails_ = type == "response.failed";
    oversized_ends_ = oversized_fails_ || type == "response.completed" || type == "response.incomplete";
    if (ends_with(type, ".delta")) content();
    if (type == "error") failed();
  } else if (api_ == api_kind::messages) {
    oversized_ends_ = f.name == "message_stop";
    if (f.name == "content_block_delta") content();
    if (f.name == "error") failed();
  } else if (f.name == "error" || f.data.substr(0, 9) == "{\"error\":") {
    failed();
  } else if (f.has_data) {
    content();
  }
}

void sse_scanner::end_oversized() {
  in_oversized_ = false;
  if (!oversized_ends_) return;
  ended_ = true;
  end_is_failure_ = oversized_fails_;
  error_ |= oversized_fails_;
}

// `part` ends the current event.
void sse_scanner::emit(bytes_view part, scanned_events& out) {
  const bool continued = in_oversized_;
  if (!carry_.empty()) {
    carry_.append(part);
    whole_.swap(carry_);
    carry_.clear();
    part = whole_;
  }
  if (!continued && part.size() <= event_limit_) {
    out.push_back({part, classify(part)});
    return;
  }
  if (!continued) begin_oversized(part);
  end_oversized();
  if (!part.empty()) out.push_back({part, event_kind::piece});
}

// `rest` does not end the current event.
void sse_scanner::keep(bytes_view rest, scanned_events& out) {
  if (in_oversized_) {
    out.push_back({rest, event_kind::piece});
    return;
  }
  if (carry_.size() + rest.size() <= event_limit_) {
    carry_.append(rest);
    return;
  }
  if (!carry_.empty()) {
    carry_.append(rest);
    whole_.swap(carry_);
    carry_.clear();
    rest = whole_;
  }
  begin_oversized(rest);
  out.push_back({rest, event_kind::piece});
}

bool sse_scanner::finish() {
  if (!reads_choices() || in_oversized_ || ended_ || !is_done(fields_of(carry_).data)) return false;
  ++events_;
  ended_ = true;
  return true;
}

std::size_t sse_scanner::scan(bytes_view in, scanned_events& out) {
  for (std::string* s : {&whole_, &joined_}) {
    if (s->capacity() > kept_bytes) std::string().swap(*s);
  }
  std::size_t at = 0;
  while (at < in.size() && !out.full()) {
    const bytes_view rest = in.substr(at);
    const std::size_t end = lines_.find_end(rest);
    if (end == npos) {
      keep(rest, out);
      return in.size();
    }
    emit(rest.substr(0, end), out);
    at += end;
  }
  return at;
}

}  // namespace penstock::http
