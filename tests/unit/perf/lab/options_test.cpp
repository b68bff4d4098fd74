// The command line: what is refused before anything runs, and what is said about it.
#include "options.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "readers.hpp"

using namespace penstock::lab;

namespace {

std::string refusal_of(std::vector<std::string> more) {
  std::vector<std::string> all = {"--shape", "agents"};
  all.insert(all.end(), more.begin(), more.end());
  std::string message;
  const auto o = parse_options(all, message);
  CHECK(o.has_value() == message.empty());
  return message;
}

}  // namespace

TEST_CASE("options that contradict each other are refused") {
  CHECK(refusal_of({"--class", "demo:2", "--engines", "4"}) ==
        "--class: 2 engines, but --engines 4; one of the two is enough");
  CHECK(refusal_of({"--class", "demo:2,instant:2", "--engines", "4"}).empty());
  CHECK(refusal_of({"--class", "demo:2"}).empty());
  CHECK(refusal_of({"--roles", "prefill:2,decode:1"}) == "--roles: 3 roles for 4 engines");
}

TEST_CASE("roles that leave nobody to split a request over are refused") {
  for (const char* roles : {"prefill:4", "decode:4"})
    CHECK(refusal_of({"--roles", roles}) ==
          "--roles: nobody to prefill for another; write prefill:2,decode:2 or both:4");
  CHECK(refusal_of({"--roles", "both", "--engines", "1"}).starts_with("--roles: nobody"));
  for (const char* roles : {"prefill:2,decode:2", "both:4", "both:3,decode:1", "prefill:1,both:3"})
    CHECK(refusal_of({"--roles", roles}).empty());
}

TEST_CASE("an incident of an engine that is not there is refused") {
  CHECK(refusal_of({"--incident", "slow:4@0s=0.5"}) == "--incident: no engine 4; they are 0 to 3");
  CHECK(refusal_of({"--incident", "slow:3@0s=0.5"}).empty());
  CHECK(refusal_of({"--incident", "stall:*@0s+1s"}).empty());
}

TEST_CASE("a trace that is a directory is named") {
  const auto got = read_trace("/");
  const auto* wrong = std::get_if<read_error>(&got);
  REQUIRE(wrong != nullptr);
  CHECK(wrong->message == "/: is a directory; name a file in it");
}
