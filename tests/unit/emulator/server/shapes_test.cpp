// Answers against what was recorded from vLLM 0.32.0, with ids, times and texts masked.
#include <doctest/doctest.h>

#include <regex>

#include "unit/emulator/server/loopback.hpp"

using namespace penstock::emulator::test;

namespace {

// Ids, times and generated texts differ; member names, order and everything else may not.
std::string masked(std::string text) {
  text = std::regex_replace(text, std::regex("(chatcmpl-|cmpl-|resp_|msg_|modelperm-)[0-9a-z-]+"), "$1ID");
  text = std::regex_replace(text, std::regex(R"re("(created|created_at)":\d+)re"), R"("$1":0)");
  text = std::regex_replace(text, std::regex(R"re("(content|text|delta)":"([^"\\]|\\.)+")re"), R"("$1":"T")");
  return std::regex_replace(
      text,
      std::regex(R"re("(prompt_tokens|total_tokens|completion_tokens|input_tokens|output_tokens)":\d+)re"),
      R"("$1":N)");
}

simdjson::dom::element parse(simdjson::dom::parser& parser, const std::string& text) {
  simdjson::dom::element e;
  REQUIRE(parser.parse(text).get(e) == simdjson::SUCCESS);
  return e;
}

std::int64_t number(const std::string& text, const std::string& pointer) {
  simdjson::dom::parser parser;
  std::int64_t v = -1;
  CHECK(parse(parser, text).at_pointer(pointer).get(v) == simdjson::SUCCESS);
  return v;
}

std::string text_at(const std::string& text, const std::string& pointer) {
  simdjson::dom::parser parser;
  std::string_view v;
  CHECK_MESSAGE(parse(parser, text).at_pointer(pointer).get(v) == simdjson::SUCCESS, text);
  return std::string(v);
}

std::string error_of(engine& e, const std::string& path, const std::string& body, int status,
                     const std::string& type = "application/json") {
  const reply r = e.post(path, body, "", type);
  CHECK(r.status == status);
  CHECK(r.head.find("content-type: application/json\r\n") != std::string::npos);
  return r.body;
}

}  // namespace

TEST_CASE("chat, whole") {
  engine e;
  const reply r = e.post("/v1/chat/completions", chat_body);
  CHECK(r.status == 200);
  CHECK(std::regex_match(
      r.head, std::regex("HTTP/1.1 200 OK\r\ndate: [^\r]+ GMT\r\nserver: uvicorn\r\ncontent-length: \\d+\r\n"
                         "content-type: application/json\r\nvary: Origin\r\n\r\n")));
  CHECK(masked(r.body) ==

        R"({"id":"chatcmpl-ID","object":"chat.completion","created":0,"model":"tiny","choices":[)"
        R"({"index":0,"message":{"role":"assistant","content":"T","refusal":null,)"
        R"("annotations":null,"audio":null,"function_call":null,"reasoning":null},"logprobs":null,)"
        R"("finish_reason":"length","stop_reason":null,"token_ids":null,"routed_experts":null}],)"
        R"("service_tier":null,"system_fingerprint":"vllm-0.32.0-ff6cb3b9",)"
        R"("usage":{"prompt_tokens":N,"total_tokens":N,"completion_tokens":N,)"
        R"("prompt_tokens_details":{"cached_tokens":0,"created_cache_tokens":0,)"
        R"("multimodal_tokens":null},"completion_tokens_details":null},"prompt_logprobs":null,)"
        R"("prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,)"
        R"("ec_transfer_params":null,"metrics":null})");
  CHECK(number(r.body, "/usage/completion_tokens") == 8);
  CHECK(text_at(r.body, "/choices/0/message/content").size() == 32);
}

TEST_CASE("chat, streamed: one event a chunk, the last token brings the finish") {
  engine e;
  const reply r = e.post("/v1/chat/completions", stream_body, "X-Request-Id: abc-1\r\n");
  CHECK(std::regex_match(
      r.head,
      std::regex("HTTP/1.1 200 OK\r\ndate: [^\r]+ GMT\r\nserver: uvicorn\r\ncontent-type: text/event-stream; "
                 "charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n\r\n")));
  REQUIRE(r.complete);
  REQUIRE(r.chunks.size() == 1 + 8 + 1);
  CHECK(r.chunks.front().find("\"id\":\"chatcmpl-abc-1\"") != std::string::npos);
  CHECK(masked(r.chunks[0]) ==
        "data: "

        R"({"id":"chatcmpl-ID","object":"chat.completion.chunk","created":0,"model":"tiny",)"
        R"("choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,)"
        R"("finish_reason":null}],"prompt_token_ids":null,"prompt_text":null})"
        "\n\n");
  CHECK(masked(r.chunks[1]) ==
        "data: "

        R"({"id":"chatcmpl-ID","object":"chat.completion.chunk","created":0,"model":"tiny",)"
        R"("choices":[{"index":0,"delta":{"content":"T"},"logprobs":null,"finish_reason":null,)"
        R"("token_ids":null}]})"
        "\n\n");
  CHECK(masked(r.chunks[8]) ==
        "data: "

        R"({"id":"chatcmpl-ID","object":"chat.completion.chunk","created":0,"model":"tiny",)"
        R"("choices":[{"index":0,"delta":{"content":"T"},"logprobs":null,"finish_reason":"length",)"
        R"("stop_reason":null,"token_ids":null}],"system_fingerprint":"vllm-0.32.0-ff6cb3b9"})"
        "\n\n");
  CHECK(r.chunks[9] == "data: [DONE]\n\n");

  std::string streamed;
  for (std::size_t i = 1; i < 9; ++i) streamed += text_at(r.chunks[i].substr(6), "/choices/0/delta/content");
  CHECK(streamed == text_at(e.post("/v1/chat/completions", chat_body).body, "/choices/0/message/content"));
}

TEST_CASE("usage comes in a last chunk when asked, and in every event when asked for more") {
  engine e;
  const std::string open = stream_body.substr(0, stream_body.size() - 1);
  const reply usage = e.post("/v1/chat/completions", open + R"(,"stream_options":{"include_usage":true}})");
  REQUIRE(usage.chunks.size() == 11);
  CHECK(usage.chunks[8].find("system_fingerprint") == std::string::npos);
  CHECK(masked(usage.chunks[9]) ==
        "data: "

        R"({"id":"chatcmpl-ID","object":"chat.completion.chunk","created":0,"model":"tiny",)"
        R"("choices":[],"usage":{"prompt_tokens":N,"total_tokens":N,"completion_tokens":N,)"
        R"("prompt_tokens_details":{"cached_tokens":0,"created_cache_tokens":0}},)"
        R"("system_fingerprint":"vllm-0.32.0-ff6cb3b9"})"
        "\n\n");

  const reply more =
      e.post("/v1/chat/completions",
             open + R"(,"n":2,"stream_options":{"include_usage":true,"continuous_usage_stats":true}})");
  REQUIRE(more.complete);
  REQUIRE(more.chunks.size() == 2 + 16 + 2);
  CHECK(more.chunks[0].find(

            R"("finish_reason":null}],"usage":{"prompt_tokens":11,"total_tokens":11,)"
            R"("completion_tokens":0,"completion_tokens_details":null},"prompt_token_ids":null)") !=
        std::string::npos);
  CHECK(more.chunks[18].find(R"("usage":{"prompt_tokens":11,"total_tokens":27,"completion_tokens":16,)") !=
        std::string::npos);
}

TEST_CASE("completions: whole, streamed, batches, token ids") {
  engine e;
  const reply r = e.post("/v1/completions", R"({"model":"tiny","prompt":"The licence","max_tokens":4})");
  CHECK(masked(r.body) ==

        R"({"id":"cmpl-ID","object":"text_completion","created":0,"model":"tiny","choices":[)"
        R"({"index":0,"text":"T","logprobs":null,"finish_reason":"length","stop_reason":null,)"
        R"("token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}],)"
        R"("service_tier":null,"system_fingerprint":"vllm-0.32.0-ff6cb3b9",)"
        R"("usage":{"prompt_tokens":N,"total_tokens":N,"completion_tokens":N,)"
        R"("prompt_tokens_details":{"cached_tokens":0,"created_cache_tokens":null,)"
        R"("multimodal_tokens":null},"completion_tokens_details":null},"kv_transfer_params":null,)"
        R"("ec_transfer_params":null,"metrics":null})");
  const reply s =
      e.post("/v1/completions", R"({"model":"tiny","prompt":"The licence","max_tokens":4,"stream":true})");
  REQUIRE(s.chunks.size() == 5);
  CHECK(masked(s.chunks[0]) ==
        "data: "

        R"({"id":"cmpl-ID","object":"text_completion","created":0,"model":"tiny","choices":[)"
        R"({"index":0,"text":"T","logprobs":null,"finish_reason":null,"stop_reason":null,)"
        R"("prompt_token_ids":null,"token_ids":null}]})"
        "\n\n");
  const reply batch =
      e.post("/v1/completions", R"({"model":"tiny","prompt":["one","two","three"],"n":2,"max_tokens":2})");
  CHECK(text_at(batch.body, "/choices/5/finish_reason") == "length");
  CHECK(number(batch.body, "/usage/completion_tokens") == 12);
  const reply ids = e.post("/v1/completions", R"({"model":"tiny","prompt":[[1,2,3],[4,5]],"max_tokens":2})");
  CHECK(number(ids.body, "/usage/prompt_tokens") == 5);
}

TEST_CASE("responses: events in order, and a following response knows the earlier one") {
  engine e;
  const reply r =
      e.post("/v1/responses",
             R"({"model":"tiny","input":"Hello","max_output_tokens":2,"temperature":0,"stream":true})");
  REQUIRE(r.complete);
  std::vector<std::string> types;
  for (const std::string& c : r.chunks) types.push_back(c.substr(7, c.find('\n') - 7));
  CHECK(types == std::vector<std::string>{"response.created", "response.in_progress",
                                          "response.output_item.added", "response.content_part.added",
                                          "response.output_text.delta", "response.output_text.delta",
                                          "response.output_text.done", "response.content_part.done",
                                          "response.output_item.done", "response.completed"});
  CHECK(masked(r.chunks[0])
            .find(

                R"({"response":{"id":"resp_ID","created_at":0,"incomplete_details":null,)"
                R"("instructions":null,"metadata":null,"model":"tiny","object":"response","output":[],)"
                R"("parallel_tool_calls":true,"temperature":0.0,"tool_choice":"none","tools":[],)"
                R"("top_p":1.0,"background":false,"max_output_tokens":2,"max_tool_calls":null,)"
                R"("previous_response_id":null,"prompt":null,"reasoning":null,"service_tier":"auto",)"
                R"("status":"in_progress","text":null,"top_logprobs":null,"truncation":"disabled",)"
                R"("usage":null,"user":null,"presence_penalty":0.0,"frequency_penalty":0.0,)"
                R"("kv_transfer_params":null,"ec_transfer_params":null,"input_messages":null,)"
                R"("output_messages":null},"sequence_number":0,"type":"response.created"})") !=
        std::string::npos);
  CHECK(masked(r.chunks[4]) ==
        "event: response.output_text.delta\ndata: "

        R"({"content_index":0,"delta":"T","item_id":"msg_ID","logprobs":[],"output_index":0,)"
        R"("sequence_number":4,"type":"response.output_text.delta"})"
        "\n\n");
  CHECK(masked(r.chunks[6]) ==
        "event: response.output_text.done\ndata: "

        R"({"content_index":0,"item_id":"msg_ID","logprobs":[],"output_index":0,)"
        R"("sequence_number":6,"text":"T","type":"response.output_text.done"})"
        "\n\n");

  const std::string id = text_at(r.data().back(), "/response/id");
  const reply next =
      e.post("/v1/responses",
             R"({"model":"tiny","input":"more","max_output_tokens":2,"previous_response_id":")" + id + "\"}");
  CHECK(next.status == 200);
  CHECK(number(next.body, "/usage/input_tokens") > 6);
  CHECK(error_of(e, "/v1/responses", R"({"model":"tiny","input":"x","previous_response_id":"resp_0"})", 404)
            .find("resp_0") != std::string::npos);
}

TEST_CASE("messages: events, whole answer, errors in Anthropic's shape") {
  engine e;
  const std::string body = R"({"model":"tiny","messages":[{"role":"user","content":"Hello"}],"max_tokens":3)";
  const reply s = e.post("/v1/messages", body + R"(,"stream":true})");
  REQUIRE(s.chunks.size() == 2 + 3 + 3);
  CHECK(masked(s.chunks[0]) ==
        "event: message_start\ndata: "

        R"({"type":"message_start","message":{"id":"chatcmpl-ID","type":"message",)"
        R"("role":"assistant","content":[],"model":"tiny","stop_reason":null,"stop_sequence":null,)"
        R"("usage":{"input_tokens":N,"output_tokens":N}}})"
        "\n\n");
  CHECK(masked(s.chunks[2]) ==
        "event: content_block_delta\ndata: "
        R"({"type":"content_block_delta","delta":{"type":"text_delta","text":"T"},"index":0})"
        "\n\n");
  CHECK(masked(s.chunks[6]) ==
        "event: message_delta\ndata: "

        R"({"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},)"
        R"("usage":{"input_tokens":N,"output_tokens":N,"cache_creation_input_tokens":0,)"
        R"("cache_read_input_tokens":0}})"
        "\n\n");
  CHECK(s.chunks[7] == "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
  CHECK(masked(e.post("/v1/messages", body + "}").body) ==

        R"({"id":"chatcmpl-ID","type":"message","role":"assistant","content":[{"type":"text",)"
        R"("text":"T"}],"model":"tiny","stop_reason":"max_tokens","usage":{"input_tokens":N,)"
        R"("output_tokens":N,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}})");
  CHECK(error_of(e, "/v1/messages",
                 R"({"model":"no","messages":[{"role":"user","content":"x"}],"max_tokens":1})", 404) ==

        R"({"type":"error","error":{"type":"NotFoundError","message":"The model `no` does not )"
        R"(exist. Valid aliases: tiny."}})");
}

TEST_CASE("errors as recorded") {
  engine e;
  const std::string chat = "/v1/chat/completions";
  const std::string user = R"("messages":[{"role":"user","content":"Hello, what is a licence?"}])";
  CHECK(error_of(e, chat, R"({"model":"tiny",)" + user + R"(,"temperature":-3})", 400) ==

        R"e({"error":{"message":"temperature must be non-negative, got -3.0. )e"
        R"e((parameter=temperature, value=-3.0)","type":"BadRequestError","param":"temperature",)e"
        R"e("code":400}})e");
  CHECK(error_of(e, chat, R"({"model":"tiny",)" + user + R"(,"temperature":"hot"})", 400) ==

        R"e({"error":{"message":"1 validation error:\n  {'type': 'float_parsing', 'loc': )e"
        R"e('body.temperature', 'msg': 'Input should be a valid number, unable to parse string as a )e"
        R"e(number', 'input': 'hot'}","type":"Bad Request","param":"body.temperature","code":400}})e");
  CHECK(error_of(e, chat, R"({"model":"nope",)" + user + "}", 404) ==

        R"e({"error":{"message":"The model `nope` does not exist. Valid aliases: tiny.",)e"
        R"e("type":"NotFoundError","param":"model","code":404}})e");
  CHECK(error_of(e, chat, R"({"model":"tiny",)" + user + R"(,"max_tokens":99999,"stream":true})", 400) ==

        R"e({"error":{"message":"max_tokens=99999 cannot be greater than max_model_len=4096. Please )e"
        R"e(request fewer output tokens. (parameter=max_tokens, value=99999)",)e"
        R"e("type":"BadRequestError","param":"max_tokens","code":400}})e");
  CHECK(error_of(
            e, chat,
            R"({"model":"tiny","messages":[{"role":"user","content":")" + std::string(72000, 'x') + "\"}]}",
            400) ==

        R"e({"error":{"message":"This model's maximum context length is 4096 tokens. However, your )e"
        R"e(prompt contains at least 4097 input tokens, which exceeds this limit even without any )e"
        R"e(output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, )e"
        R"e(value=4097)","type":"BadRequestError","param":"input_tokens","code":400}})e");
  CHECK(error_of(e, chat, R"({"model":"tiny"})", 400) ==

        R"e({"error":{"message":"1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', )e"
        R"e('msg': 'Field required', 'input': '<dict of 1 items>'}","type":"Bad Request",)e"
        R"e("param":"body.messages","code":400}})e");
  CHECK(error_of(e, chat, R"({"model":"tiny","messages":[]})", 400) ==

        R"e({"error":{"message":"Cannot apply chat template to an empty conversation. Provide at )e"
        R"e(least one message.","type":"BadRequestError","param":null,"code":400}})e");
  CHECK(error_of(e, chat, R"({"model":)", 400) ==

        R"e({"error":{"message":"1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.9', )e"
        R"e('msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting )e"
        R"e(value'}}","type":"Bad Request","param":"body.9","code":400}})e");
  CHECK(error_of(e, chat, R"({"model":"tiny",)" + user + R"(,"n":0})", 400) ==

        R"e({"error":{"message":"n must be at least 1, got 0.","type":"BadRequestError",)e"
        R"e("param":null,"code":400}})e");
  CHECK(error_of(e, chat, R"({"model":"tiny",)" + user + R"(,"top_p":7,"stream":true})", 400) ==

        R"e({"error":{"message":"top_p must be in (0, 1], got 7.0. (parameter=top_p, value=7.0)",)e"
        R"e("type":"BadRequestError","param":"top_p","code":400}})e");
  CHECK(
      error_of(e, chat, R"({"model":"tiny",)" + user + R"(,"stream_options":{"include_usage":true}})", 400) ==

      R"e({"error":{"message":"Stream options can only be defined when `stream=True`. )e"
      R"e((parameter=stream_options)","type":"BadRequestError","param":"stream_options",)e"
      R"e("code":400}})e");
  CHECK(error_of(e, chat, "hello", 400, "text/plain") ==

        R"e({"error":{"message":"1 validation error:\n  Unsupported Media Type: Only )e"
        R"e('application/json' is allowed","type":"Bad Request","param":null,"code":400}})e");
  CHECK(error_of(e, "/v1/nope", "{}", 404) == R"({"detail":"Not Found"})");
  const reply wrong = e.get(chat);
  CHECK(wrong.status == 405);
  CHECK(wrong.head.find("allow: POST\r\n") != std::string::npos);
  CHECK(e.post(chat, R"({"model":"tiny",)" + user + R"(,"max_tokens":1,"zzz_unknown":1})").status == 200);
}

TEST_CASE("tools are called, streamed and whole, and not after their result") {
  engine e;
  const std::string tools =

      R"("tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object",)"
      R"("properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}}])";
  const std::string body = R"({"model":"tiny","messages":[{"role":"user","content":"Rain?"}],)" + tools;
  const reply whole = e.post("/v1/chat/completions", body + "}");
  CHECK(text_at(whole.body, "/choices/0/finish_reason") == "tool_calls");
  CHECK(text_at(whole.body, "/choices/0/message/tool_calls/0/function/name") == "weather");
  const std::string arguments = text_at(whole.body, "/choices/0/message/tool_calls/0/function/arguments");
  CHECK(number(arguments, "/days") == 7);
  const reply s = e.post("/v1/chat/completions", body + R"(,"stream":true})");
  std::string streamed;
  const auto data = s.data();
  for (std::size_t i = 2; i + 1 < data.size(); ++i)
    streamed += text_at(data[i], "/choices/0/delta/tool_calls/0/function/arguments");
  CHECK(streamed == arguments);
  CHECK(text_at(data[1], "/choices/0/delta/tool_calls/0/function/name") == "weather");
  const reply after =
      e.post("/v1/chat/completions",

             R"({"model":"tiny","messages":[{"role":"user","content":"Rain?"},{"role":"tool",)"
             R"("tool_call_id":"x","content":"no"}],)" +
                 tools + "}");
  CHECK(!text_at(after.body, "/choices/0/message/content").empty());
  CHECK(e.post("/v1/chat/completions", body + R"(,"tool_choice":"none"})").body.find("tool_calls") ==
        std::string::npos);

  const reply anthropic =
      e.post("/v1/messages",

             R"({"model":"tiny","max_tokens":100,"messages":[{"role":"user","content":"Rain?"}],)"
             R"("tools":[{"name":"weather","input_schema":{"properties":{"city":{"type":"string"}}}}]})");
  CHECK(text_at(anthropic.body, "/content/0/input/city") == "the red fox");
  CHECK(text_at(anthropic.body, "/stop_reason") == "tool_use");
  const reply responses =
      e.post("/v1/responses",

             R"({"model":"tiny","input":"Rain?","stream":true,"tools":[{"type":"function",)"
             R"("name":"weather","parameters":{"properties":{}}}]})");
  CHECK(text_at(responses.data().back(), "/response/output/0/name") == "weather");
}

TEST_CASE("calls without generated tokens") {
  engine e;
  const reply embeddings = e.post("/v1/embeddings", R"({"model":"tiny","input":["a","b"]})");
  CHECK(number(embeddings.body, "/data/1/index") == 1);
  CHECK(e.post("/v1/embeddings", R"({"model":"tiny","input":"a","encoding_format":"base64"})")
            .body.find("\"embedding\":\"") != std::string::npos);
  const reply rerank = e.post("/v1/rerank", R"({"model":"tiny","query":"q","documents":["a","b","c"]})");
  CHECK(!text_at(rerank.body, "/results/2/document/text").empty());
  CHECK(number(e.post("/v1/score", R"({"model":"tiny","text_1":"q","text_2":["a","b"]})").body,
               "/data/1/index") == 1);
  const reply tokens = e.post("/tokenize", R"({"model":"tiny","prompt":"The licence"})");
  CHECK(number(tokens.body, "/count") == 4);
  const std::string ids = tokens.body.substr(tokens.body.find("\"tokens\":") + 9,
                                             tokens.body.find(']') - tokens.body.find("\"tokens\":") - 8);
  CHECK(e.post("/detokenize", R"({"model":"tiny","tokens":)" + ids + "}").body ==
        R"({"prompt":"The licence"})");
  const std::string form =
      "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ntiny\r\n--b\r\nContent-Disposition: "
      "form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\x01\xff\r\n--b--\r\n";
  const reply audio = e.post("/v1/audio/transcriptions", form, "", "multipart/form-data; boundary=b");
  CHECK(audio.status == 200);
  CHECK(!text_at(audio.body, "/text").empty());
}

TEST_CASE("what probes and scrapes read") {
  auto options = instant_options();
  options.adapters = {"sql"};
  options.kv_tokens = 4096;
  engine e(options);
  for (const char* path : {"/health", "/ping"}) {
    const reply r = e.get(path);
    CHECK(r.status == 200);
    CHECK(r.body.empty());
  }
  CHECK(e.get("/version").body == R"({"version":"0.32.0"})");
  CHECK(e.get("/load").body == R"({"server_load":0})");
  const std::string models = e.get("/v1/models").body;
  CHECK(text_at(models, "/data/0/id") == "tiny");
  CHECK(number(models, "/data/0/max_model_len") == 4096);
  CHECK(text_at(models, "/data/1/parent") == "tiny");
  CHECK(e.post("/v1/completions", R"({"model":"sql","prompt":"x","max_tokens":1})").status == 200);
  const std::string metrics = e.get("/metrics").body;
  for (const char* line : {"vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 0\n",
                           "vllm:num_requests_waiting{engine=\"0\",model_name=\"tiny\"} 0\n",
                           "by_reason{engine=\"0\",model_name=\"tiny\",reason=\"capacity\"} 0\n",
                           "by_reason{engine=\"0\",model_name=\"tiny\",reason=\"deferred\"} 0\n",
                           "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"tiny\"} 0\n",
                           "vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"tiny\"} 2\n",
                           "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"tiny\"} 0\n",
                           "block_size=\"16\"", "num_gpu_blocks=\"256\"", "kv_cache_size_tokens=\"4096\"",
                           "process_start_time_seconds ", "vllm:lora_requests_info{max_lora=\"1\""}) {
    CHECK_MESSAGE(metrics.find(line) != std::string::npos, line << " in\n" << metrics);
  }
}

TEST_CASE("cached tokens: repeats hit whole blocks, salts and adapters do not share") {
  auto options = instant_options();
  options.adapters = {"sql"};
  engine e(options);
  const auto cached = [&](const std::string& model, const std::string& more) {
    const std::string text(1200, 'a');
    const reply r = e.post("/v1/chat/completions", R"({"model":")" + model +
                                                       R"(","messages":[{"role":"user","content":")" + text +
                                                       R"("}],"max_tokens":2)" + more + "}");
    CHECK(number(r.body, "/usage/prompt_tokens") == 304);
    return number(r.body, "/usage/prompt_tokens_details/cached_tokens");
  };
  CHECK(cached("tiny", "") == 0);
  CHECK(cached("tiny", "") == 288);  // 304 tokens are 19 whole blocks, and the last token is never cached
  CHECK(cached("tiny", R"(,"cache_salt":"tenant-a")") == 0);
  CHECK(cached("tiny", R"(,"cache_salt":"tenant-a")") == 288);
  CHECK(cached("sql", "") == 0);
}

TEST_CASE("two engines give one text and different ids") {
  engine a, b;
  const std::string one = a.post("/v1/chat/completions", chat_body).body;
  const std::string two = b.post("/v1/chat/completions", chat_body).body;
  CHECK(text_at(one, "/choices/0/message/content") == text_at(two, "/choices/0/message/content"));
  CHECK(text_at(one, "/id") != text_at(two, "/id"));
}

TEST_CASE("an id that the client chose is escaped wherever it shows") {
  engine e;
  const std::string headers = "X-Request-Id: a\"b\\c\r\n";
  const std::string tools = R"(,"tools":[{"type":"function","name":"f","function":{"name":"f"}}]})";
  for (const auto& call : std::vector<std::pair<std::string, std::string>>{
           {"/v1/chat/completions", R"({"messages":[{"role":"user","content":"x"}])" + tools},
           {"/v1/messages", R"({"messages":[{"role":"user","content":"x"}],"max_tokens":9)" + tools},
           {"/v1/responses", R"({"input":"x")" + tools},
           {"/v1/rerank", R"({"query":"q","documents":["a"]})"},
           {"/v1/embeddings", R"({"input":"x"})"}}) {
    CAPTURE(call.first);
    CHECK(text_at(e.post(call.first, call.second, headers).body, "/id").find("a\"b\\c") != std::string::npos);
  }
}

TEST_CASE("without prompt tokens details usage has none") {
  auto options = instant_options();
  options.prompt_tokens_details = false;
  engine e(options);
  CHECK(e.post("/v1/chat/completions", chat_body).body.find(R"("prompt_tokens_details":null)") !=
        std::string::npos);
}
