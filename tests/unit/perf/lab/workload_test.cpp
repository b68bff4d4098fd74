// Generated traffic, and how a seed changes a workload.
#include "workload.hpp"

#include <doctest/doctest.h>

#include <map>
#include <set>

#include "prompts.hpp"
#include "shapes.hpp"

using namespace penstock;
using namespace penstock::lab;

namespace {

bool same(const workload& a, const workload& b) {
  if (a.requests.size() != b.requests.size()) return false;
  for (std::size_t i = 0; i < a.requests.size(); ++i) {
    const request &x = a.requests[i], &y = b.requests[i];
    if (x.at != y.at || x.session != y.session || x.follows != y.follows ||
        x.output_tokens != y.output_tokens || x.segments.size() != y.segments.size() ||
        x.streamed != y.streamed || x.patience != y.patience)
      return false;
    for (std::size_t s = 0; s < x.segments.size(); ++s) {
      if (x.segments[s].id != y.segments[s].id || x.segments[s].tokens != y.segments[s].tokens) return false;
    }
  }
  return true;
}

emulator::engine_settings engine() {
  return emulator::engine_settings::of(*emulator::find_engine_class("llama-3.3-70b-instruct/H100/tp4"));
}

}  // namespace

TEST_CASE("requests as lines of JSON, for who wants to send them") {
  workload w{"two", {}, {}};
  request q;
  q.at = std::chrono::milliseconds(1500);
  q.segments = {{0xab, 100, 4}, {0xcd, 7, 4}};
  q.output_tokens = 3;
  w.requests.push_back(q);
  q.follows = 0;
  q.streamed = false;
  w.requests.push_back(q);
  CHECK(json_lines_of(w) ==
        "{\"at_s\":1.500000,\"follows\":null,\"session\":0,\"output\":3,\"streamed\":true,"
        "\"segments\":[[\"ab\",100],[\"cd\",7]]}\n"
        "{\"at_s\":1.500000,\"follows\":0,\"session\":0,\"output\":3,\"streamed\":false,"
        "\"segments\":[[\"ab\",100],[\"cd\",7]]}\n");
}

TEST_CASE("every shape makes the same requests from the same seed, and others from another") {
  for (const shape& s : shapes()) {
    CAPTURE(s.name);
    const workload a = s.make({300, 5}), b = s.make({300, 5}), c = s.make({300, 6});
    CHECK(a.requests.size() >= 200);
    CHECK(same(a, b));
    CHECK_FALSE(same(a, c));
    for (std::uint32_t i = 0; i < a.requests.size(); ++i) {
      const request& r = a.requests[i];
      REQUIRE(r.input_tokens() > 0);
      REQUIRE(r.output_tokens > 0);
      REQUIRE((r.follows == nobody || r.follows < i));
      REQUIRE(r.user_segment < r.segments.size());
    }
  }
  CHECK(find_shape("agents") != nullptr);
  CHECK(find_shape("agent") == nullptr);
}

TEST_CASE("a session's next prompt continues the last one and its answer") {
  const workload w = find_shape("chats")->make({400, 1});
  std::size_t continued = 0;
  for (const request& r : w.requests) {
    if (r.follows == nobody) continue;
    const request& before = w.requests[r.follows];
    REQUIRE(r.segments.size() == before.segments.size() + 2);
    CHECK(r.segments[before.segments.size()].id == before.output_id);
    const auto old_names = names_of(before, 16), names = names_of(r, 16);
    for (std::size_t i = 0; i < old_names.size(); ++i) REQUIRE(old_names[i] == names[i]);
    ++continued;
  }
  CHECK(continued >= 200);
}

TEST_CASE("arrivals are scaled to a share of what the engines can do") {
  workload w = find_shape("unique")->make({2000, 1});
  const std::vector<emulator::engine_settings> engines(4, engine());
  scale_to_load(w, engines, 0.5);
  const double lasts = seconds(w.requests.back().at);
  CHECK(ideal_work(w, engine()) / (4 * lasts) == doctest::Approx(0.5).epsilon(0.001));
}

TEST_CASE("spread delays by less than its length, rate compresses") {
  const workload base = find_shape("unique")->make({500, 1});
  const workload w = vary(base, {.seed = 3, .rate = 2, .spread = std::chrono::seconds(3)});
  REQUIRE(w.requests.size() == base.requests.size());
  std::set<duration> delays;
  for (std::size_t i = 0; i < w.requests.size(); ++i) {
    const duration late = w.requests[i].at * 2 - base.requests[i].at;
    CHECK(late > -std::chrono::microseconds(1));
    CHECK(late < std::chrono::seconds(3));
    delays.insert(late);
  }
  CHECK(delays.size() > 400);
}

TEST_CASE("resampling draws whole sessions, keeps what is shared and renames what is not") {
  const workload base = find_shape("agents")->make({600, 1});
  const workload w = vary(base, {.seed = 2, .resample = true});
  CHECK(same(w, vary(base, {.seed = 2, .resample = true})));
  CHECK_FALSE(same(w, vary(base, {.seed = 4, .resample = true})));
  std::set<std::uint64_t> heads, own;
  std::map<std::uint32_t, std::uint64_t> head_of;
  for (const request& r : w.requests) {
    heads.insert(r.segments[0].id);
    if (r.follows == nobody) {
      CHECK(own.insert(r.segments[2].id).second);  // no two sessions say the same
      head_of[r.session] = r.segments[1].id;
    } else {
      CHECK(w.requests[r.follows].session == r.session);
      CHECK(r.segments[1].id == head_of[r.session]);
    }
  }
  CHECK(heads.size() == 1);
}

TEST_CASE("seeds that follow each other draw sessions independently of each other") {
  const workload base = find_shape("unique")->make({2000, 1});
  std::map<std::uint64_t, int> drawn;  // first copies keep their names
  for (const request& r : base.requests) drawn[r.segments[0].id] = 0;
  for (const std::uint64_t seed : {2, 3}) {
    for (const request& r : vary(base, {.seed = seed, .resample = true}).requests) {
      const auto at = drawn.find(r.segments[0].id);
      if (at != drawn.end()) ++at->second;
    }
  }
  double both = 0;
  for (const auto& [id, times] : drawn) both += times == 2 ? 1 : 0;
  // Of n draws out of n a session is among them with 1 - 1/e, and among those of both seeds with its square.
  CHECK(both / 2000 == doctest::Approx(0.3996).epsilon(0.1));
}

TEST_CASE("rough traffic has its shares, and a text keeps its bytes in every prompt") {
  workload w = find_shape("documents")->make({3000, 1});
  prng rng(1);
  roughen(w, rng);
  double hidden = 0, quiet = 0, leaving = 0;
  std::map<std::uint64_t, float> bytes;
  for (const request& r : w.requests) {
    hidden += r.streamed ? 0 : 1;
    quiet += r.tells_cached ? 0 : 1;
    leaving += r.patience > duration{} ? 1 : 0;
    for (const segment& s : r.segments) {
      CHECK(bytes.try_emplace(s.id, s.bytes_per_token).first->second == s.bytes_per_token);
      CHECK(s.bytes_per_token >= 2.5F);
      CHECK(s.bytes_per_token <= 5.5F);
    }
  }
  const auto n = static_cast<double>(w.requests.size());
  CHECK(hidden / n == doctest::Approx(0.3).epsilon(0.1));
  CHECK(quiet / n == doctest::Approx(0.5).epsilon(0.1));
  CHECK(leaving / n == doctest::Approx(0.03).epsilon(0.4));
}

TEST_CASE("prompts that agree so far have the same blocks so far") {
  request a, b;
  a.segments = {{1, 1000, 4}, {2, 1000, 4}};
  b.segments = {{1, 1000, 4}, {3, 700, 3}};
  const tokenizer::token_estimator estimator;
  const request_facts fa = facts_of(a, 1024, estimator), fb = facts_of(b, 1024, estimator);
  CHECK(fa.prompt_tokens == 2000);
  CHECK(fa.prompts[0].tokens() == 2000);
  REQUIRE(fa.prompts[0].blocks.size() == 7);  // 8,000 bytes
  REQUIRE(fb.prompts[0].blocks.size() == 5);  // 6,100 bytes
  for (std::size_t i = 0; i < 5; ++i)
    CHECK((fa.prompts[0].blocks[i].key == fb.prompts[0].blocks[i].key) == (i < 3));
  const auto na = names_of(a, 16), nb = names_of(b, 16);
  CHECK(na.size() == 125);
  for (std::size_t i = 0; i < nb.size(); ++i) CHECK((na[i] == nb[i]) == (i < 62));
}
