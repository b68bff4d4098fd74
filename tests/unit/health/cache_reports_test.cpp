#include "health/cache_reports.hpp"

#include <doctest/doctest.h>

#include "health/server_info_text.hpp"

using namespace penstock;
using namespace penstock::health;

namespace {
constexpr endpoint_id a{0, 0}, b{3, 0}, newer_a{0, 1};
constexpr double unknown = -1;
}  // namespace

TEST_CASE("cache reports: the first answer that should tell and does not is news, once") {
  cache_reports r;
  CHECK(r.answered(a, false, 4096) == cache_news::silent);
  CHECK(r.answered(a, false, 8192) == cache_news::none);
  CHECK(r.answered(b, false, unknown) == cache_news::silent);
  CHECK_FALSE(r.waiting());
}

TEST_CASE("cache reports: while the engine itself has counted no hit nothing is said") {
  cache_reports r;
  CHECK(r.answered(a, false, 0) == cache_news::none);
  CHECK(r.answered(a, false, 0) == cache_news::none);
  CHECK(r.waiting());
  CHECK(r.scraped(a, 0) == cache_news::none);
  CHECK(r.scraped(b, 512) == cache_news::none);
  CHECK(r.scraped(a, 512) == cache_news::silent);
  CHECK(r.scraped(a, 1024) == cache_news::none);
  CHECK_FALSE(r.waiting());
}

TEST_CASE("cache reports: who told once is not suspected, and who was suspected wrongly is cleared") {
  cache_reports r;
  CHECK(r.answered(a, true, 0) == cache_news::none);
  CHECK(r.answered(a, false, 4096) == cache_news::none);
  CHECK(r.answered(a, false, 0) == cache_news::none);
  CHECK_FALSE(r.waiting());
  CHECK(r.answered(b, false, 0) == cache_news::none);
  CHECK(r.answered(b, true, 0) == cache_news::none);
  CHECK_FALSE(r.waiting());
  cache_reports late;
  CHECK(late.answered(a, false, 4096) == cache_news::silent);
  CHECK(late.answered(a, true, 4096) == cache_news::tells_after_all);
  CHECK(late.answered(a, true, 4096) == cache_news::none);
}

TEST_CASE("cache reports: what an engine says of itself is news at once, and no news twice") {
  cache_reports r;
  CHECK(r.declared(a, true) == cache_news::none);
  CHECK(r.declared(a, false) == cache_news::silent);
  CHECK(r.declared(a, false) == cache_news::none);
  CHECK(r.answered(a, false, 4096) == cache_news::none);
}

TEST_CASE("cache reports: another process, and another owner of the slot, start anew") {
  cache_reports r;
  CHECK(r.answered(a, false, 4096) == cache_news::silent);
  r.restarted(a);
  CHECK(r.answered(a, false, 0) == cache_news::none);
  CHECK(r.waiting());
  r.restarted(a);
  CHECK_FALSE(r.waiting());
  CHECK(r.answered(a, false, 64) == cache_news::silent);
  CHECK(r.answered(newer_a, false, 0) == cache_news::none);
  CHECK(r.answered({0, 2}, true, 0) == cache_news::none);
  CHECK_FALSE(r.waiting());
}

TEST_CASE("server info: SGLang's switch, and nothing where it is not told") {
  // As GET /get_server_info has it: all arguments of the server side by side, and more.
  CHECK(read_cache_report(
            R"({"model_path":"qwen","tp_size":1,"enable_cache_report":false,"internal_states":[{}]})") ==
        false);
  CHECK(read_cache_report(R"({"enable_cache_report":true,"version":"0.5.9"})") == true);
  for (const char* text :
       {"", "{}", "[]", "null", "{\"enable_cache_report\":null}", "{\"enable_cache_report\":1}",
        "{\"enable_cache_report\":true", "{\"server_args\":{\"enable_cache_report\":true}}"})
    CHECK_MESSAGE(read_cache_report(text) == std::nullopt, text);
  CHECK(read_cache_report(std::string(max_server_info_bytes + 1, ' ')) == std::nullopt);
}
