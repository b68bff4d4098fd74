#include "tokenizer/json_doc.hpp"

#include <doctest/doctest.h>
#include <simdjson.h>

#include <array>
#include <limits>
#include <string>

#include "tokenizer/json_text.hpp"
#include "unit/tokenizer/reading.hpp"
#include "unit/tokenizer/sdk_bodies.hpp"

using namespace penstock;
using namespace penstock::tokenizer;

namespace {

// Offset of the error, or -1 when the text is read.
long fault(std::string_view text) {
  std::string padded(text);
  padded.append(body_padding, '"');
  json_doc doc;
  const auto error = doc.open(std::string_view(padded).substr(0, text.size()));
  return error ? static_cast<long>(error->offset) : -1;
}

}  // namespace

TEST_CASE("what is JSON is read") {
  for (const std::string_view text :
       {"{}", " \t\r\n{ } \n", R"({"a":1})", R"({"a":[],"b":{},"c":[[],[{}]]})", R"({"":""})",
        R"({"a":-0,"b":0.5,"c":1e5,"d":1E+5,"e":-1.25e-10,"f":123456789012345678901234567890})",
        R"({"a":true,"b":false,"c":null})", R"({"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud800"})",
        R"({"a":{"x":1,"x":2}})", "{\"a\":\"\xC3\xA9\xF0\x9F\x9A\x87\x7F\"}",
        R"({"a" :"b" , "c":[ 1 ,2 ] })"}) {
    CAPTURE(text);
    CHECK(fault(text) == -1);
  }
}

TEST_CASE("what is not JSON is refused where it goes wrong") {
  const struct {
    std::string_view text;
    long offset;
  } cases[] = {
      {"", 0},
      {"  ", 0},
      {"[]", 0},
      {"1", 0},
      {"\"a\"", 0},
      {"null", 0},
      {"\xEF\xBB\xBF{}", 0},
      {"{", 1},
      {"{\"a\"", 4},
      {"{\"a\":", 5},
      {"{\"a\":1", 6},
      {"{\"a\":1,", 7},
      {"{\"a\":[1", 7},
      {"{\"a\":1,}", 7},
      {"{,}", 1},
      {"{\"a\" 1}", 5},
      {"{\"a\"::1}", 5},
      {"{\"a\":1 \"b\":2}", 7},
      {"{\"a\":[1,]}", 8},
      {"{\"a\":[,]}", 6},
      {"{\"a\":[1 2]}", 8},
      {"{\"a\":[}", 6},
      {"{\"a\":{]", 6},
      {"{\"a\":[1}", 7},
      {"{\"a\":{\"b\":1]", 11},
      {"{1:2}", 1},
      {"{a:1}", 1},
      {"{'a':1}", 1},
      {"{} {}", 3},
      {"{}x", 2},
      {"{}]", 2},
      {"{}\"\"", 2},
      {"{\"a\":01}", 5},
      {"{\"a\":+1}", 5},
      {"{\"a\":1.}", 5},
      {"{\"a\":.5}", 5},
      {"{\"a\":1e}", 5},
      {"{\"a\":-}", 5},
      {"{\"a\":1x}", 5},
      {"{\"a\":0x1}", 5},
      {"{\"a\":--1}", 5},
      {"{\"a\":1e+}", 5},
      {"{\"a\":tru}", 5},
      {"{\"a\":True}", 5},
      {"{\"a\":nulll}", 5},
      {"{\"a\":truefalse}", 5},
      {"{\"a\":NaN}", 5},
      {"{\"a\":Infinity}", 5},
      {"{\"a\":nul}", 5},
      {"{\"a\":\"b\"c}", 8},
      {"{\"a\":\"b\"\"c\"}", 8},
      {"{\"a\":true\"b\"}", 5},
      {"{\"a\":1\"b\"}", 5},
      {"{\"a\":\"\\x\"}", 6},
      {"{\"a\":\"b\\u12g4\"}", 7},
      {"{\"a\":\"\\u123\"}", 6},
      {"{\"a\":\"\\U0041\"}", 6},
      {"{\"a\\q\":1}", 3},
      {"{\"a\":\"b\nc\"}", 7},
      {"{\"a\":\"b\tc\"}", 7},
      {"{\"a\":\"bc}", 5},
      {"{\"a\":\"b\xFF\"}", 7},
      {"{\"a\":\"b\xC0\x80\"}", 7},
      {"{\"a\":\"\xED\xA0\x80\"}", 6},
      {"{\"a\":\"\xF4\x90\x80\x80\"}", 6},
      {"{\"a\":\"\xE2\x82\"}", 6},
      {"{\x0C\"a\":1}", 1},
      {"{\"a\"\x1A 1}", 4},
      {"{\\\"a\":1}", 4},
      {"{\"a\":/**/1}", 5},
  };
  for (const auto& c : cases) {
    CAPTURE(c.text);
    CHECK(fault(c.text) == c.offset);
  }
}

TEST_CASE("64 levels are read and the 65th is refused at its bracket") {
  const auto nested = [](std::size_t depth) {
    std::string text = "{\"a\":";
    text.append(depth - 1, '[').append(depth - 1, ']').append("}");
    return text;
  };
  CHECK(fault(nested(64)) == -1);
  CHECK(fault(nested(65)) == 5 + 63);
  CHECK(fault(nested(100000)) == 5 + 63);
}

// Every one-byte change of a body is accepted or refused as simdjson's own DOM does.
TEST_CASE("the grammar agrees with simdjson's") {
  simdjson::dom::parser parser;
  const auto valid = [&parser](const std::string& text) {
    simdjson::dom::object object;
    return parser.parse(text.data(), text.size(), true).get(object) == simdjson::SUCCESS;
  };
  std::size_t read = 0, refused = 0;
  const auto compare = [&](const std::string& text) {
    const bool ours = fault(text) == -1;
    ++(ours ? read : refused);
    if (ours != valid(text)) {
      CAPTURE(text);
      CHECK(ours == valid(text));
    }
  };
  const std::string_view bodies[] = {R"({"a":[1,-2.5e3,true,null,{"b":"x\n\"y"}],"c":false , "d":{}})",
                                     sdk::chat_turn_1};
  for (const std::string_view body : bodies) {
    for (std::size_t i = 0; i < body.size(); ++i) {
      for (const char c : std::string_view("\"\\{}[]:,0-.eEtn \n\x01\x80\xC3/u", 22)) {
        std::string changed(body);
        changed[i] = c;
        compare(changed);
        changed = std::string(body).insert(i, 1, c);
        compare(changed);
      }
      compare(std::string(body).erase(i, 1));
      compare(std::string(body.substr(0, i)));
    }
  }
  CHECK(read > 1000);
  CHECK(refused > 1000);
}

TEST_CASE("escapes say what they say") {
  const auto said = [](std::string_view raw) {
    std::string out;
    unescape(raw, out);
    return out;
  };
  CHECK(said("plain") == "plain");
  CHECK(said(R"(\"\\\/\b\f\n\r\t)") == "\"\\/\b\f\n\r\t");
  CHECK(said(R"(\u0041\u00e9\u20AC)") == "A\xC3\xA9\xE2\x82\xAC");
  CHECK(said(R"(\ud83d\ude00)") == "\xF0\x9F\x98\x80");
  CHECK(said(R"(\ud83dx)") == "\xEF\xBF\xBDx");
  CHECK(said(R"(\ud83d\u0041)") ==
        "\xEF\xBF\xBD"
        "A");
  CHECK(said(R"(\ude00)") == "\xEF\xBF\xBD");
}

TEST_CASE("escape overhead is what the escapes are longer than UTF-8") {
  for (const std::string_view raw :
       {R"(a\nb)", R"(\u0041)", R"(\u00e9\u20ac)", R"(\ud83d\ude00!)", "plain"}) {
    std::string padded = std::string(raw) + std::string(64, ' ');
    std::uint64_t overhead = 0;
    CHECK(check_escapes(padded.data(), padded.data() + raw.size(), overhead) == nullptr);
    std::string out;
    unescape(raw, out);
    CHECK(overhead == raw.size() - out.size());
  }
}

TEST_CASE("integers in any notation") {
  CHECK(integer_of("0") == 0);
  CHECK(integer_of("-12") == -12);
  CHECK(integer_of("100.0") == 100);
  CHECK(integer_of("1e2") == 100);
  CHECK(integer_of("99999999999999999999") == std::numeric_limits<std::int64_t>::max());
  CHECK(integer_of("-99999999999999999999") == std::numeric_limits<std::int64_t>::min());
  CHECK(integer_of("1e30") == std::numeric_limits<std::int64_t>::max());
  for (const std::string_view no : {"1.5", "\"1\"", "true", "null", "[", "{"}) CHECK_FALSE(integer_of(no));
}

TEST_CASE("a reader reads again after a large body") {
  json_doc doc;
  std::string large = "{\"a\":\"" + std::string(3 << 20, 'x') + "\"}" + std::string(body_padding, ' ');
  CHECK_FALSE(doc.open(std::string_view(large).substr(0, large.size() - body_padding)));
  doc.trim();
  std::string small = R"({"b":[1,2,{"c":null}]})" + std::string(body_padding, ' ');
  REQUIRE_FALSE(doc.open(std::string_view(small).substr(0, small.size() - body_padding)));
  const auto [b] = doc.pick(json_doc::root, std::array<std::string_view, 1>{"b"});
  CHECK(at(small, doc.range(b)) == R"([1,2,{"c":null}])");
}
