// Walking JSON where it lies: what is passed over must be JSON for simdjson's DOM too, and the other way
// round.
#include "proxy/handoff/raw_json.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <simdjson.h>

#include <string>

#include "penstock/random.hpp"

using namespace penstock;
using namespace penstock::handoff;

namespace {

bool is_json(bytes_view text) {
  const std::size_t end = value_end(text, 0);
  return end != bytes_view::npos && end == text.size();
}

// The DOM refuses two things that JSON allows: numbers of any size, and surrogates that are no pair.
enum class verdict : std::uint8_t { json, none, not_told };
verdict dom_says(bytes_view text) {
  simdjson::dom::parser parser;
  const auto error = parser.parse(simdjson::padded_string(text)).error();
  if (error == simdjson::SUCCESS) return verdict::json;
  const bool stricter =
      error == simdjson::NUMBER_ERROR || error == simdjson::STRING_ERROR || error == simdjson::UTF8_ERROR;
  return stricter ? verdict::not_told : verdict::none;
}

std::string integers(std::size_t n, std::string_view between, std::uint64_t first) {
  std::string out = "[";
  for (std::size_t i = 0; i < n; ++i) out += fmt::format("{}{}", i == 0 ? "" : between, first + i * i);
  return out + "]";
}

}  // namespace

TEST_CASE("lists of integers end where they end, whatever they are long and wherever they begin") {
  for (std::size_t n = 0; n < 40; ++n) {
    for (const std::string_view between : {",", ", ", " , ", ",\n", ",  "}) {
      for (const std::uint64_t first : {0ULL, 7ULL, 99'999ULL, 12'345'678'901'234'567ULL}) {
        const std::string list = integers(n, between, first);
        for (std::size_t before = 0; before < 65; before += 13) {
          const std::string text = std::string(before, ' ') + list + ",17]]]]]]]]]]]]]]]]]]";
          CHECK(value_end(text, before) == before + list.size());
        }
      }
    }
  }
}

TEST_CASE("a fault anywhere in a long list is found") {
  const std::string good = integers(30, ", ", 20'000);
  REQUIRE(is_json(good));
  for (const std::string_view bad : {",", " ", "x", "\"", "[", "]", "}", "-", "1 2", "\x01", "\xff"}) {
    for (std::size_t at = 1; at + 1 < good.size(); ++at) {
      std::string text = good;
      text.replace(at, 1, bad);
      CAPTURE(text);
      if (const verdict dom = dom_says(text); dom != verdict::not_told)
        CHECK(is_json(text) == (dom == verdict::json));
    }
  }
}

TEST_CASE("no integer of a list begins with a zero") {
  for (std::size_t n = 0; n < 30; ++n) {
    std::string text = integers(30, ",", 2'000);
    std::size_t at = 1;
    for (std::size_t i = 0; i < n; ++i) at = text.find(',', at) + 1;
    text[at] = '0';
    CHECK_FALSE_MESSAGE(is_json(text), text);
    text.erase(at + 1, 3);
    CHECK_MESSAGE(is_json(text), text);
  }
}

TEST_CASE("numbers are those of JSON's grammar") {
  for (const std::string_view good : {"0", "-0", "10", "-1.5", "0.0", "1e9", "1E+09", "0e-0", "12.50e1",
                                      "123456789012345678901234567890123456789"})
    CHECK_MESSAGE(is_json(good), good);
  for (const std::string_view bad :
       {"", "-", "+1", "01", "-01", "1.", ".5", "1.e5", "1e", "1e+", "0x1", "1_0", "NaN", "Infinity", "--1"})
    CHECK_FALSE_MESSAGE(is_json(bad), bad);
}

TEST_CASE("what changes by a byte or some is JSON where the DOM says so") {
  const std::string seeds[] = {
      R"({"a":[1, 20, 300,4000],"b":{"c":null,"d":[true,false,[]],"e":{}},"f":"x\"\\\u00e9\n","g":-1.5e+3})",
      R"({"kv":{"do":true,"ids":[[20000, 20001, 20002, 20003, 20004, 20005, 20006]],"host":"127.0.0.1","port":9322},"z":null})",
      R"({"ids":)" + integers(25, ", ", 20'000) + R"(,"more":[)" + integers(40, ",", 0) + "]}",
      R"([[],{},"",0,[[[{"a":[{}]}]]], {"" : "" } ])",
  };
  constexpr std::string_view alphabet = "[]{},:\"\\0123456789-+.eE truefalsn/u\n\t";
  prng random(5);
  std::size_t good = 0, bad = 0;
  for (int i = 0; i < 60'000; ++i) {
    std::string text = seeds[random.below(std::size(seeds))];
    for (std::uint64_t edits = 1 + random.below(3); edits > 0; --edits) {
      const std::size_t at = random.below(text.size());
      const char c = alphabet[random.below(alphabet.size())];
      switch (random.below(4)) {
        case 0: text[at] = c; break;
        case 1: text.insert(at, 1, c); break;
        case 2: text.erase(at, 1 + random.below(3)); break;
        default: text.resize(at + 1);
      }
    }
    const verdict dom = dom_says(text);
    if (dom == verdict::not_told || text.find_first_of(" \n\t") == 0 ||
        text.find_last_of(" \n\t") + 1 == text.size())
      continue;
    CAPTURE(text);
    REQUIRE(is_json(text) == (dom == verdict::json));
    REQUIRE((each_member(text, [](const raw_member&) {}) == (dom == verdict::json && text[0] == '{')));
    ++(dom == verdict::json ? good : bad);
  }
  CHECK(good > 2'000);
  CHECK(bad > 2'000);
}

TEST_CASE("members are shown as they stand") {
  const std::string_view text = R"( { "a" : [1, 2] ,"b":"x\"}" , "" : {"a":3} } )";
  std::string seen;
  CHECK(each_member(
      text, [&](const raw_member& m) { seen += fmt::format("<{}|{}|{}>", m.name, m.value, m.text); }));
  CHECK(seen == R"(<a|[1, 2]|"a" : [1, 2]><b|"x\"}"|"b":"x\"}"><|{"a":3}|"" : {"a":3}>)");
  CHECK(member_of(text, "a") == "[1, 2]");
  CHECK(member_of(R"({"a":1,"a":2})", "a") == "1");
  CHECK(member_of(text, "c").empty());
  CHECK(member_of("[1]", "a").empty());
  CHECK(first_of(R"([ {"a":1} , 2])") == R"({"a":1})");
  CHECK(first_of("[]").empty());
  CHECK(first_of("{}").empty());
  // Two levels more than are followed, and as many as are.
  const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  CHECK(is_json(nested(64)));
  CHECK_FALSE(is_json(nested(65)));
  CHECK_FALSE(is_json(std::string(100'000, '[')));
}
