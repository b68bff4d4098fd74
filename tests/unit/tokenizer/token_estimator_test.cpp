#include "tokenizer/token_estimator.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace penstock;
using namespace penstock::tokenizer;

namespace {

request_facts text(std::uint64_t bytes, std::string model = "m") {
  request_facts f;
  f.model = std::move(model);
  f.prompt_bytes = bytes;
  return f;
}

}  // namespace

TEST_CASE("four bytes a token until something was learned") {
  const token_estimator e;
  CHECK(e.bytes_per_token("m") == 4.0);
  CHECK(e.estimate("m", 4000, 0, 0, 0) == 1000);
  CHECK(e.estimate("m", 1, 0, 0, 0) == 1);
  CHECK(e.estimate("m", 0, 0, 0, 0) == 0);
  CHECK(e.estimate("m", 0, 1, 1, 1) > 3);
}

TEST_CASE("a model's ratio is learned within ten requests and held") {
  for (const double truth : {1.2, 2.5, 3.7, 5.5}) {
    token_estimator e;
    for (int i = 0; i < 10; ++i) e.learn(text(static_cast<std::uint64_t>(8000 * truth)), 8000);
    CHECK(e.bytes_per_token("m") == doctest::Approx(truth).epsilon(0.05));
    for (int i = 0; i < 500; ++i) e.learn(text(static_cast<std::uint64_t>(8000 * truth)), 8000);
    CHECK(e.bytes_per_token("m") == doctest::Approx(truth).epsilon(0.01));
    CHECK(e.bytes_per_token("other") == 4.0);
  }
}

TEST_CASE("wrong counts among good ones do little") {
  token_estimator e;
  for (int i = 0; i < 500; ++i) {
    e.learn(text(40000), 10000);
    if (i % 10 == 0) e.learn(text(40000), 1000);
    if (i % 10 == 5) e.learn(text(4000), 10000);
  }
  CHECK(e.bytes_per_token("m") == doctest::Approx(4.0).epsilon(0.1));
}

TEST_CASE("absurd counts are ignored") {
  token_estimator e;
  e.learn(text(4000), 0);
  e.learn(text(1000), 1000000);
  e.learn(text(1000000), 1);
  e.learn(text(0), 5);
  CHECK(e.bytes_per_token("m") == 4.0);
}

TEST_CASE("requests that say nothing about text teach nothing") {
  token_estimator e;
  request_facts f = text(8000);
  f.exact_tokens = true;
  e.learn(f, 8000);
  f = text(8000);
  f.api = api_kind::rerank;
  e.learn(f, 8000);
  f = text(8000);
  f.previous_response_id = "r";
  e.learn(f, 8000);
  CHECK(e.bytes_per_token("m") == 4.0);
}

TEST_CASE("short prompts weigh little: a template's tokens are not in the body") {
  token_estimator e;
  for (int i = 0; i < 3; ++i) e.learn(text(20), 40);
  CHECK(e.bytes_per_token("m") > 3.0);
}

TEST_CASE("tokens of a picture are what text does not explain") {
  token_estimator e;
  request_facts f = text(400);
  f.image_parts = 2;
  for (int i = 0; i < 300; ++i) e.learn(f, 100 + 2 * 260);
  CHECK(e.estimate("m", 0, 1, 0, 0) == doctest::Approx(260).epsilon(0.05));
  CHECK(e.estimate("m", 0, 0, 1, 0) == 500);
  CHECK(e.bytes_per_token("m") == 4.0);
  for (int i = 0; i < 1000; ++i) e.learn(f, 1);
  CHECK(e.estimate("m", 0, 1, 0, 0) >= 1);
}

TEST_CASE("at most 256 models have figures of their own") {
  token_estimator e;
  for (int i = 0; i < 256; ++i) e.learn(text(20000, "m" + std::to_string(i)), 10000);
  CHECK(e.bytes_per_token("m255") < 4.0);
  CHECK(e.bytes_per_token("new") == 4.0);
  for (int i = 0; i < 20; ++i) e.learn(text(30000, "new"), 10000);
  CHECK(e.bytes_per_token("new") == doctest::Approx(3.0).epsilon(0.05));
  CHECK(e.bytes_per_token("another") == e.bytes_per_token("new"));
  CHECK(e.bytes_per_token("m3") < 3.0);
}
