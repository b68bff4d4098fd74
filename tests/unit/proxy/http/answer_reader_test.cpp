#include "proxy/http/answer_reader.hpp"

#include <doctest/doctest.h>

#include <string>

#include "unit/proxy/http/pieces.hpp"

using namespace penstock;
using namespace penstock::http;

namespace {

// Recorded from llama.cpp b11434.
const std::string llama_chat =
    R"({"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","content":"></ th getcontext True"}}],"created":1795369105,"model":"tiny","system_fingerprint":"b0-unknown","object":"chat.completion","usage":{"completion_tokens":4,"prompt_tokens":355,"total_tokens":359,"prompt_tokens_details":{"cached_tokens":347}},"id":"chatcmpl-itiQkB2yoTuE6kCxA9FdZSdMANbkKT3t","timings":{"cache_n":347,"prompt_n":8}})";
const std::string llama_responses =
    R"({"completed_at":1795369105,"created_at":1795369105,"id":"resp_ibWjQXmhOHnAeQTERg47oZGkRzaPELk2","model":"tiny","object":"response","output":[{"content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"ROIST Invariantep"}],"id":"msg_TmgG3IIl4UBVUOy5k5r4G54kCTnArTKW","role":"assistant","status":"completed","type":"message"}],"status":"completed","usage":{"input_tokens":15,"output_tokens":4,"total_tokens":19,"input_tokens_details":{"cached_tokens":8}}})";
const std::string llama_messages =
    R"({"id":"chatcmpl-UjRSSoqgXW0gWDZ1BW0l3tCEJEWOsY6Y","type":"message","role":"assistant","content":[{"type":"text","text":" notice)[callsapping"}],"model":"tiny","stop_reason":"max_tokens","stop_sequence":null,"usage":{"cache_read_input_tokens":22,"input_tokens":1,"output_tokens":4}})";

token_usage read(api_kind api, std::string_view text) {
  answer_reader reader(api);
  reader.feed(text);
  reader.finish();
  return reader.usage();
}

}  // namespace

TEST_CASE("recorded answers: usage and id, however they are cut") {
  const struct {
    api_kind api;
    const std::string& text;
    token_usage usage;
    std::string id;
  } answers[] = {
      {api_kind::chat, llama_chat, {355, 4, 347, true, true}, ""},
      {api_kind::responses, llama_responses, {15, 4, 8, true, true}, "resp_ibWjQXmhOHnAeQTERg47oZGkRzaPELk2"},
      {api_kind::messages, llama_messages, {23, 4, 22, true, true}, ""},
  };
  for (const auto& a : answers) {
    std::size_t wrong = 0;
    const auto check = [&](const test::pieces& pieces) {
      answer_reader reader(a.api);
      for (const auto p : pieces) reader.feed(p);
      reader.finish();
      const token_usage& u = reader.usage();
      const bool same = u.prompt == a.usage.prompt && u.completion == a.usage.completion &&
                        u.cached == a.usage.cached && u.known && u.cached_known &&
                        reader.response_id() == a.id;
      wrong += same ? 0 : 1;
    };
    test::each_cut(a.text, check);
    test::each_pair_of_cuts(a.text, 7, check);
    CHECK(wrong == 0);
  }
}

TEST_CASE("where usage stands is told, however the answer is cut") {
  const std::string& text = llama_chat;
  const std::size_t begin = text.find("\"usage\"") + 6, end = text.find(",\"id\":\"chatcmpl");
  std::size_t wrong = 0;
  const auto check = [&](const test::pieces& pieces) {
    answer_reader reader(api_kind::chat);
    std::size_t at = 0, begins = 0, ends = 0;
    for (const auto p : pieces) {
      reader.feed(p);
      const auto in = reader.usage_in_last();
      if (in.begin != bytes_view::npos) wrong += ++begins != 1 || at + in.begin != begin;
      if (in.end != bytes_view::npos) wrong += ++ends != 1 || at + in.end != end;
      at += p.size();
    }
    wrong += begins != 1 || ends != 1;
  };
  test::each_cut(text, check);
  test::each_pair_of_cuts(text, 7, check);
  CHECK(wrong == 0);
}

TEST_CASE("only the outermost object's own usage counts") {
  CHECK_FALSE(read(api_kind::chat, R"({"x":{"usage":{"prompt_tokens":1}}})").known);
  CHECK_FALSE(read(api_kind::chat, R"({"x":"\"usage\":{\"prompt_tokens\":1}"})").known);
  CHECK_FALSE(read(api_kind::chat, R"({"x":"usage","y":{"prompt_tokens":1}})").known);
  CHECK_FALSE(read(api_kind::chat, R"([{"usage":{"prompt_tokens":1}}])").known);
  CHECK_FALSE(read(api_kind::chat, R"({"usage":null})").known);
  CHECK_FALSE(read(api_kind::chat, R"({"usage":{}})").known);
  CHECK_FALSE(read(api_kind::chat, R"({"usage":[{"prompt_tokens":1}]})").known);
  CHECK_FALSE(read(api_kind::chat, R"({} {"usage":{"prompt_tokens":1}})").known);
  CHECK(read(api_kind::chat, R"( { "a" : [ 1 , { "b" : "}" } ] , "usage" : { "prompt_tokens" : 7 } } )")
            .prompt == 7);
  CHECK(read(api_kind::chat, R"({"a":"\\","usage":{"prompt_tokens":7}})").prompt == 7);
}

TEST_CASE("embeddings: a large array of numbers before the usage") {
  std::string text = R"({"object":"list","data":[{"embedding":[)";
  for (int i = 0; i < 20000; ++i) text += "-0.01953125,";
  text += R"(0]}],"usage":{"prompt_tokens":5,"total_tokens":5}})";
  answer_reader reader(api_kind::embeddings);
  for (std::size_t i = 0; i < text.size(); i += 4096) reader.feed(std::string_view(text).substr(i, 4096));
  reader.finish();
  CHECK(reader.usage().known);
  CHECK(reader.usage().prompt == 5);
}

TEST_CASE("what cannot be read has no usage and no end of memory") {
  CHECK_FALSE(read(api_kind::chat, "").known);
  CHECK_FALSE(read(api_kind::chat, "not json \"at all").known);
  CHECK_FALSE(read(api_kind::chat, "}}}}]]]]").known);
  CHECK_FALSE(read(api_kind::chat, std::string(100000, '[')).known);
  CHECK_FALSE(read(api_kind::chat, R"({"usage":{"prompt_tokens":1)").known);
  CHECK_FALSE(
      read(api_kind::chat, "{\"usage\":{\"x\":\"" + std::string(10000, 'y') + "\",\"prompt_tokens\":1}}")
          .known);
  CHECK_FALSE(read(api_kind::chat, "{\"" + std::string(10000, 'k') + "\":1}").known);
  answer_reader reader(api_kind::responses);
  reader.feed("{\"id\":\"" + std::string(300, 'r') + "\"}");
  CHECK(reader.response_id().empty());
}

TEST_CASE("strings deep inside hide quotes and brackets, wherever they stand") {
  std::size_t wrong = 0;
  for (std::size_t pad = 0; pad < 40; ++pad) {
    const std::string text = R"({"choices":[{"content":")" + std::string(pad, 'x') +
                             R"(\"]}\","more":"\\"{[","none":[]}],"usage":{"prompt_tokens":5}})";
    test::each_cut(text, [&](const test::pieces& pieces) {
      answer_reader reader(api_kind::chat);
      for (const auto p : pieces) reader.feed(p);
      reader.finish();
      wrong += reader.usage().known && reader.usage().prompt == 5 ? 0 : 1;
    });
  }
  CHECK(wrong == 0);
}

TEST_CASE("one piece reads as many pieces do, whatever the answer is like") {
  const char* const texts[] = {
      R"({"a":1,"usage":{"prompt_tokens":7},"id":"resp_1"})",
      R"({ "a" : "x" , "usage" : { "prompt_tokens" : 7 } , "id" : "resp_1" } )",
      R"({"usage":{"prompt_tokens":7}  ,"usage":{"prompt_tokens":8}})",
      R"({"usage":{"prompt_tokens":7} "x":1,"id":"resp_1"})",
      R"({"usage":{"prompt_tokens":7}:1})",
      R"({"a":{"b":[1,{"c":"]}"}]},"us\u0061ge":1,"usage":{"completion_tokens":3}})",
      R"({"a":,"usage":{"prompt_tokens":7}})",
      R"({"a" 1,"usage":{"prompt_tokens":7}})",
      R"({"a":"\\\"","usage":{"prompt_tokens":7},"id":"x\ty"})",
      R"({"id":"resp_1","usage":{"prompt_tokens":7},)",
      R"({"id":"resp_1","usage":{"prompt_tokens":7})",
      R"({"id":"resp_1)",
      R"({,,"usage":{"prompt_tokens":7}})",
      R"({"a":[}],"usage":{"prompt_tokens":7}})",
      R"({"a":tru"e","usage":{"prompt_tokens":7}})",
      R"({"usage":{"prompt_tokens":7}}{"usage":{"prompt_tokens":8}})",
  };
  for (const std::string_view text : texts) {
    answer_reader whole(api_kind::responses), bytes(api_kind::responses);
    whole.feed(text);
    for (std::size_t i = 0; i < text.size(); ++i) bytes.feed(text.substr(i, 1));
    CAPTURE(text);
    CHECK(whole.usage().known == bytes.usage().known);
    CHECK(whole.usage().prompt == bytes.usage().prompt);
    CHECK(whole.usage().completion == bytes.usage().completion);
    CHECK(whole.response_id() == bytes.response_id());
  }
}

TEST_CASE("usage counts that are written in an unusual way") {
  const struct {
    const char* usage;
    bool known;
    std::uint64_t prompt, completion, cached;
  } cases[] = {
      {R"({"prompt_tokens":5,"completion_tokens":6,"prompt_tokens_details":{"cached_tokens":4}})", true, 5, 6,
       4},
      {R"({"prompt_tokens" : 5 , "completion_tokens":6 , "completion_tokens_details" : {"cached_tokens":9} })",
       true, 5, 6, 0},
      {R"({"prompt_tokens":5,"x":"}","completion_tokens":6})", true, 5, 6, 0},
      {R"({"prompt\u005ftokens":5,"completion_tokens":6})", true, 5, 6, 0},
      {R"({"prompt_tokens":5.0,"completion_tokens":6})", true, 0, 6, 0},
      {R"({"prompt_tokens":5e1,"completion_tokens":6})", true, 0, 6, 0},
      {R"({"prompt_tokens":-5,"completion_tokens":6})", true, 0, 6, 0},
      {R"({"prompt_tokens":2000000000000,"completion_tokens":6})", true, 0, 6, 0},
      {R"({"prompt_tokens":99999999999999999999999,"completion_tokens":6})", false, 0, 0, 0},
      {R"({"prompt_tokens":05,"completion_tokens":6})", false, 0, 0, 0},
      {R"({"prompt_tokens":5,"completion_tokens":6,})", false, 0, 0, 0},
      {R"({"prompt_tokens":5 "completion_tokens":6})", false, 0, 0, 0},
      {R"({"prompt_tokens":5,"a":{"b":{"c":1}},"prompt_tokens":7})", true, 7, 0, 0},
      {R"({"prompt_tokens":null,"prompt_tokens_details":null})", false, 0, 0, 0},
      {R"({"prompt_tokens_details":{"cached_tokens":4},"input_tokens":9,"cache_read_input_tokens":3})", true,
       12, 0, 3},
      {R"({ })", false, 0, 0, 0},
  };
  for (const auto& c : cases) {
    const token_usage u = read(api_kind::chat, std::string(R"({"usage":)") + c.usage + "}");
    CAPTURE(c.usage);
    CHECK(u.known == c.known);
    CHECK(u.prompt == c.prompt);
    CHECK(u.completion == c.completion);
    CHECK(u.cached == c.cached);
  }
}
