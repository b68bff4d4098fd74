// Traces: good rows, bad rows, and which requests belong together.
#include "readers.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>

using namespace penstock;
using namespace penstock::lab;

namespace {

std::string error_of(const std::variant<workload, read_error>& v) {
  const auto* e = std::get_if<read_error>(&v);
  return e != nullptr ? e->message : "";
}

std::string row(int ms, int input, int output, const std::string& ids) {
  return fmt::format(R"({{"timestamp": {}, "input_length": {}, "output_length": {}, "hash_ids": [{}]}})", ms,
                     input, output, ids) +
         "\n";
}

}  // namespace

TEST_CASE("a Mooncake row becomes a prompt in blocks of 512 tokens") {
  const auto v = read_mooncake(row(0, 1100, 7, "0, 1, 2") + "\n" + row(3000, 512, 0, "0"), "t");
  REQUIRE(error_of(v) == "");
  const auto& w = std::get<workload>(v);
  REQUIRE(w.requests.size() == 2);
  CHECK(w.stamp == std::chrono::seconds(3));
  const request& r = w.requests[0];
  REQUIRE(r.segments.size() == 3);
  CHECK(r.segments[1].tokens == 512);
  CHECK(r.segments[2].tokens == 76);
  CHECK(r.input_tokens() == 1100);
  CHECK(r.output_tokens == 7);
  CHECK(w.requests[1].at == std::chrono::seconds(3));
  CHECK(w.requests[1].output_tokens == 1);  // an engine always gives one token
  CHECK(w.requests[1].segments[0].id == r.segments[0].id);
}

TEST_CASE("requests of a Mooncake trace belong to the session of their first uncommon block") {
  std::string text;
  for (int i = 0; i < 100; ++i) text += row(i, 1536, 1, fmt::format("0, {}, {}", 1 + i / 2, 1000 + i));
  const auto v = read_mooncake(text, "t");
  REQUIRE(error_of(v) == "");
  const auto& w = std::get<workload>(v);
  CHECK(w.requests[0].session == w.requests[1].session);
  CHECK(w.requests[1].session != w.requests[2].session);
  CHECK(w.requests[98].session == 49);
  CHECK(w.requests[5].user_segment == 1);  // everybody's block is the system prompt
}

TEST_CASE("a broken Mooncake row is named") {
  const std::string good = row(0, 512, 1, "0");
  CHECK(error_of(read_mooncake(good + "garbage\n", "t")).starts_with("t:2: not a JSON object"));
  CHECK(error_of(read_mooncake(good + "[1]\n", "t")).starts_with("t:2:"));
  CHECK(error_of(read_mooncake(row(0, 513, 1, "0"), "t")).find("fewer `hash_ids`") != std::string::npos);
  CHECK(error_of(read_mooncake(row(0, 512, 1, "0, 1"), "t")).find("more `hash_ids`") != std::string::npos);
  CHECK(error_of(read_mooncake(row(0, -5, 1, "0"), "t")).find("input_length") != std::string::npos);
  CHECK(error_of(read_mooncake(row(-1, 512, 1, "0"), "t")).find("timestamp") != std::string::npos);
  CHECK(error_of(read_mooncake(R"({"timestamp": 0, "input_length": 5, "output_length": 5})", "t")) ==
        "t:1: no `hash_ids`");
  CHECK(error_of(read_mooncake("\n\n", "t")) == "t: no request in it");
}

TEST_CASE("an Azure row becomes a prompt like no other") {
  const auto v = read_azure(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
      "2023-11-16 23:59:59.5000000,4808,10\r\n"
      "2023-11-17 00:00:01.0000000,0,0\r\n",
      "t");
  REQUIRE(error_of(v) == "");
  const auto& w = std::get<workload>(v);
  REQUIRE(w.requests.size() == 2);
  CHECK(w.requests[0].at == duration{});
  CHECK(w.requests[1].at == std::chrono::milliseconds(1500));
  CHECK(w.requests[0].input_tokens() == 4808);
  CHECK(w.requests[1].input_tokens() == 1);
  CHECK(w.requests[0].segments[0].id != w.requests[1].segments[0].id);
}

TEST_CASE("a broken Azure row is named") {
  const std::string head = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
  for (const char* bad : {"2023-11-16 18:17:03.97", "yesterday,5,5", "2023-11-16 18:17:03.9,five,5",
                          "2023-11-16 18:17:03.9,5,5x", "2023-11-16 18:17:03.9,99999999999,5"})
    CHECK(error_of(read_azure(head + bad + "\n", "t")).starts_with("t:2: "));
  CHECK(error_of(read_azure(head, "t")) == "t: no request in it");
  CHECK(error_of(read_azure(head + "2023-11-16 18:17:03.9,5,5\n2023-11-16 18:17:02.9,5,5\n", "t"))
            .starts_with("t:3: a time before"));
}

TEST_CASE("a file that is missing says so") {
  CHECK(error_of(read_trace("/nowhere/trace.jsonl")).starts_with("/nowhere/trace.jsonl: cannot be read"));
}
