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

// Puts a member into an object that is being written.
void append_member(std::string& out, std::string_view member) {
  if (out.back() != '{') out += ',';
  out += member;
}

// The members of one event but for `choices` and usage, without the brace behind them.
std::string envelope(bytes_view answer, std::string_view object) {
  std::string out = "data: {";
  each_member(answer, [&](const raw_member& m) {
    if (m.name == "id" || m.name == "created" || m.name == "model" || m.name == "system_fingerprint")
      append_member(out, m.text);
  });
  append_member(out, fmt::format("\"object\":\"{}\"", object));
  return out;
}

// Tool calls of a stream have an index each.
std::string numbered(bytes_view calls) {
  std::string out = "[";
  std::size_t index = 0;
  each_element(calls, [&](bytes_view call) {
    if (index != 0) out += ',';
    const bytes_view members = call.substr(1);
    const bool none = members.find_first_not_of(" \t\r\n") == members.size() - 1;
    fmt::format_to(std::back_inserter(out), "{{\"index\":{}{}{}", index++, none ? "" : ",", members);
  });
  return out + "]";
}

std::string delta_of(bytes_view message) {
  std::string out = "{";
  each_member(message, [&](const raw_member& m) {
    const bool calls = m.name == "tool_calls" && m.value.starts_with('[');
    append_member(out, calls ? "\"tool_calls\":" + numbered(m.value) : std::string(m.text));
  });
  return out + "}";
}

// A choice of the answer as one of an event: `delta` in place of a message, its end only if it `ends`, and
// logprobs with the event that has the text.
std::string event_choice(bytes_view choice, std::string_view delta, bool ends) {
  std::string out = "{";
  each_member(choice, [&](const raw_member& m) {
    const bool about_end = m.name == "finish_reason" || m.name == "stop_reason";
    if (is_internal(m.name) || (m.name == "logprobs" && delta == "{}")) return;
    if (m.name == "message") {
      append_member(out, fmt::format("\"delta\":{}", delta));
    } else if (about_end && !ends) {
      append_member(out, fmt::format("\"{}\":null", m.name));
    } else {
      append_member(out, m.text);
    }
  });
  return out + "}";
}

// Leaves members of one object out, each with the comma that goes with it.
class thinner {
 public:
  // `all` has the object in it.
  thinner(bytes_view all, std::vector<splice>& out) : all_(all), out_(out) {}

  void operator()(const raw_member& m) {
    if (!is_internal(m.name) || m.value == "null") {
      kept_ = true;
      return;
    }
    auto at = static_cast<std::size_t>(m.text.data() - all_.data());
    std::size_t end = at + m.text.size();
    if (kept_) {
      at = all_.rfind(',', at);
    } else if (const std::size_t next = all_.find_first_not_of(" \t\r\n", end); all_[next] == ',') {
      end = next + 1;
    }
    out_.push_back({at, end - at, {}});
  }

 private:
  bytes_view all_;
  std::vector<splice>& out_;
  bool kept_ = false;
};

}  // namespace

std::string plain_answer(bytes_view body) {
  std::vector<splice> cuts;
  thinner outer(body, cuts);
  each_member(body, [&](const raw_member& m) {
    if (m.name == "choices")
      each_element(m.value, [&](bytes_view choice) { each_member(choice, thinner(body, cuts)); });
    outer(m);
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
  const bool chat = api == api_kind::chat;
  const std::string open = envelope(body, chat ? "chat.completion.chunk" : "text_completion");
  const bytes_view choice = first_of(member_of(body, "choices"));
  const bytes_view message = member_of(choice, "message");
  if (choice.empty() || (chat && message.empty())) return {};
  std::string out;
  const auto event = [&](std::string_view choices, std::string_view more) {
    fmt::format_to(std::back_inserter(out), "{},\"choices\":[{}]{}}}\n\n", open, choices, more);
  };
  if (chat) {
    event(event_choice(choice, delta_of(message), false), "");
    event(event_choice(choice, "{}", true), "");
  } else {
    event(event_choice(choice, "", true), "");
  }
  const bytes_view counts = member_of(body, "usage");
  if (usage && counts.starts_with('{')) event("", fmt::format(",\"usage\":{}", counts));
  return out + "data: [DONE]\n\n";
}

}  // namespace penstock::handoff
