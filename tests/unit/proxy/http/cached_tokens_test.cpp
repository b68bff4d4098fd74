#include "proxy/http/cached_tokens.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace penstock;
using namespace penstock::http;

namespace {

std::string corrected(api_kind api, std::string_view text, std::uint64_t cached) {
  std::string out = "untouched";
  return correct_cached(api, text, cached, out) ? out : out == "untouched" ? "" : "half done";
}

}  // namespace

TEST_CASE("the count of cached tokens changes, and nothing else") {
  CHECK(corrected(
            api_kind::chat,
            R"({"prompt_tokens":23,"prompt_tokens_details":{"cached_tokens":0,"created_cache_tokens":0}})",
            704) ==
        R"({"prompt_tokens":23,"prompt_tokens_details":{"cached_tokens":704,"created_cache_tokens":0}})");
  CHECK(corrected(api_kind::responses, "{\"input_tokens_details\" : { \"cached_tokens\" :\n 1234 }}", 7) ==
        "{\"input_tokens_details\" : { \"cached_tokens\" :\n 7 }}");
  CHECK(corrected(api_kind::completions, R"({"cached_tokens":0})", ~std::uint64_t{0}) ==
        R"({"cached_tokens":18446744073709551615})");
  // What was generated may quote it, with escapes.
  CHECK(corrected(api_kind::chat, R"({"usage":{"cached_tokens":1},"x":"\"cached_tokens\":5"})", 2) ==
        R"({"usage":{"cached_tokens":2},"x":"\"cached_tokens\":5"})");
}

TEST_CASE("Anthropic's two parts keep their sum") {
  constexpr std::string_view told =
      R"({"input_tokens":100,"output_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":0})";
  CHECK(
      corrected(api_kind::messages, told, 96) ==
      R"({"input_tokens":4,"output_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":96})");
  CHECK(corrected(api_kind::messages, R"({"cache_read_input_tokens":90, "input_tokens" : 10})", 32) ==
        R"({"cache_read_input_tokens":32, "input_tokens" : 68})");
  CHECK(corrected(api_kind::messages, told, 100).find("\"input_tokens\":0,") != std::string::npos);
  CHECK(corrected(api_kind::messages, told, 101).empty());
  // The opening event has no such count: nothing is made up.
  CHECK(corrected(api_kind::messages, R"({"input_tokens":100,"output_tokens":0})", 96).empty());
}

TEST_CASE("what is no count stays") {
  for (const std::string_view text :
       {"", "{}", R"({"cached_tokens":null})", R"({"cached_tokens":"5"})", R"({"cached_tokens":5.0})",
        R"({"cached_tokens":1e3})", R"({"cached_tokens":-1})", R"({"cached_tokens")", R"({"cached_tokens":)",
        R"({"cached_tokens":5)", R"({"cached_tokens":99999999999999999999})",
        R"({"x":"\"cached_tokens\":5"})"})
    CHECK(corrected(api_kind::chat, text, 7).empty());
}
