// What the HTTP room costs a request and an event: parsers, heads, event scanner, answer reader.
#include <benchmark/benchmark.h>

#include <string>

#include "proxy/http/answer_reader.hpp"
#include "proxy/http/heads.hpp"
#include "proxy/http/request_parser.hpp"
#include "proxy/http/response_parser.hpp"
#include "proxy/http/route.hpp"
#include "proxy/http/sse_scanner.hpp"

namespace {

using namespace penstock;
using namespace penstock::http;

// As openai-python sends it.
const std::string request_head_bytes =
    "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept-Encoding: gzip, deflate\r\n"
    "Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
    "User-Agent: OpenAI/Python 2.8.1\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.8.1\r\n"
    "X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n"
    "X-Stainless-Runtime-Version: 3.11.2\r\nAuthorization: Bearer sk-test-0123456789\r\nX-Stainless-Async: "
    "false\r\n"
    "x-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\nContent-Length: 2\r\n\r\n";

const std::string event =
    R"(data: {"id":"chatcmpl-9d391ef8682a25a2","object":"chat.completion.chunk","created":1795369854,"model":"tiny","choices":[{"index":0,"delta":{"content":" always"},"logprobs":null,"finish_reason":null,"token_ids":null}]})"
    "\n\n";

// SGLang names every member of a delta.
const std::string full_event =
    R"(data: {"id":"8c5d7f9b2a","object":"chat.completion.chunk","created":1795369854,"model":"tiny","choices":[{"index":0,"delta":{"role":null,"content":" always","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null})"
    "\n\n";

const std::string usage_event =
    R"(data: {"id":"chatcmpl-9d391ef8682a25a2","object":"chat.completion.chunk","created":1795369854,"model":"tiny","choices":[{"index":0,"delta":{"content":" always"},"logprobs":null,"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":23,"total_tokens":24,"completion_tokens":1}})"
    "\n\n";

const std::string responses_event =
    "event: response.output_text.delta\n"
    R"(data: {"content_index":0,"delta":"RO","item_id":"msg_a5ed22e78f10fed3","logprobs":[],"output_index":0,"sequence_number":4,"type":"response.output_text.delta"})"
    "\n\n";

void request_parse(benchmark::State& state) {
  request_parser parser({});
  const std::string raw = request_head_bytes + "{}";
  for (auto _ : state) {
    bytes_view rest = raw;
    body_spans spans;
    rest.remove_prefix(parser.feed(rest, spans).consumed);
    const parse_result r = parser.feed(rest, spans);
    if (r.status != parse_status::complete) state.SkipWithError("not complete");
    parser.next();
  }
}
BENCHMARK(request_parse);

void request_parse_and_route(benchmark::State& state) {
  request_parser parser({});
  for (auto _ : state) {
    body_spans spans;
    parser.feed(request_head_bytes, spans);
    auto found = find_route(parser.head(), {});
    benchmark::DoNotOptimize(found);
    parser.took_directly(2);
    parser.next();
  }
}
BENCHMARK(request_parse_and_route);

void engine_head_build(benchmark::State& state) {
  request_parser parser({});
  body_spans spans;
  parser.feed(request_head_bytes, spans);
  engine_request to;
  to.method = "POST";
  to.path = "/v1/chat/completions";
  to.authority = "10.0.0.1:8000";
  to.request_id = "req-0123456789abcdef";
  to.content_length = 2048;
  to.identity_only = true;
  std::string out;
  for (auto _ : state) {
    out.clear();
    append_engine_head(out, parser.head(), to);
    benchmark::DoNotOptimize(out.data());
  }
}
BENCHMARK(engine_head_build);

void answer_head_parse(benchmark::State& state) {
  const std::string raw =
      "HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 17:50:54 GMT\r\nserver: uvicorn\r\n"
      "content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n\r\n";
  response_parser parser;
  for (auto _ : state) {
    body_spans spans;
    parser.expect(false);
    if (parser.feed(raw, spans).status != parse_status::head) state.SkipWithError("no head");
  }
}
BENCHMARK(answer_head_parse);

// One event is one chunk, read alone: what a paced stream costs.
void chunk_of_one_event(benchmark::State& state) {
  response_parser parser;
  body_spans spans;
  parser.expect(false);
  parser.feed("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", spans);
  std::string chunk;
  append_chunk_size(chunk, event.size());
  chunk += event + "\r\n";
  for (auto _ : state) {
    body_spans found;
    if (parser.feed(chunk, found).consumed != chunk.size()) state.SkipWithError("not consumed");
    benchmark::DoNotOptimize(found);
  }
}
BENCHMARK(chunk_of_one_event);

void scan_event(benchmark::State& state, api_kind api, const std::string& bytes) {
  sse_scanner scanner(api, 1 << 20);
  scanned_events first;
  scanner.scan(bytes, first);
  scanned_events found;
  for (auto _ : state) {
    found.clear();
    scanner.scan(bytes, found);
    benchmark::DoNotOptimize(found.data());
  }
  if (scanner.content_events() != scanner.events()) state.SkipWithError("not content");
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * bytes.size()));
}
BENCHMARK_CAPTURE(scan_event, vllm_chat, api_kind::chat, event);
BENCHMARK_CAPTURE(scan_event, sglang_chat, api_kind::chat, full_event);
BENCHMARK_CAPTURE(scan_event, continuous_usage, api_kind::chat, usage_event);
BENCHMARK_CAPTURE(scan_event, responses, api_kind::responses, responses_event);

void first_token(benchmark::State& state) {
  for (auto _ : state) {
    sse_scanner scanner(api_kind::chat, 1 << 20);
    scanned_events found;
    scanner.scan(event, found);
    benchmark::DoNotOptimize(found.data());
  }
}
BENCHMARK(first_token);

void read_answer(benchmark::State& state) {
  std::string text = R"({"object":"list","data":[{"embedding":[)";
  for (int i = 0; i < 30000; ++i) text += "-0.01953125,";
  text += R"(0]}],"usage":{"prompt_tokens":5,"total_tokens":5}})";
  for (auto _ : state) {
    answer_reader reader(api_kind::embeddings);
    reader.feed(text);
    if (!reader.usage().known) state.SkipWithError("no usage");
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text.size()));
}
BENCHMARK(read_answer);

}  // namespace
