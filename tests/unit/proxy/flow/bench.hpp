// A flow on a bench: events in by hand, actions out as text, the client's bytes collected.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "proxy/flow/request_flow.hpp"

namespace penstock::flow::testing {

using namespace std::chrono_literals;

inline config settings() {
  config c;
  c.limits.held_bytes = 16 * 1024;
  c.limits.event_bytes = 1 << 20;
  c.timeouts.connect = 2s;
  c.timeouts.first_token = 30s;
  c.timeouts.between_events = 10s;
  c.timeouts.total = 600s;
  c.timeouts.sse_keepalive = 15s;
  return c;
}

inline std::string_view name(action_kind k) {
  constexpr std::string_view names[] = {
      "decide",        "connect",      "dispatch",   "send_request", "first_token",   "answer_head",
      "write",         "answer_error", "end_answer", "abort_answer", "pause_engine",  "resume_engine",
      "keep_engine",   "drop_engine",  "hang_up",    "give_up_work", "complete_work", "engine_failed",
      "adopt_prefill", "pair_failed",  "finish"};
  return names[static_cast<std::size_t>(k)];
}

inline std::string_view name(fault f) {
  constexpr std::string_view names[] = {"none",    "unreachable", "reset",       "garbage",
                                        "timeout", "overloaded",  "server_error"};
  return names[static_cast<std::size_t>(f)];
}

inline constexpr std::string_view end_marker = "data: [DONE]\n\n";

// What the far sides see of one flow. Actions are checked for what no order of events may cause.
class bench {
 public:
  explicit bench(config c = settings(), api_kind api = api_kind::chat, double retries = 0.2)
      : settings_(std::move(c)), budget(retries), flow(settings_, budget, book, api, start) {
    facts.api = api;
    facts.stream = true;
    facts.model = "tiny";
  }

  // Gives the event and returns its actions as one line: "drop_engine, connect(fresh)".
  std::string on(const event& e) {
    actions out;
    if (const auto* none = std::get_if<engine_unreachable>(&e)) engines[static_cast<int>(none->of)] = 0;
    flow.on(event(e), now, out);
    std::string line;
    for (const action& a : out) {
      if (!line.empty()) line += ", ";
      line += text_of(a);
      note(a);
    }
    flow.flushed();
    return line;
  }

  // Time passes without events until `after` from now; the flow's own timer fires on the way.
  std::string wait(duration after) {
    const instant until = now + after;
    std::string lines;
    while (flow.deadline() <= until) {
      now = flow.deadline();
      const std::string line = on(timer{});
      if (!lines.empty() && !line.empty()) lines += " | ";
      lines += line;
    }
    now = until;
    return lines;
  }

  std::string bytes(bytes_view body) { return on(engine_bytes{body}); }

  std::string head(int status = 200, std::string_view type = "text/event-stream; charset=utf-8",
                   std::string_view encoding = "") {
    engine = {};
    engine.status = status;
    engine.fields.push_back({"content-type", type});
    if (!encoding.empty()) engine.fields.push_back({"content-encoding", encoding});
    return on(engine_head{&engine});
  }

  void to_deciding() { on(body_ready{&facts}); }
  void to_connecting(std::size_t candidates = 3) {
    to_deciding();
    plan p;
    for (std::size_t i = 0; i < candidates; ++i)
      p.candidates.push_back({.endpoint = {static_cast<std::uint16_t>(i), 1}});
    on(picked{p});
  }
  void to_waiting(std::size_t candidates = 3, bool reused = false) {
    to_connecting(candidates);
    on(engine_connected{reused});
    on(request_sent{});
  }
  void to_holding(std::size_t candidates = 3) {
    to_waiting(candidates);
    head();
  }

  // A plan of `pairs`, each of a prefill engine 10 + i and a decode engine 20 + i, where it is `crossed` all
  // other pairs of these, then `singles` 0, 1, ...
  static plan split_plan(std::size_t pairs, std::size_t singles, bool crossed = false) {
    plan p;
    p.split = split_choice::told_to;
    for (std::size_t i = 0; i < pairs; ++i) {
      const auto n = static_cast<std::uint16_t>(i);
      p.candidates.push_back({.endpoint = {static_cast<std::uint16_t>(20 + n), 1},
                              .prefill = {static_cast<std::uint16_t>(10 + n), 1}});
    }
    for (std::size_t i = 0; crossed && i < pairs * pairs; ++i) {
      if (i / pairs == i % pairs) continue;
      p.candidates.push_back({.endpoint = {static_cast<std::uint16_t>(20 + i % pairs), 1},
                              .prefill = {static_cast<std::uint16_t>(10 + i / pairs), 1}});
    }
    for (std::size_t i = 0; i < singles; ++i)
      p.candidates.push_back({.endpoint = {static_cast<std::uint16_t>(i), 1}});
    return p;
  }
  void to_prefilling(std::size_t pairs = 2, std::size_t singles = 1) {
    to_deciding();
    plan p = split_plan(pairs, singles, handoff::row(connector).order == handoff::dispatch::concurrent);
    p.connector = connector;
    on(picked{p});
  }
  void to_prefill_sent(std::size_t pairs = 2, std::size_t singles = 1, bool reused = false) {
    to_prefilling(pairs, singles);
    on(engine_connected{reused, leg::prefill});
    on(request_sent{leg::prefill});
  }
  std::string prefill_head(int status = 200) {
    prefill_engine = {};
    prefill_engine.status = status;
    prefill_engine.fields.push_back({"content-type", "application/json"});
    return on(engine_head{&prefill_engine, leg::prefill});
  }
  // The whole prefill answer.
  std::string handed(std::string_view body = handed_body) {
    std::string line = prefill_head();
    line += on(engine_bytes{body, leg::prefill});
    return line + on(engine_end{leg::prefill});
  }
  // Concurrent connectors: both requests are whole with their engines.
  void to_both_sent(bool reused = false) {
    to_prefilling();
    both_sent(reused);
  }
  // ... from the decision for a pair.
  void both_sent(bool reused = false) {
    on(engine_connected{reused, leg::prefill});
    on(engine_connected{reused});
    on(request_sent{leg::prefill});
    on(request_sent{});
  }
  // The end of a good stream.
  void serve_rest() {
    bytes(end_marker);
    on(engine_end{});
  }
  // The prefill answer, with its end or without.
  std::string primed(bool whole = true) {
    std::string line = prefill_head();
    line += on(engine_bytes{primed_body, leg::prefill});
    return whole ? line + on(engine_end{leg::prefill}) : line;
  }
  static constexpr std::string_view primed_body =
      R"({"choices":[{"finish_reason":"length"}],"usage":{"prompt_tokens":23,"prompt_tokens_details":{"cached_tokens":7}}})";

  void to_decoding(bool reused = false) {
    to_prefill_sent();
    handed();
    on(engine_connected{reused});
    on(request_sent{});
  }
  static constexpr std::string_view handed_body =
      R"({"choices":[],"kv_transfer_params":{"do_remote_prefill":true,"remote_engine_id":"e","remote_block_ids":[[1]],"remote_host":"h","remote_port":1,"remote_prefill_cached_tokens":7}})";

  // The next candidate took the connection and the request.
  void asked_again(bool reused = false) {
    on(engine_connected{reused});
    on(request_sent{});
  }

  std::uint16_t target() const { return flow.target().endpoint.slot; }
  reason why() const { return flow.record().why; }
  bool done() const { return flow.where() == state::done; }

  static constexpr instant start{1000s};
  config settings_;
  retry_budget budget;
  handoff::ledger book;
  request_facts facts;
  request_flow flow;
  instant now = start;
  connector_kind connector = connector_kind::nixl;
  http::response_head engine, prefill_engine;
  std::string client;         // body bytes that the client got
  std::vector<fault> faults;  // told to passive health
  int heads = 0, ends = 0, aborts = 0, errors = 0, finishes = 0;
  int booked = 0;       // dispatches not given back
  int engines[3] = {};  // connections held or asked for, by leg
  bool paused = false;

 private:
  std::string text_of(const action& a) const {
    std::string text(name(a.kind));
    if (a.of != leg::answer) text = fmt::format("{} {}", flow::name(a.of), text);
    switch (a.kind) {
      case action_kind::connect: return a.flag ? text + "(fresh)" : text;
      case action_kind::first_token: return a.flag ? text : text + "(predicted)";
      case action_kind::answer_head: return a.flag ? text + "(sse)" : text;
      case action_kind::engine_failed: return fmt::format("{}({})", text, name(flow.engine_fault()));
      case action_kind::write: return fmt::format("{}({})", text, what(a.bytes));
      default: return text;
    }
  }

  // Our own error events by their reason, everything else by its size.
  static std::string what(bytes_view bytes) {
    constexpr bytes_view code = "\"code\":\"";
    const std::size_t at = bytes.find(code);
    if (at == bytes.npos) return std::to_string(bytes.size());
    const std::size_t begin = at + code.size();
    return "error " + std::string(bytes.substr(begin, bytes.find('"', begin) - begin));
  }

  void note(const action& a) {
    switch (a.kind) {
      case action_kind::connect: engines[static_cast<int>(a.of)] = 1; break;
      case action_kind::adopt_prefill: std::swap(engines[0], engines[1]); break;
      case action_kind::dispatch: ++booked; break;
      case action_kind::give_up_work:
      case action_kind::complete_work: --booked; break;
      case action_kind::keep_engine:
      case action_kind::drop_engine:
        engines[static_cast<int>(a.of)] = 0;
        if (a.of == leg::answer) paused = false;
        break;
      case action_kind::answer_head: ++heads; break;
      case action_kind::write: client += a.bytes; break;
      case action_kind::answer_error: ++errors; break;
      case action_kind::end_answer: ++ends; break;
      case action_kind::abort_answer: ++aborts; break;
      case action_kind::finish: ++finishes; break;
      case action_kind::pause_engine: paused = true; break;
      case action_kind::resume_engine: paused = false; break;
      case action_kind::engine_failed: faults.push_back(flow.engine_fault()); break;
      default: break;
    }
  }
};

// Nothing is held any more and exactly one end was said. `gone`: the client left, so no end is owed.
inline bool at_rest(const bench& b) {
  return b.done() && b.finishes == 1 && b.booked == 0 && b.engines[0] + b.engines[1] == 0 && !b.paused &&
         b.ends + b.aborts + b.errors == 1 && b.flow.deadline() == never && b.book.open_count() == 0;
}

// Recorded from vLLM 0.32.0, chunk framing removed.
inline constexpr std::string_view role =
    R"(data: {"id":"chatcmpl-9d391ef8682a25a2","object":"chat.completion.chunk","created":1795369854,"model":"tiny","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null})"
    "\n\n";
inline constexpr std::string_view token =
    R"(data: {"id":"chatcmpl-9d391ef8682a25a2","object":"chat.completion.chunk","created":1795369854,"model":"tiny","choices":[{"index":0,"delta":{"content":" always"},"logprobs":null,"finish_reason":null,"token_ids":null}]})"
    "\n\n";
inline constexpr std::string_view last_token =
    R"(data: {"id":"chatcmpl-9d391ef8682a25a2","object":"chat.completion.chunk","created":1795369854,"model":"tiny","choices":[{"index":0,"delta":{"content":"ared"},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}]})"
    "\n\n";
inline constexpr std::string_view usage =
    R"(data: {"id":"chatcmpl-9d391ef8682a25a2","object":"chat.completion.chunk","created":1795369854,"model":"tiny","choices":[],"usage":{"prompt_tokens":23,"total_tokens":35,"completion_tokens":12,"prompt_tokens_details":{"cached_tokens":0,"created_cache_tokens":0}},"system_fingerprint":"vllm-0.32.0-ff6cb3b9"})"
    "\n\n";
// Recorded from vLLM 0.32.0 at SIGTERM.
inline constexpr std::string_view engine_error =
    R"(data: {"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.", "type": "InternalServerError", "param": null, "code": 500}})"
    "\n\n";
inline constexpr std::string_view comment = ": waiting for the first token\n\n";

inline std::size_t count(std::string_view text, std::string_view part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

}  // namespace penstock::flow::testing
