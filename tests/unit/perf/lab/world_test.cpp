// Whole runs in virtual time.
#include "world.hpp"

#include <doctest/doctest.h>

#include <string>

#include "figures.hpp"
#include "options.hpp"
#include "shapes.hpp"

using namespace penstock;
using namespace penstock::lab;

namespace {

run_settings settings(const char* policy, std::size_t engines = 3) {
  std::string error;
  run_settings s;
  s.policy = *parse_policy(policy, error);
  s.engines.assign(engines, emulator::engine_settings::of(
                                *emulator::find_engine_class("llama-3.3-70b-instruct/H100/tp4")));
  return s;
}

workload load_of(const char* name, std::uint32_t requests, double load = 0.6) {
  workload w = find_shape(name)->make({requests, 1});
  scale_to_load(w, settings("prefix").engines, load);
  return w;
}

std::string json(const workload& w, const run_settings& s) {
  policy_runs p{s.policy.name, {figures_of(simulate(w, s), {})}};
  return json_of({&p, 1});
}

const char* const every_policy[] = {"round_robin",  "random",       "least_requests", "least_tokens",
                                    "session_hash", "bounded_hash", "cache_aware",    "lmetric",
                                    "sticky",       "min_ttft",     "oracle",         "prefix",
                                    "sticky+ours",  "lmetric+ours"};

}  // namespace

TEST_CASE("every policy serves every request, and the same way each time") {
  const workload w = load_of("shared_prompts", 150);
  for (const char* policy : every_policy) {
    CAPTURE(policy);
    const run_result r = simulate(w, settings(policy));
    CHECK(r.served == w.requests.size());
    CHECK(r.failed == 0);
    CHECK(r.ttft_s.size() == w.requests.size());
    CHECK(json(w, settings(policy)) == json(w, settings(policy)));
  }
}

TEST_CASE("a request alone on an idle engine has the engine's own TTFT") {
  workload w{"one", {}, {}};
  request q;
  q.segments = {{7, 1000, 4}};
  q.output_tokens = 3;
  w.requests.push_back(q);
  const run_result r = simulate(w, settings("prefix", 1));
  REQUIRE(r.ttft_s.size() == 1);
  CHECK(static_cast<double>(r.ttft_s[0]) == doctest::Approx((12601.3 + 1000 * 76.42) * 1e-6));
  CHECK(r.gaps.total() == 2);
  CHECK(r.gaps.quantile(0.5) == doctest::Approx((12601.3 + 66.84) * 1e-6).epsilon(0.01));
}

TEST_CASE("the oracle computes nothing twice, whoever computed it first") {
  const workload w = load_of("documents", 200);
  const run_result oracle = simulate(w, settings("oracle")), blind = simulate(w, settings("round_robin"));
  CHECK(oracle.cached_tokens > blind.cached_tokens * 5 / 4);
  std::uint64_t computed = 0;
  for (const std::uint64_t c : oracle.computed) computed += c;
  // Whole blocks of 16 are found.
  CHECK(computed <= oracle.prompt_tokens - oracle.cached_tokens);
}

TEST_CASE("rough traffic: who leaves is not served, and all are accounted for") {
  workload w = load_of("agents", 300);
  prng rng(3);
  roughen(w, rng);
  for (const char* policy : {"prefix", "sticky", "least_tokens"}) {
    CAPTURE(policy);
    const run_result r = simulate(w, settings(policy));
    CHECK(r.left > 0);
    CHECK(r.served + r.left + r.failed == w.requests.size());
    CHECK(r.failed == 0);
  }
}

TEST_CASE("an engine that restarts loses its streams, and what waited there is served elsewhere") {
  const workload w = load_of("unique", 300, 0.8);
  run_settings s = settings("prefix");
  std::string error;
  s.incidents.push_back(*parse_incident("restart:1@20s+10s/40s", error));
  const run_result r = simulate(w, s);
  CHECK(r.failed > 0);
  CHECK(r.ttft_s.size() == w.requests.size());  // only streams that had begun were lost
  CHECK(r.served + r.failed == w.requests.size());
}

TEST_CASE("an engine that joins late gets no work before, and its share afterwards") {
  const workload w = load_of("unique", 400);
  run_settings s = settings("prefix");
  std::string error;
  s.incidents.push_back(*parse_incident("join:2@1000000s", error));
  CHECK(simulate(w, s).computed[2] == 0);
  s.incidents = {*parse_incident("join:2@30s", error)};
  CHECK(simulate(w, s).computed[2] > 0);
}

TEST_CASE("half the speed costs about double, and the router takes notice") {
  const workload w = load_of("unique", 400, 0.5);
  run_settings s = settings("prefix");
  std::string error;
  s.incidents.push_back(*parse_incident("slow:0@0s=0.5", error));
  const run_result r = simulate(w, s);
  CHECK(r.computed[0] < r.computed[1]);
  CHECK(r.served == w.requests.size());
  s.told_speeds = true;
  const run_result told = simulate(w, s);
  CHECK(told.computed[0] * 3 < told.computed[1] * 2);
}

TEST_CASE("one engine or two: what each rule does, and nothing stays pinned") {
  const workload w = load_of("documents", 200);
  using enum endpoint_role;
  for (const std::vector<endpoint_role>& roles : {std::vector{prefill, decode, decode}, {both, both, both}}) {
    for (const char* policy : {"never", "always", "threshold:16", "threshold:2000", "cost"}) {
      CAPTURE(policy);
      run_settings s = settings(policy);
      s.roles = roles;
      const run_result r = simulate(w, s);
      CHECK(r.served == w.requests.size());
      CHECK(r.pinned_blocks == 0);
      if (policy == std::string("never")) CHECK(r.split == 0);
      if (policy == std::string("always")) CHECK(r.split == r.served);
      if (policy == std::string("threshold:2000")) CHECK((r.split > 0 && r.split < r.served));
      CHECK(json(w, s) == json(w, s));
    }
  }
}

TEST_CASE("a split request alone has the TTFT of its parts") {
  workload w{"one", {}, {}};
  request q;
  q.segments = {{7, 1000, 4}};
  q.output_tokens = 3;
  w.requests.push_back(q);
  run_settings s = settings("always", 2);
  s.roles = {endpoint_role::prefill, endpoint_role::decode};
  s.transfer = {327680, 5e9, std::chrono::milliseconds(1), std::chrono::milliseconds(250)};
  const run_result r = simulate(w, s);
  REQUIRE(r.ttft_s.size() == 1);
  const double prefill = (12601.3 + 1000 * 76.42) * 1e-6, moved = 1000 * 327680 / 5e9;
  const double last = (12601.3 + 76.42) * 1e-6;  // the last prompt token is computed by the decode engine
  CHECK(static_cast<double>(r.ttft_s[0]) == doctest::Approx(prefill + 0.25 + moved + 0.001 + last));
  CHECK(static_cast<double>(r.pace_s[0]) == doctest::Approx((12601.3 + 66.84) * 1e-6));
}

TEST_CASE("split requests when engines die and clients leave") {
  workload w = load_of("agents", 300);
  prng rng(3);
  roughen(w, rng);
  std::string error;
  for (const char* policy : {"always", "cost"}) {
    CAPTURE(policy);
    run_settings s = settings(policy, 4);
    s.roles = {endpoint_role::prefill, endpoint_role::prefill, endpoint_role::decode, endpoint_role::both};
    s.incidents.push_back(*parse_incident("restart:*@20s+10s/40s", error));
    const run_result r = simulate(w, s);
    CHECK(r.left > 0);
    CHECK(r.failed > 0);
    CHECK(r.served + r.left + r.failed == w.requests.size());
    CHECK(r.pinned_blocks == 0);
  }
}

TEST_CASE("incidents are read from their text") {
  std::string error;
  const auto e = parse_incident("restart:*@300s+20s/5m", error);
  REQUIRE(e);
  CHECK(e->engine == nobody);
  CHECK(e->at == std::chrono::seconds(300));
  CHECK(e->lasts == std::chrono::seconds(20));
  CHECK(e->every == std::chrono::minutes(5));
  CHECK(parse_incident("slow:2@0=0.25", error)->value == 0.25);
  for (const char* bad :
       {"", "slow", "slow:0", "slow:x@0s", "slow:0@", "slow:0@1parsec", "join:*@3s", "slow:0@0s=0"})
    CHECK_FALSE(parse_incident(bad, error));
  CHECK(parse_duration("1.5") == std::chrono::milliseconds(1500));
  CHECK_FALSE(parse_duration("-1s"));
  CHECK_FALSE(parse_duration("nan"));
}

TEST_CASE("the command line names what is wrong with it") {
  std::string m;
  CHECK(parse_options({"--shape", "unique", "--policy", "prefix,sticky", "--seeds=3"}, m));
  CHECK_FALSE(parse_options({}, m));
  CHECK(m.find("--trace") != std::string::npos);
  for (const std::vector<std::string>& bad :
       std::vector<std::vector<std::string>>{{"--shape", "unique", "--seeds", "0"},
                                             {"--shape", "unique", "--policy", "best"},
                                             {"--shape", "unique", "--class", "llama-9/H100/tp4"},
                                             {"--shape", "unique", "--class", "demo:2,demo"},
                                             {"--shape", "unique", "--engines"},
                                             {"--shape", "unique", "--rate", "fast"},
                                             {"--shape", "unique", "--fast"},
                                             {"--shape", "uniqe"},
                                             {"--shape", "unique", "--policy", "cost"},
                                             {"--shape", "unique", "--roles", "prefill:2,decode:1"},
                                             {"--shape", "unique", "--roles", "both:4", "--policy", "oracle"},
                                             {"--shape", "unique", "--roles", "cook:4"},
                                             {"--shape", "unique", "--trace", "x"}}) {
    m.clear();
    CHECK_FALSE(parse_options(bad, m));
    CHECK_FALSE(m.empty());
  }
  const auto two = parse_options({"--shape", "unique", "--class", "demo:2,instant:3"}, m);
  REQUIRE(two);
  CHECK(two->fleet.size() == 5);
}
