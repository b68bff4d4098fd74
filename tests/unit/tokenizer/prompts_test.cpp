// Prompts of completions, pooling calls and the rest: chains, exact counts, estimates.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <numeric>

#include "tokenizer/prompt_writer.hpp"
#include "unit/tokenizer/reading.hpp"

using namespace penstock;
using namespace penstock::tokenizer;

namespace {

request_facts completion(std::string_view prompt, std::uint32_t block = 16) {
  return read_body(api_kind::completions, fmt::format(R"({{"model":"m","prompt":{}}})", prompt), block).facts;
}

std::uint64_t tokens(api_kind api, std::string_view body) { return read_body(api, body).facts.prompt_tokens; }

std::string ids(std::size_t count) {
  std::string text = "[";
  for (std::size_t i = 0; i < count; ++i) text += fmt::format("{}{}", i == 0 ? "" : ",", i * 7);
  return text + "]";
}

}  // namespace

TEST_CASE("each prompt of a batch has its chain") {
  const std::string a(100, 'a'), b(50, 'b');
  const auto one = completion(fmt::format("\"{}\"", a));
  REQUIRE(one.prompts.size() == 1);
  CHECK(one.prompts[0].blocks.size() == 100 / 16);
  CHECK(one.prompt_tokens == 25);
  CHECK(one.prompts[0].tokens() == 25);
  const auto two = completion(fmt::format(R"(["{}","{}"])", a, b));
  REQUIRE(two.prompts.size() == 2);
  CHECK(keys(two.prompts[0]) == keys(one.prompts[0]));
  CHECK(two.prompts[1].blocks.size() == 3);
  CHECK(two.prompt_bytes == 150);
  CHECK(completion("[]").prompts.empty());
}

TEST_CASE("token ids are counted exactly") {
  const auto f = completion(ids(10));
  REQUIRE(f.prompts.size() == 1);
  CHECK(f.exact_tokens);
  CHECK(f.prompt_tokens == 10);
  CHECK(f.prompt_bytes == 0);
  REQUIRE(f.prompts[0].blocks.size() == 2);
  CHECK(f.prompts[0].blocks[0].tokens == 4);
  CHECK(f.prompts[0].blocks[1].tokens == 4);
  CHECK(f.prompts[0].tail_tokens == 2);
  CHECK(completion(ids(512), 1024).prompts[0].blocks[1].tokens == 256);

  const auto batch = completion(fmt::format("[{},{}]", ids(10), ids(5)));
  REQUIRE(batch.prompts.size() == 2);
  CHECK(batch.prompt_tokens == 15);
  CHECK(batch.exact_tokens);
  CHECK(keys(batch.prompts[0]) == keys(f.prompts[0]));

  CHECK(keys(completion("[1, 2, 3, 4]").prompts[0]) == keys(completion("[1,2,3,4]").prompts[0]));
  CHECK(keys(completion("[1,2,3,4]").prompts[0]) != keys(completion("[1,2,3,5]").prompts[0]));
  CHECK(keys(completion("[1,2,3,99999999999]").prompts[0]) !=
        keys(completion("[1,2,3,99999999998]").prompts[0]));
  // "abcd" has the bytes of one id, and must not have its chain.
  CHECK(keys(completion("[1684234849,1684234849,1684234849,1684234849]").prompts[0]) !=
        keys(completion("\"abcdabcdabcdabcd\"").prompts[0]));
}

TEST_CASE("mixed and odd prompts make one chain") {
  CHECK(completion(R"([12,"a long enough text",34])").prompts.size() == 1);
  CHECK(completion(R"({"prompt_string":"a long enough text"})").prompts[0].blocks.size() > 1);
  CHECK_FALSE(completion(R"([12,"text"])").exact_tokens);
}

TEST_CASE("a batch beyond the limit of chains is still counted") {
  std::string many = "[";
  for (std::size_t i = 0; i < max_chains + 500; ++i) many += "\"abcdefgh\",";
  many.back() = ']';
  const auto f = completion(many);
  CHECK(f.prompts.size() == max_chains);
  CHECK(f.prompt_tokens == (max_chains + 500) * 2);
}

TEST_CASE("tokens of the blocks add up to the estimate") {
  token_estimator learned;
  request_facts past;
  past.model = "m";
  past.prompt_bytes = 350000;
  for (int i = 0; i < 200; ++i) learned.learn(past, 100000);
  std::string text;
  for (int i = 0; i < 300; ++i) text += "line of code;\\n\\tnext \\u00e9 ";
  const auto f =
      read_body(
          api_kind::chat,
          fmt::format(R"({{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"{}")"
                      R"(}},{{"type":"image_url","image_url":{{"url":"http://x/y"}}}},{{"type":"text","te)"
                      R"(xt":"{}"}}]}}]}})",
                      text, text),
          64, learned)
          .facts;
  REQUIRE(f.prompts.size() == 1);
  const auto sum = static_cast<double>(f.prompts[0].tokens());
  CHECK(sum == doctest::Approx(static_cast<double>(f.prompt_tokens)).epsilon(0.001));
  // Escapes count for what they say: two bytes for \n are one, six for \u00e9 two.
  CHECK(f.prompt_bytes == doctest::Approx(600 * 23).epsilon(0.01));
  // The picture's tokens are in one block, after all of its own bytes.
  std::size_t heavy = 0;
  for (const prefix_block& b : f.prompts[0].blocks) heavy += b.tokens >= 1000;
  CHECK(heavy == 1);
}

TEST_CASE("base64 is never counted as text") {
  const std::string data(400000, 'A');
  const auto f =
      read_body(
          api_kind::chat,
          fmt::format(R"({{"model":"m","messages":[{{"role":"user","content":[{{"type":"image_url","image)"
                      R"(_url":{{"url":"data:image/png;base64,{}"}}}},{{"type":"input_audio","input_audio)"
                      R"(":{{"data":"{}"}}}},{{"type":"file","file":{{"file_data":"data:application/pdf;b)"
                      R"(ase64,{}"}}}}]}}]}})",
                      data, data, data))
          .facts;
  CHECK(f.image_parts == 2);
  CHECK(f.audio_parts == 1);
  CHECK(f.prompt_bytes < 100);
  CHECK(f.prompt_tokens < 2600);
}

TEST_CASE("files of responses: a URL, a data: URL, bare base64") {
  const auto file = [](std::string_view members) {
    return read_body(
        api_kind::responses,
        fmt::format(R"({{"model":"m","input":[{{"role":"user","content":[{{"type":"input_file",{}}}]}}]}})",
                    members));
  };
  const std::string data(10000, 'A');
  for (const std::string& members : {std::string(R"("file_url":"https://x/a.pdf?sig=1")"),
                                     R"("file_data":"data:application/pdf;base64,)" + data + "\"",
                                     R"("file_data":")" + data + "\"", std::string(R"("file_id":"f")")}) {
    const auto r = file(members);
    REQUIRE_FALSE(r.error);
    CHECK(r.facts.image_parts == 1);
    CHECK(r.facts.prompt_bytes < 100);
    CHECK(r.facts.prompts[0].blocks.size() < 10);
  }
  CHECK(keys(file(R"("file_url":"https://x/a-long-enough-name.pdf?sig=1")").facts.prompts[0]) ==
        keys(file(R"("file_url":"https://x/a-long-enough-name.pdf?sig=2")").facts.prompts[0]));
}

TEST_CASE("pooling and other calls count their text and have no chains") {
  const std::string text(400, 't');
  const auto of = [&](api_kind api, std::string_view format) {
    const auto r = read_body(api, fmt::format(fmt::runtime(format), text));
    REQUIRE_FALSE(r.error);
    CHECK(r.facts.prompts.empty());
    return r.facts.prompt_tokens;
  };
  CHECK(of(api_kind::embeddings, R"({{"model":"m","input":"{}"}})") == 100);
  CHECK(of(api_kind::embeddings, R"({{"model":"m","input":["{0}","{0}"]}})") == 200);
  CHECK(of(api_kind::tokenize, R"({{"prompt":"{}"}})") == 100);
  CHECK(of(api_kind::tokenize, R"({{"messages":[{{"role":"user","content":"{}"}}]}})") >= 100);
  CHECK(of(api_kind::passthrough, R"({{"input":"{}","other":"zzzzzzzzzzzzzzzz"}})") == 100);
  // A cross-encoder reads the query with every document.
  CHECK(of(api_kind::rerank, R"({{"query":"{0}","documents":["{0}","{0}",{{"text":"{0}"}}]}})") == 600);
  CHECK(of(api_kind::score, R"({{"text_1":"{0}","text_2":["{0}","{0}"]}})") == 400);
  CHECK(of(api_kind::score, R"({{"text_1":["{0}","{0}"],"text_2":["{0}","{0}"]}})") == 400);
  CHECK(of(api_kind::score, R"({{"queries":"{0}","documents":["{0}"]}})") == 200);
  CHECK(tokens(api_kind::detokenize, R"({"tokens":[1,2,3]})") == 3);
  const auto embed = read_body(api_kind::embeddings, R"({"model":"m","input":[[1,2,3],[4]]})").facts;
  CHECK(embed.exact_tokens);
  CHECK(embed.prompt_tokens == 4);
  CHECK(embed.prompts.empty());
  const auto image =
      read_body(api_kind::embeddings, R"({"model":"m","input":["data:image/png;base64,AAAA"]})").facts;
  CHECK(image.image_parts == 1);
}
