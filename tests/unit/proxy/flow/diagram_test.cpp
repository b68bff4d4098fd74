// The diagram of split requests in ARCHITECTURE.md has the states and arrows of the code: those of the golden
// table, which another test holds to the code. UPDATE_GOLDEN=1 writes it anew.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "proxy/flow/prefill_leg.hpp"
#include "proxy/flow/request_flow.hpp"
#include "unit/source_dir.hpp"

using namespace penstock::flow;

namespace {

constexpr std::string_view begin_mark =
    "<!-- split states: from tests/golden/split_transitions.txt -->\n```\n";
constexpr std::string_view end_mark = "```\n";

std::string text_of(const std::string& file) {
  std::ifstream in(penstock::test::source_dir() + "/" + file);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string first_word(std::string_view text) {
  return std::string(text.substr(0, text.find_first_of(", (")));
}

// "prefilling, waiting" is a place; "  sent -> nothing -> waiting lease open" one of its arrows.
std::set<std::pair<std::string, std::string>> arrows() {
  std::set<std::pair<std::string, std::string>> out;
  std::istringstream in(text_of("tests/golden/split_transitions.txt"));
  std::string from;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    if (line[0] != ' ') {
      from = first_word(line);
      continue;
    }
    std::string to = first_word(std::string_view(line).substr(line.rfind(" -> ") + 4));
    if (to != from) out.emplace(from, std::move(to));
  }
  return out;
}

// One line a state that has arrows, in the order of the enum.
std::string diagram() {
  const auto all = arrows();
  constexpr auto states = static_cast<std::size_t>(state::done) + 1;
  std::string out;
  for (std::size_t i = 0; i < states; ++i) {
    const std::string from(name(static_cast<state>(i)));
    std::string line;
    for (std::size_t k = 0; k < states; ++k) {
      const std::string to(name(static_cast<state>(k)));
      if (all.contains({from, to})) line += (line.empty() ? "" : " | ") + to;
    }
    if (!line.empty()) out += fmt::format("{:<11} -> {}\n", from, line);
  }
  return out;
}

}  // namespace

TEST_CASE("ARCHITECTURE.md: the arrows of split requests are those of the code") {
  std::string page = text_of("ARCHITECTURE.md");
  const std::size_t begin = page.find(begin_mark);
  REQUIRE(begin != page.npos);
  const std::size_t from = begin + begin_mark.size(), end = page.find(end_mark, from);
  if (std::getenv("UPDATE_GOLDEN") != nullptr) {
    page.replace(from, end - from, diagram());
    std::ofstream(penstock::test::source_dir() + "/ARCHITECTURE.md", std::ios::binary) << page;
    return;
  }
  CHECK(page.substr(from, end - from) == diagram());
  // Every arrow ends at a state of the code, or it would have been left out above.
  std::set<std::string> names;
  for (std::size_t i = 0; i <= static_cast<std::size_t>(state::done); ++i)
    names.emplace(name(static_cast<state>(i)));
  for (const auto& [a, b] : arrows()) CHECK((names.contains(a) && names.contains(b)));
}

TEST_CASE("ARCHITECTURE.md: the picture of split requests names every state of the prefill leg") {
  const std::string page = text_of("ARCHITECTURE.md");
  const std::size_t begin = page.find("### Two engines for one request");
  const std::string section = page.substr(begin, page.find("\n### ", begin + 4) - begin);
  const std::string picture =
      section.substr(section.find("```"), section.find("```", section.find("```") + 3) - section.find("```"));
  for (std::size_t i = 0; i < prefill_state_count; ++i) {
    const std::string_view state = name(static_cast<prefill_state>(i));
    CAPTURE(state);
    CHECK(picture.find(state) != picture.npos);
  }
}
