// Which differences of bodies change a chain, and which do not.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <xxhash.h>

#include "tokenizer/block_hasher.hpp"
#include "unit/tokenizer/reading.hpp"

using namespace penstock;
using namespace penstock::tokenizer;

namespace {

const std::string_view long_text =
    "Bridges carry roads over water, and tunnels carry them under it; both are dear to build and dear to "
    "keep.";

std::vector<std::uint64_t> chat(std::string_view members) {
  return chain_of(api_kind::chat, fmt::format(R"({{"model":"m",{}}})", members));
}

// A chat whose only message has this content.
std::vector<std::uint64_t> content(std::string_view json) {
  return chat(fmt::format(R"("messages":[{{"role":"user","content":{}}},{{"role":"user","content":"{}"}}])",
                          json, long_text));
}

std::vector<std::uint64_t> anthropic(std::string_view members) {
  return chain_of(api_kind::messages, fmt::format(R"({{"model":"m","max_tokens":1,{}}})", members));
}

std::vector<std::uint64_t> responses(std::string_view members) {
  return chain_of(api_kind::responses, fmt::format(R"({{"model":"m",{}}})", members));
}

}  // namespace

TEST_CASE("a key is XXH3 of its block seeded with the key before, however the bytes come") {
  const std::string bytes(1000, 'q');
  for (const std::size_t step : {1U, 7U, 63U, 64U, 65U, 500U, 1000U}) {
    block_hasher hasher(64);
    prefix_chain chain;
    hasher.begin(chain, 5);
    for (std::size_t i = 0; i < bytes.size(); i += step) hasher.put(std::string_view(bytes).substr(i, step));
    CHECK(hasher.finish() == 1000 % 64);
    REQUIRE(chain.blocks.size() == 1000 / 64);
    std::uint64_t key = 5;
    for (const prefix_block& b : chain.blocks) {
      key = XXH3_64bits_withSeed(bytes.data(), 64, key);
      CHECK(b.key == key);
    }
  }
}

TEST_CASE("white space and the order of keys change nothing") {
  const auto plain =
      chat(fmt::format(R"("messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","name":"an)"
                       R"(n","content":"{}"}}],"tools":[{{"type":"function","function":{{"name":"f","param)"
                       R"(eters":{{}}}}}}],"temperature":1)",
                       long_text));
  REQUIRE(plain.size() > 5);
  CHECK(plain == chat(fmt::format(
                     R"( "temperature" : 1 , "tools" : [ {{ "type" : "function" , "function" :
        {{ "name" : "f" , "parameters" : {{ }} }} }} ] , "messages" : [ {{ "content" : "Be brief." ,
        "role" : "system" }} , {{ "name" : "ann" , "content" : "{}" , "role" : "user" }} ] )",
                     long_text)));
  CHECK(plain ==
        chat(fmt::format(R"("stream":true,"seed":3,"messages":[{{"\u0072ole":"system","content":[{{"type":"t)"
                         R"(ext","text":"Be brief."}}]}},{{"name":"ann","role":"user","content":"{}","cache_)"
                         R"(control":{{"type":"ephemeral"}}}}],"tools":[{{"type":"function","cache_control":)"
                         R"({{}},"function":{{"name":"f","parameters":{{}}}}}}])",
                         long_text)));
}

TEST_CASE("the order inside of a tool is the prompt's") {
  const auto tool = [](std::string_view parameters) {
    return chat(fmt::format(R"("messages":[],"tools":[{{"type":"function","function":{}}}])", parameters));
  };
  const auto one = tool(R"({"name":"a","parameters":{"x":{"type":"string"},"y":{"type":"string"}}})");
  CHECK(one != tool(R"({"name":"a","parameters":{"y":{"type":"string"},"x":{"type":"string"}}})"));
  // A parameter may be called what elsewhere is a mark.
  CHECK(tool(R"({"name":"a","parameters":{"cache_control":{"type":"string"}}})") !=
        tool(R"({"name":"a","parameters":{}})"));
}

TEST_CASE("different conversations have different chains") {
  const auto text = [](std::string_view messages) {
    return chat(fmt::format(R"("messages":[{},{{"role":"user","content":"{}"}}])", messages, long_text));
  };
  const auto base = text(R"({"role":"user","content":"ab"})");
  CHECK(base != text(R"({"role":"system","content":"ab"})"));
  CHECK(base != text(R"({"role":"user","content":"a"},{"role":"user","content":"b"})"));
  CHECK(base != text(R"({"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]})"));
  CHECK(base != text(R"({"role":"usera","content":"b"})"));
  CHECK(base != text(R"({"role":"user","name":"ab"})"));
  CHECK(base != text(R"({"role":"user","reasoning_content":"ab"})"));
  CHECK(base != text(R"({"role":"user","content":"\u0001ab"})"));
  CHECK(text(R"({"role":"assistant","reasoning":"x","content":"ab"})") ==
        text(R"({"role":"assistant","content":"ab","reasoning_content":"x"})"));
}

TEST_CASE(
    "what changes a prompt's head changes every block, other arguments only what follows the messages") {
  const std::string messages = fmt::format(R"("messages":[{{"role":"user","content":"{}"}}])", long_text);
  const auto base = chat(messages);
  for (const std::string_view head :
       {R"("cache_salt":"s")", R"("chat_template":"{{x}}")", R"("reasoning_effort":"high")",
        R"("tool_choice":"none")", R"("documents":[{"title":"t","text":"x"}])"}) {
    CAPTURE(head);
    CHECK(shared(base, chat(messages + "," + std::string(head))) == 0);
  }
  for (const std::string_view same : {R"("cache_salt":null)", R"("tool_choice":"auto")", R"("documents":[])",
                                      R"("temperature":0.3)", R"("top_p":1)", R"("logprobs":true)",
                                      R"("response_format":{"type":"json_object"})", R"("stream":true)"}) {
    CAPTURE(same);
    CHECK(base == chat(messages + "," + std::string(same)));
  }
  const auto with_arguments =
      chat(messages + R"(,"chat_template_kwargs":{"enable_thinking":false},"add_generation_prompt":true)");
  CHECK(shared(base, with_arguments) == base.size());
  CHECK(with_arguments.size() > base.size());
  CHECK(shared(responses(R"("input":"a long enough text","reasoning":{"effort":"low"})"),
               responses(R"("input":"a long enough text","reasoning":{"effort":"high"})")) == 0);
  CHECK(anthropic(fmt::format(R"({},"tool_choice":{{"type":"none"}})", messages)) != anthropic(messages));
  CHECK(anthropic(fmt::format(R"({},"tool_choice":{{"type":"auto"}})", messages)) == anthropic(messages));
}

TEST_CASE("the model is not part of a chain") {
  const auto of = [](std::string_view model) {
    return chain_of(
        api_kind::chat,
        fmt::format(R"({{"model":"{}","messages":[{{"role":"user","content":"{}"}}]}})", model, long_text));
  };
  CHECK(of("a") == of("b"));
}

TEST_CASE("tool calls and their results") {
  const auto calls = [](std::string_view call) {
    return chat(
        fmt::format(R"("messages":[{{"role":"assistant","content":null,"tool_calls":[{}]}},{{"role":"to)"
                    R"(ol","tool_call_id":"1","content":"{}"}}])",
                    call, long_text));
  };
  const auto base = calls(R"({"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}})");
  CHECK(base == calls(R"({"function":{"arguments":"{\"a\":1}","name":"f"},"type":"function","id":"1"})"));
  CHECK(base ==
        calls(R"({"index":0,"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}})"));
  CHECK(base != calls(R"({"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":2}"}})"));
  CHECK(base != calls(R"({"id":"1","type":"function","function":{"name":"g","arguments":"{\"a\":1}"}})"));
}

TEST_CASE("pictures and sounds are told apart by what they are") {
  const auto image = [](std::string_view part) { return content(fmt::format("[{}]", part)); };
  const auto url = image(R"({"type":"image_url","image_url":{"url":"https://x/a.png"}})");
  CHECK(url ==
        image(R"({"type":"image_url","image_url":{"detail":"low","url":"https://x/a.png?sig=1&e=2"}})"));
  CHECK(url == image(R"({"image_url":"https://x/a.png#f"})"));
  CHECK(url != image(R"({"type":"image_url","image_url":{"url":"https://x/b.png"}})"));
  CHECK(url != image(R"({"type":"video_url","video_url":{"url":"https://x/a.png"}})"));
  CHECK(url != image(R"({"type":"text","text":"https://x/a.png"})"));
  const auto data = image(R"({"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}})");
  CHECK(data != image(R"({"type":"image_url","image_url":{"url":"data:image/png;base64,AAAB"}})"));
  CHECK(data == image(R"({"type":"image_url","image_url":{"url":"data:image/jpeg;base64,AAAA"}})"));
  const auto uuid = image(R"({"type":"image_url","image_url":{"url":"https://x/a.png"},"uuid":"u1"})");
  CHECK(uuid == image(R"({"type":"image_url","image_url":null,"uuid":"u1"})"));
  CHECK(uuid != url);
  CHECK(image(R"({"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}})") !=
        image(R"({"type":"input_audio","input_audio":{"data":"AAAB","format":"wav"}})"));
  // Anthropic's base64 source is the same bytes as a data: URL.
  const auto source = [](std::string_view s) {
    return anthropic(
        fmt::format(R"("messages":[{{"role":"user","content":[{{"type":"image","source":{}}}]}},{{"role)"
                    R"(":"user","content":"{}"}}])",
                    s, long_text));
  };
  CHECK(source(R"({"type":"base64","media_type":"image/png","data":"AAAA"})") == data);
  CHECK(source(R"({"type":"url","url":"https://x/a.png"})") == url);
}

TEST_CASE("Anthropic's system, blocks and marks") {
  const std::string user = fmt::format(R"("messages":[{{"role":"user","content":"{}"}}])", long_text);
  const auto base = anthropic(R"("system":"Be brief.",)" + user);
  CHECK(base ==
        anthropic(R"("system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}],)" +
                  user));
  CHECK(base ==
        chat(fmt::format(
            R"("messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{}"}}])",
            long_text)));
  // The line that Claude Code changes with every request.
  CHECK(base ==
        anthropic(R"("system":[{"type":"text","text":"x-anthropic-billing-header: cch=1;"},{"type":"t)"
                  R"(ext","text":"Be brief."}],)" +
                  user));
  CHECK(base == anthropic(R"("system":"x-anthropic-billing-header: cch=2;\nBe brief.",)" + user));

  const auto block = [&](std::string_view b) {
    return anthropic(fmt::format(
        R"("messages":[{{"role":"user","content":[{}]}},{{"role":"user","content":"{}"}}])", b, long_text));
  };
  CHECK(block(R"({"type":"tool_use","id":"1","name":"f","input":{"a":1}})") ==
        block(R"({"cache_control":{},"id":"1","input":{ "a" : 1 },"name":"f","type":"tool_use"})"));
  CHECK(block(R"({"type":"tool_result","tool_use_id":"1","content":"r"})") ==
        block(R"({"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"r","ca)"
              R"(che_control":{}}]})"));
  CHECK(block(R"({"type":"tool_result","tool_use_id":"1","content":"r"})") !=
        block(R"({"type":"tool_result","tool_use_id":"2","content":"r"})"));
  CHECK(block(R"({"type":"thinking","thinking":"t","signature":"a"})") ==
        block(R"({"type":"thinking","thinking":"t","signature":"b"})"));
  CHECK(block(R"({"type":"later_kind","x":[1, 2],"cache_control":{}})") ==
        block(R"({"type":"later_kind","x":[1,2]})"));
  CHECK(block(R"({"type":"document","source":{"type":"text","media_type":"text/plain","data":"d"}})") ==
        block(R"({"type":"text","text":"d"})"));
}

TEST_CASE("items of responses") {
  const auto item = [](std::string_view i) {
    return responses(fmt::format(R"("input":[{},{{"role":"user","content":"{}"}}])", i, long_text));
  };
  CHECK(item(R"({"role":"user","content":"a"})") ==
        item(R"({"type":"message","id":"i","status":"completed","role":"user","content":[{"type")"
             R"(:"input_text","text":"a"}]})"));
  CHECK(item(R"({"type":"function_call","call_id":"c","name":"f","arguments":"{}"})") ==
        item(R"({"type":"function_call","id":"fc_1","status":"completed","arguments":"{}","name")"
             R"(:"f","call_id":"c"})"));
  CHECK(item(R"({"type":"function_call","call_id":"c","name":"f","arguments":"{}"})") !=
        item(R"({"type":"function_call_output","call_id":"c","output":"{}"})"));
  CHECK(item(R"({"type":"reasoning","id":"r","summary":[{"type":"summary_text","text":"s"}]})") !=
        item(R"({"type":"reasoning","id":"r","summary":[{"type":"summary_text","text":"z"}]})"));
  CHECK(item(R"({"type":"reasoning","summary":[],"encrypted_content":"e"})") !=
        item(R"({"type":"reasoning","summary":[],"encrypted_content":"f"})"));
  CHECK(item(R"({"type":"web_search_call","id":"1","status":"x","action":{"q":"a"}})") ==
        item(R"({"type":"web_search_call","id":"2","action":{"q": "a"}})"));
  CHECK(responses(fmt::format(R"("instructions":"Be brief.","input":"{}")", long_text)) ==
        chat(fmt::format(
            R"("messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{}"}}])",
            long_text)));
}

TEST_CASE("what no engine takes is still read without harm") {
  for (const std::string_view messages :
       {R"([1,"x",null,[],{}])", R"([{"role":1,"content":{"a":1}}])",
        R"([{"content":[1,null,[],{},{"type":3}]}])", R"([{"tool_calls":"x","function_call":[]}])",
        R"([{"tool_calls":[1,{},{"function":7}]}])",
        R"([{"content":[{"type":"image_url"},{"type":"image_url","image_url":[]},{"type":"t)"
        R"(ext","text":[["a"]]}]}])",
        R"([{"content":[{"type":"document","source":{"type":"content","content":[{"type":"t)"
        R"(ext","text":"x"}]}}]}])"}) {
    CAPTURE(messages);
    CHECK_FALSE(read_body(api_kind::chat, fmt::format(R"({{"model":"m","messages":{}}})", messages)).error);
    CHECK_FALSE(read_body(api_kind::responses, fmt::format(R"({{"model":"m","input":{}}})", messages)).error);
  }
}
