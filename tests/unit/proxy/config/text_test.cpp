#include "proxy/config/text.hpp"

#include <doctest/doctest.h>

#include <array>

using namespace penstock::conf;

TEST_CASE("quoting makes any bytes fit for a terminal") {
  CHECK(in_quotes("abc") == "\"abc\"");
  CHECK(in_quotes("a\"b\\c") == R"("a\"b\\c")");
  CHECK(in_quotes("a\nb\rc\x1b[0m") == R"("a\nb\rc\x1b[0m")");
  CHECK(in_quotes(std::string_view("\0", 1)) == R"("\x00")");
  CHECK(in_quotes("\x7f") == R"("\x7f")");
  CHECK(in_quotes("é") == "\"é\"");
  CHECK(in_quotes(std::string(80, 'x')) == "\"" + std::string(80, 'x') + "\"");
  CHECK(in_quotes(std::string(81, 'x')) == "\"" + std::string(80, 'x') + "...\"");
  // The cut never splits a character.
  CHECK(in_quotes(std::string(79, 'x') + "éé") == "\"" + std::string(79, 'x') + "...\"");
}

TEST_CASE("edit distance counts inserts, deletes, replacements and swaps") {
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("listen", "listen") == 0);
  CHECK(edit_distance("listn", "listen") == 1);
  CHECK(edit_distance("lisetn", "listen") == 1);
  CHECK(edit_distance("frist_token", "first_token") == 1);
  CHECK(edit_distance("First-Token", "first_token") == 0);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance(std::string(64, 'a'), std::string(64, 'b')) == 64);
  CHECK(edit_distance(std::string(65, 'a'), "a") > 1'000'000);
}

TEST_CASE("the nearest word is one that was probably meant") {
  constexpr std::array<std::string_view, 4> words{"connect", "total", "drain", "url"};
  CHECK(nearest("conect", words) == "connect");
  CHECK(nearest("totals", words) == "total");
  CHECK(nearest("uri", words) == "url");
  CHECK(nearest("connect_timeout", words) == "connect");
  CHECK(nearest("tot", words) == "total");
  CHECK_FALSE(nearest("to", words));
  CHECK_FALSE(nearest("xyz", words));
  CHECK_FALSE(nearest("something_else", words));
  CHECK_FALSE(nearest(std::string(1000, 'a'), words));
}

TEST_CASE("visible ASCII") {
  CHECK(visible_ascii("/health?x=1"));
  CHECK_FALSE(visible_ascii(""));
  CHECK_FALSE(visible_ascii("a b"));
  CHECK_FALSE(visible_ascii("a\x7f"));
  CHECK_FALSE(visible_ascii("é"));
}

TEST_CASE("UTF-8") {
  for (const std::string_view good :
       {"", "abc", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    CHECK(valid_utf8(good));
  for (const std::string_view bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2",
                                     "\xc2"
                                     "a",
                                     "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe1\x80", "\xf0\x8f\xbf\xbf",
                                     "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xff"})
    CHECK_FALSE(valid_utf8(bad));
}
