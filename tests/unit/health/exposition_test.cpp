#include "health/exposition.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

using namespace penstock::health;

TEST_CASE("samples one by one: names, labels with their escapes, values") {
  exposition_reader lines("# HELP a b\n\na{x=\"1\",y=\"\\\\n\"} 2.5\r\n{\"b.c\",z=\"q\"} -Inf\nlast NaN");
  CHECK(lines.next_name() == "a");
  const auto* s = lines.read();
  REQUIRE(s);
  CHECK(s->name == "a");
  CHECK(s->value == 2.5);
  REQUIRE(s->labels.size() == 2);
  CHECK(s->find("x") == "1");
  CHECK(s->find("y") == "\\n");
  CHECK_FALSE(s->find("z"));
  CHECK(s->has("x", "1"));
  CHECK_FALSE(s->has("x", "2"));
  CHECK_FALSE(s->has("z", ""));
  CHECK(lines.next_name() == "b.c");
  s = lines.read();
  REQUIRE(s);
  CHECK(s->name == "b.c");
  CHECK(s->has("z", "q"));
  CHECK(std::isinf(s->value));
  CHECK(lines.next_name() == "last");
  s = lines.read();
  REQUIRE(s);
  CHECK(s->labels.empty());
  CHECK(std::isnan(s->value));
  CHECK(lines.next_name().empty());
  CHECK(lines.next_name().empty());
}

TEST_CASE("lines that nobody reads are passed over") {
  exposition_reader lines("a{broken\nb 1\n");
  CHECK(lines.next_name() == "a");
  CHECK(lines.next_name() == "b");
  REQUIRE(lines.read());
  CHECK(lines.read()->value == 1);
}

TEST_CASE("of very many labels the first are kept") {
  std::string text = "a{";
  for (int i = 0; i < 5000; ++i) text += "l" + std::to_string(i) + "=\"v\",";
  text += "} 3";
  exposition_reader lines(text);
  CHECK(lines.next_name() == "a");
  const auto* s = lines.read();
  REQUIRE(s);
  CHECK(s->value == 3);
  CHECK(s->labels.size() == max_labels);
}

TEST_CASE("unescape") {
  CHECK(unescape("plain") == "plain");
  CHECK(unescape("a\\\\b\\\"c\\nd") == "a\\b\"c\nd");
  CHECK(unescape("\\x\\") == "\\x\\");
  CHECK(unescape("") == "");
}
