// What Mooncake's bootstrap servers answer, and what they might.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "health/bootstrap_text.hpp"

using namespace penstock::health;
using ids = std::vector<std::string>;

TEST_CASE("the ranks of an engine are found by their number") {
  CHECK(
      read_bootstrap(
          R"({"0":{"engine_id":"e_dp0","worker_addr":{"0":{"0":"tcp://10.0.0.5:4711"}}},"1":{"engine_id":"e_dp1"}})") ==
      ids{"e_dp0", "e_dp1"});
  CHECK(read_bootstrap(R"({"2":{"engine_id":"x"},"0":{"engine_id":"y"}})") == ids{"y", "", "x"});
}

TEST_CASE("what is no list of ranks is none") {
  for (const std::string_view text :
       {"", "[]", "{}", R"({"0":1})", R"({"0":{}})", R"({"a":{"engine_id":"x"}})",
        R"({"0":{"engine_id":""}})", R"({"-1":{"engine_id":"x"}})", R"({"4096":{"engine_id":"x"}})",
        R"({"0":{"engine_id":"a\"b"}})", R"({"0":{"engine_id":"a\\b"}})", R"({"0":{"engine_id":"a\nb"}})",
        R"({"0":{"engine_id":"x"})"}) {
    CAPTURE(text);
    CHECK_FALSE(read_bootstrap(text));
  }
  CHECK_FALSE(read_bootstrap(fmt::format(R"({{"0":{{"engine_id":"{}"}}}})", std::string(257, 'x'))));
  CHECK_FALSE(read_bootstrap(std::string(max_bootstrap_text_bytes + 1, ' ')));
}
