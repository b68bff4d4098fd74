// Bodies made to hurt: each is read or refused in time and memory proportional to its size. That it ends is
// what is tested; the sanitizer builds watch the memory.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "unit/tokenizer/reading.hpp"

using namespace penstock;
using namespace penstock::tokenizer;

namespace {

std::string repeated(std::string_view piece, std::size_t times) {
  std::string text;
  text.reserve(piece.size() * times);
  for (std::size_t i = 0; i < times; ++i) text += piece;
  if (!text.empty() && text.back() == ',') text.pop_back();
  return text;
}

reading chat(std::string_view messages, std::string_view more = "") {
  return read_body(api_kind::chat, fmt::format(R"({{"model":"m","messages":{}{}}})", messages, more), 1024);
}

}  // namespace

TEST_CASE("a million tiny messages") {
  const auto r = chat("[" + repeated(R"({"role":"user"},)", 1000000) + "]");
  REQUIRE_FALSE(r.error);
  REQUIRE(r.facts.prompts.size() == 1);
  CHECK(r.facts.prompts[0].blocks.size() == 5000000 / 1024);
}

TEST_CASE("one string of 32 MiB") {
  const auto r = chat(R"([{"role":"user","content":")" + std::string(32 << 20, 'x') + "\"}]");
  REQUIRE_FALSE(r.error);
  CHECK(r.facts.prompts[0].blocks.size() == (32 << 20) / 1024);
  CHECK_FALSE(chat(R"([{"role":"user","content":")" + repeated("\\n", 4 << 20) + "\"}]").error);
  CHECK_FALSE(chat(R"([{"role":"user","content":")" + repeated("\\ud83d\\ude00", 1 << 20) + "\"}]").error);
}

TEST_CASE("a hundred thousand tools, marks inside of each") {
  const auto r =
      chat("[]", R"(,"tools":[)" + repeated(R"({ "a" : 1 , "cache_control" : {} },)", 100000) + "]");
  REQUIRE_FALSE(r.error);
  CHECK(r.facts.prompts[0].blocks.size() == 800000 / 1024);
}

TEST_CASE("too many members are refused") {
  std::string members;
  for (int i = 0; i < 5000; ++i) members += fmt::format(R"(,"k{}":0)", i);
  const auto r = chat("[]", members);
  REQUIRE(r.error);
  CHECK(r.error->why == reason::invalid_json);
}

TEST_CASE("a number of a million digits, a key of a megabyte") {
  CHECK_FALSE(chat("[]", ",\"max_tokens\":1" + std::string(1000000, '0')).error);
  CHECK_FALSE(chat("[]", ",\"" + repeated("\\u0061", 200000) + "\":1").error);
}

TEST_CASE("content inside content, as deep as JSON may be, with much at the bottom") {
  std::string open, close;
  for (int i = 0; i < 29; ++i) {
    open += R"({"type":"tool_result","content":[)";
    close = "]}" + close;
  }
  const std::string bottom = repeated(R"({"type":"text","text":"x"},)", 100000);
  const auto r = chat(R"([{"role":"user","content":[)" + open + bottom + close + "]}]");
  REQUIRE_FALSE(r.error);
  CHECK(r.facts.prompts[0].blocks.size() > 100);
}

TEST_CASE("a body of brackets") {
  CHECK(chat(std::string(10000000, '[')).error);
  CHECK(chat("[" + repeated("[],", 3000000) + "]").facts.prompts.size() == 1);
}

TEST_CASE("a form of delimiters that are almost one") {
  extractor reader(extract_options{});
  request_facts facts;
  const std::string boundary(70, 'b');
  const std::string body = repeated("\r\n--" + std::string(69, 'b') + "x", 200000);
  CHECK(reader.read_multipart("multipart/form-data; boundary=" + boundary, body, facts));
}
