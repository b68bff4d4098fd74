#include "answers.hpp"

#include <fmt/format.h>

namespace penstock::perf {
namespace {

constexpr std::string_view id = R"("id":"chatcmpl-9d391ef8682a25a2")";
constexpr std::string_view tokens[] = {
    " always", " the",   " licence",   ",",   " and", " distribute", " copies", " of",
    " it",     "\\n\\n", " caf\u00e9", " to", " any", " program",    " under",  " terms"};

std::string chunk(std::string_view payload) { return fmt::format("{:x}\r\n{}\r\n", payload.size(), payload); }

std::string event(std::string_view choice_and_more) {
  return chunk(
      fmt::format("data: {{{},\"object\":\"chat.completion.chunk\",\"created\":1795369854,"
                  "\"model\":\"bench\",{}}}\n\n",
                  id, choice_and_more));
}

std::string answer(std::string_view status, std::string_view type, std::string_view body) {
  return fmt::format(
      "HTTP/1.1 {}\r\ndate: Sun, 22 Nov 2026 17:50:54 GMT\r\nserver: uvicorn\r\n"
      "content-length: {}\r\ncontent-type: {}\r\nvary: Origin\r\n\r\n{}",
      status, body.size(), type, body);
}

// What a proxy that reads engines needs of vLLM's page.
std::string metrics() {
  constexpr std::string_view labels = R"({engine="0",model_name="bench"})";
  std::string page;
  for (const auto* name : {"num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"}) {
    page += fmt::format("# HELP vllm:{0} See vLLM.\n# TYPE vllm:{0} gauge\nvllm:{0}{1} 0.0\n", name, labels);
  }
  for (const auto* name :
       {"prefix_cache_queries_total", "prefix_cache_hits_total", "num_preemptions_total"}) {
    page +=
        fmt::format("# HELP vllm:{0} See vLLM.\n# TYPE vllm:{0} counter\nvllm:{0}{1} 0.0\n", name, labels);
  }
  page +=
      "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
      "# TYPE vllm:cache_config_info gauge\n"
      "vllm:cache_config_info{block_size=\"16\",cache_dtype=\"auto\",enable_prefix_caching=\"True\",engine="
      "\"0\","
      "num_gpu_blocks=\"65536\"} 1.0\n";
  return page;
}

}  // namespace

stream_bytes build_stream() {
  stream_bytes s;
  s.head_and_role =
      "HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 17:50:54 GMT\r\nserver: uvicorn\r\n"
      "content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n\r\n" +
      event(R"("choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,)"
            R"("finish_reason":null}],"prompt_token_ids":null,"prompt_text":null)");
  for (std::size_t i = 0; i < s.content.size(); ++i) {
    s.content[i] = event(fmt::format(R"("choices":[{{"index":0,"delta":{{"content":"{}"}},"logprobs":null,)"
                                     R"("finish_reason":null,"token_ids":null}}])",
                                     tokens[i]));
  }
  s.finish = event(R"("choices":[{"index":0,"delta":{"content":""},"logprobs":null,)"
                   R"("finish_reason":"length","stop_reason":null,"token_ids":null}])");
  s.usage = event(R"("choices":[],"usage":{"prompt_tokens":512,"total_tokens":768,"completion_tokens":256,)"
                  R"("prompt_tokens_details":{"cached_tokens":480,"created_cache_tokens":16}},)"
                  R"("system_fingerprint":"vllm-0.32.0-ff6cb3b9")");
  s.done = chunk("data: [DONE]\n\n");
  s.last_chunk = "0\r\n\r\n";
  return s;
}

std::string build_completion() {
  std::string text;
  for (int i = 0; i < 6; ++i) text += "The licence lets you copy and distribute the program.\\n";
  const auto body = fmt::format(
      R"({{{},"object":"chat.completion","created":1795369854,"model":"bench","choices":[{{"index":0,)"
      R"("message":{{"role":"assistant","content":"{}","refusal":null,"annotations":null,"audio":null,)"
      R"("function_call":null,"reasoning":null}},"logprobs":null,"finish_reason":"length","stop_reason":null,)"
      R"("token_ids":null,"routed_experts":null}}],"service_tier":null,)"
      R"("system_fingerprint":"vllm-0.32.0-ff6cb3b9","usage":{{"prompt_tokens":512,"total_tokens":576,)"
      R"("completion_tokens":64,"prompt_tokens_details":{{"cached_tokens":480,"created_cache_tokens":16,)"
      R"("multimodal_tokens":null}},"completion_tokens_details":null}},"prompt_logprobs":null,)"
      R"("prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,)"
      R"("metrics":null}})",
      id, text);
  return answer("200 OK", "application/json", body);
}

std::string build_prefill(std::uint32_t blocks) {
  std::string ids;
  for (std::uint32_t i = 0; i < blocks; ++i) ids += fmt::format("{}{}", i == 0 ? "" : ", ", 20000 + i);
  const auto body = fmt::format(
      R"({{{},"object":"chat.completion","created":1795369854,"model":"bench","choices":[{{"index":0,)"
      R"("message":{{"role":"assistant","content":" The"}},"logprobs":null,"finish_reason":"length"}}],)"
      R"("usage":{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":1,"prompt_tokens_details":null}},)"
      R"("kv_transfer_params":{{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[{}]],)"
      R"("remote_engine_id":"bd92b3f4-3b7c-4f5e-9b55-2d6f6ff2a0b1","remote_request_id":"chatcmpl-1-a6adea16",)"
      R"("remote_host":"127.0.0.1","remote_port":9322,"tp_size":1,"dcp_size":1,"pp_size":1,)"
      R"("remote_num_tokens":{},"remote_blocks_expiry_time":null,"transfer_mode":"pull",)"
      R"("remote_prefill_cached_tokens":480}}}})",
      id, blocks * 16, blocks * 16 + 1, ids, blocks * 16);
  return answer("200 OK", "application/json", body);
}

std::string build_get(std::string_view path) {
  if (path == "/health") return answer("200 OK", "text/plain", "");
  if (path == "/metrics") return answer("200 OK", "text/plain; version=1.0.0; charset=utf-8", metrics());
  if (path == "/version") return answer("200 OK", "application/json", R"({"version":"0.32.0"})");
  if (path == "/v1/models") {
    return answer("200 OK", "application/json",
                  R"({"object":"list","data":[{"id":"bench","object":"model","created":1795369851,)"
                  R"("owned_by":"vllm","root":"/models/bench","parent":null,"max_model_len":131072}]})");
  }
  return answer("404 Not Found", "application/json", R"({"detail":"Not Found"})");
}

}  // namespace penstock::perf
