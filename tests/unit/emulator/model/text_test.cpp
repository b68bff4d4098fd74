// Tokens, block names and answers.
#include "emulator/model/text.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace penstock::emulator;

namespace {

std::vector<token_id> chat(std::initializer_list<std::pair<const char*, const char*>> messages) {
  prompt_builder b;
  for (const auto& [role, text] : messages) {
    b.begin_message(role);
    b.text(text);
    b.end_message();
  }
  b.begin_message("assistant");
  return b.take();
}

answer_request at_most(std::uint32_t n) {
  answer_request r;
  r.max_tokens = n;
  return r;
}

}  // namespace

TEST_CASE("text becomes a token for each four bytes and back") {
  for (const std::string text : {"", "a", "abcd", "abcde", "日本語のテキスト", "\xc3\xa9\xc3\xa9\xc3\xa9"}) {
    std::vector<token_id> tokens;
    append_tokens(tokens, text);
    CHECK(tokens.size() == (text.size() + 3) / 4);
    CHECK(detokenize(tokens) == text);
  }
}

TEST_CASE("the marks of the chat template have no text") {
  CHECK(detokenize(chat({{"user", "Hello"}})) == "Hello");
  CHECK(chat({{"user", "Hello"}}).size() == 1 + 1 + 2 + 1 + 1);
}

TEST_CASE("a conversation that goes on keeps its leading blocks, the answer's included") {
  const auto first =
      chat({{"system", "You are terse and kind."}, {"user", "Tell me about the sea, please."}});
  const answer a = make_answer(first, at_most(40));
  REQUIRE(a.finish == finish_kind::length);
  const auto second = chat({{"system", "You are terse and kind."},
                            {"user", "Tell me about the sea, please."},
                            {"assistant", a.text.c_str()},
                            {"user", "And the sky?"}});
  std::vector<token_id> whole = first;
  whole.insert(whole.end(), a.tokens.begin(), a.tokens.end());
  REQUIRE(second.size() > whole.size());
  CHECK(std::equal(whole.begin(), whole.end(), second.begin()));
  const auto before = block_names(whole, 16, 0), after = block_names(second, 16, 0);
  REQUIRE(before.size() == whole.size() / 16);
  CHECK(std::equal(before.begin(), before.end(), after.begin()));
}

TEST_CASE("block names depend on everything before and on the seed") {
  auto tokens =
      chat({{"user", "The quick brown fox jumps over the lazy dog, and then some more of the same text."}});
  const auto names = block_names(tokens, 8, 0);
  REQUIRE(names.size() >= 2);
  CHECK(block_names(tokens, 8, 1)[0] != names[0]);
  tokens[1] ^= 1U << 20;
  CHECK(block_names(tokens, 8, 0)[1] != names[1]);
}

TEST_CASE("the same prompt gives the same answer, another prompt another") {
  const auto prompt = chat({{"user", "one"}});
  CHECK(make_answer(prompt, at_most(20)).text == make_answer(prompt, at_most(20)).text);
  CHECK(make_answer(prompt, at_most(20)).text == make_answer(prompt, at_most(30)).text.substr(0, 80));
  CHECK(make_answer(prompt, at_most(20)).text != make_answer(chat({{"user", "two"}}), at_most(20)).text);
  answer_request other = at_most(20);
  other.choice = 1;
  CHECK(make_answer(prompt, other).text != make_answer(prompt, at_most(20)).text);
}

TEST_CASE("an answer that is begun in the prompt goes on") {
  auto prompt = chat({{"user", "tell"}});
  const answer whole = make_answer(prompt, at_most(20));
  prompt.insert(prompt.end(), whole.tokens.begin(), whole.tokens.begin() + 12);
  CHECK(make_answer(prompt, at_most(8)).text == whole.text.substr(48));
}

TEST_CASE("an answer ends by its limit, by itself, or by a stop text") {
  const auto prompt = chat({{"user", "one"}});
  const answer natural = make_answer(prompt, at_most(1000));
  CHECK(natural.finish == finish_kind::stop);
  CHECK(natural.tokens.size() >= 25);
  CHECK(natural.tokens.size() <= 280);
  CHECK(natural.piece(natural.tokens.size() - 1).empty());  // the end-of-sequence token
  CHECK(natural.text.size() == (natural.tokens.size() - 1) * token_bytes);

  answer_request forever = at_most(1000);
  forever.ignore_eos = true;
  CHECK(make_answer(prompt, forever).tokens.size() == 1000);

  answer_request stopped = at_most(1000);
  stopped.stop = {"never there", natural.text.substr(22, 5)};
  const answer s = make_answer(prompt, stopped);
  CHECK(s.finish == finish_kind::stop);
  CHECK(s.stop_sequence == stopped.stop[1]);
  CHECK(s.text == natural.text.substr(0, natural.text.find(stopped.stop[1])));
}
