#include "proxy/http/sse_scanner.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "unit/proxy/http/pieces.hpp"
#include "unit/proxy/http/recordings.hpp"

using namespace penstock;
using namespace penstock::http;

namespace {

constexpr std::size_t mebibyte = 1 << 20;

// One letter a kind: content, frame, usage, end, error, comment (:), piece.
char letter(event_kind k) { return "cfuEx:p"[static_cast<std::size_t>(k)]; }

struct seen {
  std::string kinds, bytes, tail;
  std::vector<std::string> events;
};

seen run(sse_scanner& scanner, const test::pieces& pieces) {
  seen out;
  for (bytes_view rest : pieces) {
    while (!rest.empty()) {
      scanned_events events;
      const std::size_t used = scanner.scan(rest, events);
      REQUIRE(used <= rest.size());
      REQUIRE((used == rest.size() || events.full()));
      rest.remove_prefix(used);
      for (const scanned_event& e : events) {
        out.kinds += letter(e.kind);
        out.bytes += e.bytes;
        out.events.emplace_back(e.bytes);
      }
    }
  }
  out.tail = scanner.tail();
  return out;
}

seen run(api_kind api, bytes_view text) {
  sse_scanner scanner(api, mebibyte);
  return run(scanner, {text});
}

std::string kinds(api_kind api, bytes_view text) { return run(api, text).kinds; }

std::string with_line_ends(bytes_view text, bytes_view line_end) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += line_end;
    } else {
      out += c;
    }
  }
  return out;
}

struct recorded {
  const char* what;
  api_kind api;
  bytes_view text;
  const char* kinds;
  token_usage usage;
};

const recorded recordings[] = {
    {"vllm chat", api_kind::chat, test::vllm_chat, "fccuE", {23, 12, 16, true, true}},
    {"llama chat", api_kind::chat, test::llama_chat, "fcfuE", {23, 12, 22, true, true}},
    {"vllm chat n=2", api_kind::chat, test::vllm_chat_n2, "ffcfuE", {23, 12, 0, true, true}},
    {"llama completions", api_kind::completions, test::llama_completions, "cfE", {5, 6, 4, true, true}},
    {"vllm responses", api_kind::responses, test::vllm_responses, "fffcfE", {15, 4, 8, true, true}},
    {"vllm messages", api_kind::messages, test::vllm_messages, "ffcffE", {23, 4, 0, true, true}},
    {"vllm sigterm", api_kind::chat, test::vllm_sigterm, "cxE", {}},
};

void check_usage(const token_usage& a, const token_usage& b) {
  CHECK(a.prompt == b.prompt);
  CHECK(a.completion == b.completion);
  CHECK(a.cached == b.cached);
  CHECK(a.known == b.known);
  CHECK(a.cached_known == b.cached_known);
}

}  // namespace

TEST_CASE("recorded streams: kinds, usage and end, whatever the line ends") {
  for (const recorded& r : recordings) {
    CAPTURE(std::string(r.what));
    for (const bytes_view line_end : {"\n", "\r\n", "\r"}) {
      const std::string text = with_line_ends(r.text, line_end);
      sse_scanner scanner(r.api, mebibyte);
      const seen s = run(scanner, {text});
      CHECK(s.kinds == r.kinds);
      CHECK(s.bytes == text);
      CHECK(scanner.held() == 0);
      CHECK(scanner.ended());
      CHECK(scanner.first_token_seen());
      CHECK(scanner.events() == s.kinds.size());
      check_usage(scanner.usage(), r.usage);
    }
  }
}

TEST_CASE("recorded streams: the same events however they are cut") {
  for (const recorded& r : recordings) {
    CAPTURE(std::string(r.what));
    for (const bytes_view line_end : {"\n", "\r\n", "\r"}) {
      const std::string text = with_line_ends(r.text, line_end);
      sse_scanner whole(r.api, mebibyte);
      const seen expected = run(whole, {text});
      std::size_t wrong = 0;
      const auto check = [&](const test::pieces& pieces) {
        sse_scanner scanner(r.api, mebibyte);
        const seen s = run(scanner, pieces);
        const bool same = s.events == expected.events && s.kinds == expected.kinds && s.tail.empty() &&
                          scanner.usage().prompt == whole.usage().prompt &&
                          scanner.usage().completion == whole.usage().completion &&
                          scanner.next_sequence() == whole.next_sequence() &&
                          scanner.content_events() == whole.content_events();
        wrong += same ? 0 : 1;
      };
      test::each_cut(text, check);
      test::each_pair_of_cuts(text, 41, check);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("every pair of cuts around line ends, blank lines and marks") {
  for (const std::string& text :
       {std::string("\xEF\xBB\xBF"
                    "data: a\n\n: c\n\ndata\n\nevent: x\ndata: 1\ndata:2\n\n\n"),
        std::string("data: a\r\n\r\n:c\r\n\r\ndata: [DONE]\r\n\r\n"),
        std::string("data: a\r\rdata: b\r\r\rdata: [DONE]\r\r"),
        std::string("data: a\n\rdata: b\r\n\ndata: c\n\r\n\xEF\xBB\xBF\n\n"),
        std::string("\xEF\xBB"
                    "data: a\n\n\n"),
        std::string("\xEF\xBB\xBF\r\ndata: [DONE]\r\n\r\n"), std::string("id: 1\nretry: 5\n\ndata: x\n\n")}) {
    CAPTURE(text);
    for (const std::size_t limit : {mebibyte, std::size_t{7}}) {
      sse_scanner whole(api_kind::chat, limit);
      const seen expected = run(whole, {text});
      std::size_t wrong = 0;
      const auto check = [&](const test::pieces& pieces) {
        sse_scanner scanner(api_kind::chat, limit);
        const seen s = run(scanner, pieces);
        const bool same_counts = scanner.events() == whole.events() &&
                                 scanner.oversized() == whole.oversized() && scanner.ended() == whole.ended();
        const bool same_events = limit < mebibyte || s.events == expected.events;
        wrong += s.bytes + s.tail == text && same_counts && same_events ? 0 : 1;
      };
      test::each_cut(text, check);
      test::each_pair_of_cuts(text, 1, check);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("events end where EventSource ends them") {
  CHECK(run(api_kind::chat, "data: a\n\ndata: b\n").events == std::vector<std::string>{"data: a\n\n"});
  CHECK(run(api_kind::chat, "data: a\n\ndata: b\n").tail == "data: b\n");
  CHECK(run(api_kind::chat, "data: a\r\rdata: b\r\r").events.size() == 2);
  CHECK(kinds(api_kind::chat, ": ping\n\n\n\nid: 3\n\n") == "::::");
  CHECK(kinds(api_kind::chat,
              "\xEF\xBB\xBF"
              "data: [DONE]\n\n") == "E");
  // A mark later in the stream is part of an unknown field name.
  CHECK(kinds(api_kind::chat,
              ":\n\n\xEF\xBB\xBF"
              "data: [DONE]\n\n") == "::");
  CHECK(kinds(api_kind::chat, "data:[DONE]\n\n") == "E");
  CHECK(kinds(api_kind::chat, "data: [DONE] \n\n") == "E");
  CHECK(kinds(api_kind::chat, "data: [DONE]x\n\n") == "f");
  CHECK(kinds(api_kind::chat, "database: [DONE]\n\n") == ":");
}

TEST_CASE("the first token is content of any kind and nothing else") {
  const auto chat = [](bytes_view delta) {
    return kinds(api_kind::chat,
                 "data: {\"choices\":[{\"index\":0,\"delta\":" + std::string(delta) + "}]}\n\n");
  };
  CHECK(chat(R"({"role":"assistant"})") == "f");
  CHECK(chat(R"({"role":"assistant","content":""})") == "f");
  CHECK(chat(R"({"content":null,"reasoning_content":null,"tool_calls":null})") == "f");
  CHECK(chat(R"({"tool_calls":[]})") == "f");
  CHECK(chat(R"({})") == "f");
  CHECK(chat(R"({"content":"x"})") == "c");
  CHECK(chat(R"({ "role" : "assistant", "content" : "x" })") == "c");
  CHECK(chat(R"({"reasoning":"x"})") == "c");
  CHECK(chat(R"({"content":null,"reasoning_content":"x"})") == "c");
  CHECK(chat(R"({"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]})") == "c");
  CHECK(chat(R"({"function_call":{"name":"f"}})") == "c");
  CHECK(chat(R"({"refusal":"no"})") == "c");
  CHECK(chat(R"({"audio":{"id":"a"}})") == "c");
  CHECK(kinds(api_kind::completions, "data: {\"choices\":[{\"text\":\"\"}]}\n\n") == "f");
  CHECK(kinds(api_kind::completions, "data: {\"choices\":[{\"text\":\" \"}]}\n\n") == "c");
  CHECK(kinds(api_kind::chat, "data: {\"choices\":[{\"delta\":{}},{\"delta\":{\"content\":\"x\"}}]}\n\n") ==
        "c");
  CHECK(kinds(api_kind::responses, "data: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n") ==
        "c");
  CHECK(kinds(api_kind::responses, "event: response.function_call_arguments.delta\ndata: {}\n\n") == "c");
  CHECK(kinds(api_kind::messages, "data: {\"type\":\"content_block_delta\"}\n\n") == "c");
  CHECK(kinds(api_kind::passthrough, "data: anything\n\n") == "c");
}

TEST_CASE("events after the first token are told apart as exactly as before it") {
  const std::string first = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
  const auto after = [&](bytes_view data) {
    sse_scanner scanner(api_kind::chat, mebibyte);
    const std::string text = first + "data: " + std::string(data) + "\n\n";
    return run(scanner, {text}).kinds.substr(1);
  };
  CHECK(after(R"({"choices":[{"delta":{"content":"y"}}]})") == "c");
  CHECK(after(R"({"choices":[{"delta":{"role":null,"content":"y","tool_calls":null}}],"usage":null})") ==
        "c");
  CHECK(after(R"({"choices":[{"delta":{"tool_calls":[{"index":0}]}}]})") == "c");
  CHECK(after(R"({"choices":[{"delta":{"content":"\"usage\":{\"prompt_tokens\":9}"}}]})") == "c");
  CHECK(after(R"({"choices":[{"delta":{"content":"error"}}]})") == "c");
  CHECK(after(R"({"choices":[{"delta":{"role":"assistant","content":""}}]})") == "f");
  CHECK(after(R"({"choices":[{"delta":{},"finish_reason":"stop"}]})") == "f");
  CHECK(after(R"({"choices":[{"delta":{"x\"y":1,"content":"z"}}]})") == "c");
  CHECK(after(R"({"choices":[{"delta":{}},{"delta":{"content":"y"}}]})") == "c");
  CHECK(after(R"({"choices":[],"usage":{"prompt_tokens":1}})") == "u");
  CHECK(after(R"({ "usage" : { "prompt_tokens" : 1 } , "choices" : [ ] })") == "u");
  CHECK(after(R"({"error":null,"choices":[{"delta":{"content":"y"}}]})") == "c");
  CHECK(after(R"({"error":{"message":"x"}})") == "x");
  CHECK(after(R"({ "error" : "x" })") == "x");
  CHECK(after(R"({"choices":[{"delta":{"content":"y"},"x":{"error":{"a":1}}}]})") == "c");
}

TEST_CASE("responses without event lines end as those with them, however their JSON is spaced") {
  for (const std::string type : {R"("type":"response.)", R"("type": "response.)", R"("type" : "response.)"}) {
    CAPTURE(type);
    const auto event = [&](const std::string& name, const std::string& more) {
      return "data: {" + type + name + "\"" + more + "}\n\n";
    };
    sse_scanner scanner(api_kind::responses, mebibyte);
    CHECK(run(scanner, {event("created", R"(,"response":{"id":"r-1"})") + event("output_text.delta", "") +
                        event("completed", R"(,"response":{"usage":{"input_tokens":3}})")})
              .kinds == "fcE");
    CHECK(scanner.response_id() == "r-1");
    CHECK(scanner.usage().prompt == 3);
    CHECK_FALSE(scanner.end_is_failure());
    sse_scanner failing(api_kind::responses, mebibyte);
    run(failing, {event("failed", "")});
    CHECK(failing.end_is_failure());
  }
}

TEST_CASE("an end marker without its blank line counts where the stream ends as its framing says") {
  const std::string before = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
  for (const std::string marker :
       {"data: [DONE]", "data: [DONE]\n", "data:[DONE]\r\n", "data: [DONE]\r\n\r"}) {
    CAPTURE(marker);
    sse_scanner scanner(api_kind::chat, mebibyte);
    CHECK(run(scanner, {before + marker}).kinds == "c");
    CHECK_FALSE(scanner.ended());
    CHECK(scanner.finish());
    CHECK(scanner.ended());
    CHECK(scanner.tail() == marker);
    CHECK_FALSE(scanner.finish());
  }
  for (const std::string rest :
       {"", "data: [DON", "data: [DONE]\ndata: x", "data: {\"a\":1}\n", ": [DONE]"}) {
    CAPTURE(rest);
    sse_scanner scanner(api_kind::chat, mebibyte);
    run(scanner, {before + rest});
    CHECK_FALSE(scanner.finish());
    CHECK_FALSE(scanner.ended());
  }
  sse_scanner other(api_kind::responses, mebibyte);
  run(other, {"data: [DONE]"});
  CHECK_FALSE(other.finish());
}

TEST_CASE("errors: seen in every dialect, and an end marker after one does not make it good") {
  sse_scanner chat(api_kind::chat, mebibyte);
  CHECK(run(chat, {test::vllm_sigterm}).kinds == "cxE");
  CHECK(chat.error_seen());
  CHECK(chat.ended());
  CHECK_FALSE(chat.end_is_failure());
  CHECK(kinds(api_kind::chat, "event: error\ndata: boom\n\n") == "x");
  CHECK(kinds(api_kind::messages,
              "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\"}}\n\n") == "x");
  CHECK(kinds(api_kind::messages, "data: {\"type\":\"error\",\"error\":{\"type\":\"api_error\"}}\n\n") ==
        "x");
  CHECK(kinds(api_kind::responses, "event: error\ndata: {\"type\":\"error\",\"message\":\"x\"}\n\n") == "x");
  CHECK(kinds(api_kind::responses, "data: {\"type\":\"error\",\"message\":\"x\"}\n\n") == "x");
  CHECK(kinds(api_kind::responses, "data: {\"error\":{\"message\":\"x\"}}\n\n") == "x");

  sse_scanner responses(api_kind::responses, mebibyte);
  const bytes_view failed =
      "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":3,"
      "\"response\":{\"id\":\"resp_1\",\"error\":{\"code\":\"server_error\"}}}\n\n";
  CHECK(run(responses, {failed}).kinds == "E");
  CHECK(responses.end_is_failure());
  CHECK(responses.error_seen());
  CHECK(responses.ended());
}

TEST_CASE("responses: id and sequence numbers fit an event of ours behind the last one") {
  sse_scanner scanner(api_kind::responses, mebibyte);
  const bytes_view all = test::vllm_responses;
  run(scanner, {all.substr(0, all.find("event: response.output_text.done"))});
  CHECK(scanner.response_id() == "resp_b0278e7468bb1812");
  CHECK(scanner.next_sequence() == 5);
  CHECK_FALSE(scanner.ended());
  // An engine that does not number its events.
  sse_scanner unnumbered(api_kind::responses, mebibyte);
  run(unnumbered, {"event: response.created\ndata: {}\n\nevent: response.output_text.delta\ndata: {}\n\n"});
  CHECK(unnumbered.next_sequence() == 2);
}

TEST_CASE("Anthropic usage: cached tokens are part of the prompt") {
  sse_scanner scanner(api_kind::messages, mebibyte);
  run(scanner,
      {"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1,"
       "\"cache_read_input_tokens\":22,\"output_tokens\":0}}}\n\n"
       "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":4}}\n\n"});
  check_usage(scanner.usage(), {23, 4, 22, true, true});
}

TEST_CASE("absurd token counts are not believed") {
  sse_scanner scanner(api_kind::chat, mebibyte);
  CHECK(run(scanner, {"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":1e300,"
                      "\"total_tokens\":\"x\"}}\n\n"})
            .kinds == "f");
  CHECK_FALSE(scanner.usage().known);
}

TEST_CASE("an answer without a token still has its end") {
  sse_scanner scanner(api_kind::chat, mebibyte);
  CHECK(run(scanner, {"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"})
            .kinds == "fE");
  CHECK_FALSE(scanner.first_token_seen());
  CHECK(scanner.ended());
}

TEST_CASE("an event above the limit passes in pieces and nothing is kept") {
  const std::string big = "data: " + std::string(1000, 'x') + "\n\n";
  const std::string text = "data: a\n\n" + big + "data: [DONE]\n\n";
  const auto check = [&](const test::pieces& pieces) {
    sse_scanner scanner(api_kind::chat, 100);
    std::size_t most = 0;
    std::string bytes, end;
    for (const bytes_view p : pieces) {
      const seen s = run(scanner, {p});
      bytes += s.bytes;
      end = s.kinds.empty() ? end : s.kinds;
      most = std::max(most, scanner.held());
    }
    return bytes == text && most <= 100 && scanner.oversized() == 1 && scanner.ended() &&
           scanner.events() == 3 && scanner.first_token_seen() && end.back() == 'E';
  };
  std::size_t wrong = 0;
  test::each_cut(text, [&](const test::pieces& p) { wrong += check(p) ? 0 : 1; });
  CHECK(wrong == 0);
}

TEST_CASE("an oversized end marker is an end") {
  const std::string text =
      "event: response.completed\ndata: {\"sequence_number\":7,\"x\":\"" + std::string(5000, 'y') + "\"}\n\n";
  sse_scanner scanner(api_kind::responses, 1000);
  CHECK(run(scanner, {bytes_view(text).substr(0, 3000)}).kinds == "p");
  CHECK_FALSE(scanner.ended());
  CHECK(run(scanner, {bytes_view(text).substr(3000)}).kinds == "p");
  CHECK(scanner.ended());
  CHECK_FALSE(scanner.error_seen());
  CHECK(scanner.next_sequence() == 8);
}

TEST_CASE("a full list of events leaves the rest for the next call") {
  std::string text;
  for (int i = 0; i < 200; ++i) text += ": x\n\n";
  sse_scanner scanner(api_kind::chat, mebibyte);
  const seen s = run(scanner, {bytes_view(text).substr(0, 501), bytes_view(text).substr(501)});
  CHECK(s.bytes == text);
  CHECK(s.kinds.size() == 200);
}
