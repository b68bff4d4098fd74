// TensorRT-LLM: both bodies to the byte, what a context answer says, and answers that are complete with it.
// Shapes of tensorrt_llm/serve (openai_protocol, openai_disagg_service).
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "proxy/handoff/prefill_answer.hpp"
#include "proxy/handoff/whole_answer.hpp"
#include "unit/proxy/handoff/bodies.hpp"

using namespace penstock;
using namespace penstock::handoff;
using namespace penstock::handoff::testing;

namespace {

constexpr auto trtllm = connector_kind::trtllm;
constexpr std::string_view asks =
    R"("disaggregated_params":{"request_type":"context_only","disagg_request_id":4611686018427387909})";
constexpr std::string_view params =
    R"({"request_type":"context_only","first_gen_tokens":[7],"ctx_request_id":5,"encoded_opaque_state":"AA==","disagg_request_id":9223372036854775807,"draft_tokens":null})";
constexpr std::string_view wanted =
    R"({"request_type":"generation_only","first_gen_tokens":[7],"ctx_request_id":5,"encoded_opaque_state":"AA==","disagg_request_id":9223372036854775807,"draft_tokens":null})";

std::string context(std::string_view body, api_kind api = api_kind::chat) {
  return prefill(trtllm, body, api, {.room = 5});
}

std::string answer(std::string_view choice, std::string_view more = "") {
  return std::string(
             R"({"id":"cmpl-1", "object":"chat.completion","created":17,"model":"m\u00e9","choices":[)") +
         std::string(choice) + R"(],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10,)" +
         R"("prompt_tokens_details":{"cached_tokens":4}})" + std::string(more) + "}";
}

std::string choice_of(std::string_view finish,
                      std::string_view message = R"({"role":"assistant","content":"a"})") {
  return fmt::format(
      R"({{"index":0,"message":{},"logprobs":null,"finish_reason":{},"stop_reason":2,"disaggregated_params":{}}})",
      message, finish, params);
}

}  // namespace

TEST_CASE("trtllm: a context leg is the client's body, whole, with its type and number") {
  CHECK(context(R"({"model":"m","messages":[]})") ==
        R"({"model":"m","messages":[],)" + std::string(asks) + "}");
  CHECK(context(R"({"stream":true, "max_tokens":  12,"model":"m","messages":[],"stream_options":{"a":1}})") ==
        R"({"stream":false, "max_tokens":  12,"model":"m","messages":[],)" + std::string(asks) + "}");
  CHECK(context(R"({"model":"m","prompt":"x","n":1})", api_kind::completions) ==
        R"({"model":"m","prompt":"x","n":1,)" + std::string(asks) + "}");
}

TEST_CASE("trtllm: numbers of hand-offs are positive and never those of an engine's own requests") {
  for (const std::uint64_t room : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}}) {
    const std::string body =
        prefill(trtllm, R"({"model":"m","messages":[]})", api_kind::chat, {.room = room});
    const std::size_t at = body.find("disagg_request_id\":") + 19;
    const std::uint64_t number = std::stoull(body.substr(at));
    CHECK(number >= std::uint64_t{1} << 42);
    CHECK(number < std::uint64_t{1} << 63);
  }
}

TEST_CASE("trtllm: a generation leg has the client's words, the state and the tokens as they came") {
  const terms said{.params = params, .prompt_ids = "[1, 2,3]"};
  CHECK(
      decode(trtllm, R"({ "model":"m","messages":[],"max_tokens":  12,"temperature":1.50,"stream":true })",
             said) ==
      R"({ "model":"m","messages":[],"max_tokens":  12,"temperature":1.50,"stream":true ,"prompt_token_ids":[1, 2,3],"disaggregated_params":)" +
          std::string(wanted) + "}");
  // The text of a completion gives way to its tokens.
  CHECK(decode(trtllm, R"({"prompt": "a b" ,"model":"m"})", said, api_kind::completions) ==
        R"({"prompt": [1, 2,3] ,"model":"m","disaggregated_params":)" + std::string(wanted) + "}");
  CHECK(decode(trtllm, R"({"model":"m","messages":[],"prompt_token_ids":[9]})", said) ==
        R"({"model":"m","messages":[],"prompt_token_ids":[1, 2,3],"disaggregated_params":)" +
            std::string(wanted) + "}");
  CHECK(decode(trtllm, R"({"model":"m","messages":[]})", {.params = params}) ==
        R"({"model":"m","messages":[],"disaggregated_params":)" + std::string(wanted) + "}");
}

TEST_CASE("trtllm: what a context answer hands on is in its choice, the prompt's tokens beside") {
  for (const std::string_view finish : {R"("length")", R"("not_finished")", "null"}) {
    const std::string body = answer(choice_of(finish), R"(,"prompt_token_ids":[1, 2,3] )");
    const prefill_answer a = read_prefill_answer(trtllm, body);
    CHECK(a.read);
    CHECK_FALSE(a.finished);
    CHECK(a.params == params);
    CHECK(a.params.data() >= body.data());
    CHECK(a.params.data() < body.data() + body.size());
    CHECK(a.prompt_ids == "[1, 2,3]");
    CHECK(a.cached_known);
    CHECK(a.cached_tokens == 4);
  }
  // At the top level as well, where an answer has no choice.
  const std::string top =
      R"({"disaggregated_params":)" + std::string(params) + R"(,"prompt_token_ids":null})";
  CHECK(read_prefill_answer(trtllm, top).params == params);
  CHECK(read_prefill_answer(trtllm, top).prompt_ids.empty());
  const prefill_answer none = read_prefill_answer(trtllm, answer(R"({"index":0,"finish_reason":"length"})"));
  CHECK(none.read);
  CHECK_FALSE(none.finished);
  CHECK(none.params.empty());
  CHECK_FALSE(read_prefill_answer(trtllm, answer(choice_of(R"("stop")")).substr(1)).read);
}

TEST_CASE("trtllm: a context answer that ended is the answer, without what was for engines") {
  const std::string body =
      answer(choice_of(R"("stop")"), R"(,"prompt_token_ids":[1,2] ,"prompt_token_ids_b64":null)");
  const prefill_answer a = read_prefill_answer(trtllm, body);
  CHECK(a.finished);
  CHECK(a.params.empty());
  const std::string plain = plain_answer(body);
  CHECK(
      plain ==
      answer(
          R"({"index":0,"message":{"role":"assistant","content":"a"},"logprobs":null,"finish_reason":"stop","stop_reason":2})",
          R"( ,"prompt_token_ids_b64":null)"));
  CHECK(plain_answer(R"({ "disaggregated_params":{"a":[1]} , "prompt_token_ids":[1] , "id":"x" })") ==
        R"({   "id":"x" })");
  CHECK(plain_answer(R"({"disaggregated_params":{}})") == "{}");
  CHECK(plain_answer(R"({"a":"disaggregated_params","prompt_token_ids":[]})") ==
        R"({"a":"disaggregated_params"})");
}

TEST_CASE("trtllm: a complete context answer as the stream that was asked for") {
  const std::string head =
      R"(data: {"id":"cmpl-1","created":17,"model":"m\u00e9","object":"chat.completion.chunk","choices":[)";
  const std::string counts =
      R"({"prompt_tokens":9,"completion_tokens":1,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":4}})";
  const std::string said =
      head +
      R"({"index":0,"delta":{"role":"assistant","content":"a"},"logprobs":null,"finish_reason":null,"stop_reason":null}]})"
      "\n\n" +
      head +
      R"({"index":0,"delta":{},"finish_reason":"stop","stop_reason":2}]})"
      "\n\n";
  const std::string body = answer(choice_of(R"("stop")"));
  CHECK(answer_as_events(api_kind::chat, body, false) == said + "data: [DONE]\n\n");
  CHECK(answer_as_events(api_kind::chat, body, true) ==
        said + head + R"(],"usage":)" + counts + "}\n\ndata: [DONE]\n\n");
  // Tool calls of a stream are numbered.
  const std::string tools = answer_as_events(
      api_kind::chat,
      answer(choice_of(
          R"("tool_calls")",
          R"({"role":"assistant","content":null,"tool_calls":[{"id":"t","function":{"name":"f","arguments":"{}"}},{"id":"u"},{}]})")),
      false);
  CHECK(
      tools.find(
          R"("delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{}"}},{"index":1,"id":"u"},{"index":2}]})") !=
      tools.npos);
  const std::string text = answer_as_events(
      api_kind::completions,
      R"({"id":"c","object":"text_completion","choices":[{"text":"a","index":0,"disaggregated_params":{"x":1},"finish_reason":"stop"}]})",
      true);
  CHECK(
      text ==
      R"(data: {"id":"c","object":"text_completion","choices":[{"text":"a","index":0,"finish_reason":"stop"}]})"
      "\n\ndata: [DONE]\n\n");
  CHECK(answer_as_events(api_kind::chat, R"({"choices":[]})", true).empty());
  CHECK(answer_as_events(api_kind::chat, "[]", true).empty());
}

TEST_CASE("trtllm: chat and text completions alone can be handed over") {
  const auto carried = [](std::string_view body, api_kind api) {
    return (carriers(facts_of(body, api)) >> static_cast<unsigned>(trtllm) & 1U) != 0;
  };
  CHECK(carried(R"({"model":"m","messages":[]})", api_kind::chat));
  CHECK(carried(R"({"model":"m","prompt":"x"})", api_kind::completions));
  CHECK_FALSE(carried(R"({"model":"m","input":"x"})", api_kind::responses));
  CHECK_FALSE(carried(R"({"model":"m","messages":[],"max_tokens":1})", api_kind::messages));
  CHECK_FALSE(carried(R"({"model":"m","messages":[],"n":2})", api_kind::chat));
}
