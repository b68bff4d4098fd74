#include "proxy/handoff/whole_answer.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <iterator>
#include <string_view>
#include <vector>

#include "proxy/handoff/raw_json.hpp"

namespace penstock::handoff {
namespace {

constexpr std::string_view hand_off = "disaggregated_params";

bool is_internal(std::string_view name) {
  return name == hand_off || name == "prompt_token_ids" || name == "prompt_token_ids_b64";
}

// A member as it stands, its name included.
bytes_view member_text(const raw_json& text, std::size_t at, bytes_view value) {
  return text.whole().substr(at, text.place(value) + value.size() - at);
}

// Puts a member into an object that is being written.
void append_member(std::string& out, std::string_view member) {
  if (out.back() != '{') out += ',';
  out += member;
}

// The members of one event but for `choices` and usage, without the brace behind them.
std::string envelope(const raw_json& text, std::string_view object) {
  std::string out = "data: {";
  text.each_member(text.whole(), [&](std::string_view name, std::size_t at, bytes_view value) {
    if (name == "id" || name == "created" || name == "model" || name == "system_fingerprint")
      append_member(out, member_text(text, at, value));
  });
  append_member(out, fmt::format("\"object\":\"{}\"", object));
  return out;
}

// Tool calls of a stream have an index each.
std::string numbered(const raw_json& text, bytes_view calls) {
  std::string out = "[";
  std::size_t index = 0;
  text.each_element(calls, [&](bytes_view call) {
    if (index != 0) out += ',';
    const bytes_view members = call.substr(1);
    const bool none = members.find_first_not_of(" \t\r\n") == members.size() - 1;
    fmt::format_to(std::back_inserter(out), "{{\"index\":{}{}{}", index++, none ? "" : ",", members);
  });
  return out + "]";
}

std::string delta_of(const raw_json& text, bytes_view message) {
  std::string out = "{";
  text.each_member(message, [&](std::string_view name, std::size_t at, bytes_view value) {
    const bool calls = name == "tool_calls" && value.starts_with('[');
    append_member(
        out, calls ? "\"tool_calls\":" + numbered(text, value) : std::string(member_text(text, at, value)));
  });
  return out + "}";
}

// A choice of the answer as one of an event: `delta` in place of a message, its end only if it `ends`, and
// logprobs with the event that has the text.
std::string event_choice(const raw_json& text, bytes_view choice, std::string_view delta, bool ends) {
  std::string out = "{";
  text.each_member(choice, [&](std::string_view name, std::size_t at, bytes_view value) {
    const bool about_end = name == "finish_reason" || name == "stop_reason";
    if (is_internal(name) || (name == "logprobs" && delta == "{}")) return;
    if (name == "message") {
      append_member(out, fmt::format("\"delta\":{}", delta));
    } else if (about_end && !ends) {
      append_member(out, fmt::format("\"{}\":null", name));
    } else {
      append_member(out, member_text(text, at, value));
    }
  });
  return out + "}";
}

// Leaves members of one object out, each with the comma that goes with it.
class thinner {
 public:
  thinner(const raw_json& text, std::vector<splice>& out) : text_(text), out_(out) {}

  void operator()(std::string_view name, std::size_t at, bytes_view value) {
    if (!is_internal(name) || value == "null") {
      kept_ = true;
      return;
    }
    const bytes_view all = text_.whole();
    std::size_t end = text_.place(value) + value.size();
    if (kept_) {
      at = all.rfind(',', at);
    } else if (const std::size_t next = all.find_first_not_of(" \t\r\n", end); all[next] == ',') {
      end = next + 1;
    }
    out_.push_back({at, end - at, {}});
  }

 private:
  const raw_json& text_;
  std::vector<splice>& out_;
  bool kept_ = false;
};

}  // namespace

std::string plain_answer(bytes_view body) {
  const raw_json text(body);
  std::vector<splice> cuts;
  thinner outer(text, cuts);
  text.each_member(text.whole(), [&](std::string_view name, std::size_t at, bytes_view value) {
    if (name == "choices") {
      text.each_element(value, [&](bytes_view choice) { text.each_member(choice, thinner(text, cuts)); });
    }
    outer(name, at, value);
  });
  std::string out;
  std::size_t from = 0;
  for (const splice& cut : cuts) {
    out.append(body.substr(from, cut.offset - from));
    from = cut.offset + cut.erase;
  }
  return out.append(body.substr(from));
}

std::string answer_as_events(api_kind api, bytes_view body, bool usage) {
  const raw_json text(body);
  const bool chat = api == api_kind::chat;
  const std::string open = envelope(text, chat ? "chat.completion.chunk" : "text_completion");
  const bytes_view choice = text.first(text.member(text.whole(), "choices"));
  const bytes_view message = text.member(choice, "message");
  if (choice.empty() || (chat && message.empty())) return {};
  std::string out;
  const auto event = [&](std::string_view choices, std::string_view more) {
    fmt::format_to(std::back_inserter(out), "{},\"choices\":[{}]{}}}\n\n", open, choices, more);
  };
  if (chat) {
    event(event_choice(text, choice, delta_of(text, message), false), "");
    event(event_choice(text, choice, "{}", true), "");
  } else {
    event(event_choice(text, choice, "", true), "");
  }
  const bytes_view counts = text.member(text.whole(), "usage");
  if (usage && counts.starts_with('{')) event("", fmt::format(",\"usage\":{}", counts));
  return out + "data: [DONE]\n\n";
}

}  // namespace penstock::handoff
