#include "proxy/http/event_json.hpp"

#include <simdjson.h>

#include "proxy/http/byte_search.hpp"

namespace penstock::http {
namespace {

namespace dom = simdjson::dom;

// More tokens than this in one answer are nonsense and are not believed.
constexpr std::uint64_t believable = std::uint64_t{1} << 40;

// The counts of one usage object, told one by one.
class usage_counts {
 public:
  explicit usage_counts(token_usage& out) : out_(out) {}

  void member(std::string_view key, std::uint64_t n) {
    if (n > believable) return;
    if (key == "prompt_tokens") {
      out_.prompt = n;
      any_ = true;
    } else if (key == "input_tokens") {
      out_.prompt = n;
      input_ = true;
    } else if (key == "completion_tokens" || key == "output_tokens") {
      out_.completion = n;
      any_ = true;
    } else if (key == "cache_read_input_tokens") {
      out_.cached = cache_read_ = n;
      out_.cached_known = true;
    } else if (key == "cache_creation_input_tokens") {
      cache_written_ = n;
    }
  }

  // Of a member that is an object.
  void detail(std::string_view member, std::string_view key, std::uint64_t n) {
    if (n > believable || key != "cached_tokens") return;
    if (member != "prompt_tokens_details" && member != "input_tokens_details") return;
    out_.cached = n;
    out_.cached_known = true;
  }

  // OpenAI counts cached tokens inside the prompt; Anthropic's input_tokens leaves out what was read
  // from or written to the cache (llama.cpp: input 1 + cache read 22 = 23 prompt tokens).
  // True: there was a count.
  bool finish() {
    if (input_) out_.prompt += cache_read_ + cache_written_;
    const bool told = any_ || input_;
    out_.known |= told;
    return told;
  }

 private:
  token_usage& out_;
  bool any_ = false, input_ = false;
  std::uint64_t cache_read_ = 0, cache_written_ = 0;
};

bool read_usage(const dom::object& object, token_usage& usage) {
  usage_counts counts(usage);
  for (const auto [key, v] : object) {
    std::uint64_t n = 0;
    dom::object details;
    if (v.get(n) == simdjson::SUCCESS) {
      counts.member(key, n);
    } else if (v.get(details) == simdjson::SUCCESS) {
      for (const auto [name, value] : details)
        if (value.get(n) == simdjson::SUCCESS) counts.detail(key, name, n);
    }
  }
  return counts.finish();
}

// Walks usage as engines write it: an object of counts, nulls and objects of these, with plain names. At
// anything else it stops, and only the parser knows.
class usage_walk {
 public:
  usage_walk(bytes_view text, usage_counts& counts) : text_(text), counts_(counts) {}
  bool whole() { return object({}) && at_ == text_.size(); }

 private:
  static constexpr std::size_t most_digits = 13;  // all that is believable

  bool take(char c) {
    at_ = skip_blanks(text_, at_);
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool name(bytes_view& out) {
    if (!take('"')) return false;
    const std::size_t end = find_string_end(text_, at_);
    if (end == bytes_view::npos || text_[end] != '"') return false;
    out = text_.substr(at_, end - at_);
    at_ = end + 1;
    return true;
  }

  bool number(std::uint64_t& out) {
    const std::size_t begin = at_;
    for (out = 0; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_)
      out = out * 10 + static_cast<unsigned>(text_[at_] - '0');
    const std::size_t digits = at_ - begin;
    if (digits == 0 || digits > most_digits || (digits > 1 && text_[begin] == '0')) return false;
    return at_ == text_.size() || (text_[at_] != '.' && text_[at_] != 'e' && text_[at_] != 'E');
  }

  // `inside`: the member whose value this object is; empty for usage itself.
  bool object(bytes_view inside) {
    if (!take('{')) return false;
    if (take('}')) return true;
    do {
      bytes_view key;
      if (!name(key) || !take(':')) return false;
      at_ = skip_blanks(text_, at_);
      std::uint64_t n = 0;
      if (text_.substr(at_, 4) == "null") {
        at_ += 4;
      } else if (at_ < text_.size() && text_[at_] == '{') {
        if (!inside.empty() || !object(key)) return false;
      } else if (!number(n)) {
        return false;
      } else if (inside.empty()) {
        counts_.member(key, n);
      } else {
        counts_.detail(inside, key, n);
      }
    } while (take(','));
    return take('}');
  }

  bytes_view text_;
  usage_counts& counts_;
  std::size_t at_ = 0;
};

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
  token_usage quick = usage;
  usage_counts counts(quick);
  if (usage_walk(object, counts).whole()) {
    const bool told = counts.finish();
    usage = quick;
    return told;
  }
  // Usage is flat but for its details; simdjson's usual depth of 1,024 would be 9 KiB for every answer.
  constexpr std::size_t deepest = 16;
  const simdjson::padded_string padded(object);
  dom::parser parser;
  dom::object members;
  if (parser.allocate(padded.size(), deepest) != simdjson::SUCCESS) return false;
  return parser.parse(padded).get(members) == simdjson::SUCCESS && read_usage(members, usage);
}

}  // namespace penstock::http
