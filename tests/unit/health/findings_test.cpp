#include "health/findings.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace penstock;
using namespace penstock::health;

namespace {

endpoint_view healthy(const std::string& url) {
  endpoint_view e;
  e.settings.url = url;
  e.addresses.resize(1);
  e.state = life::up;
  e.models_known = true;
  e.models.push_back({"llama", "llama", "", "vllm", 0, 0});
  e.engine.scraped_at = instant(std::chrono::seconds(1));
  e.engine.block_tokens = 16;
  e.engine.kv_tokens = 100000;
  return e;
}

fleet_view fleet_of(std::vector<endpoint_view> endpoints) {
  fleet_view f;
  f.pools.push_back({"main", {"llama"}, policy::prefix, {}});
  for (std::uint32_t i = 0; i < endpoints.size(); ++i) f.pools[0].endpoints.push_back(i);
  f.endpoints = std::move(endpoints);
  return f;
}

// The only finding of the second of three endpoints, the others being well.
finding of_one(endpoint_view odd) {
  const auto found = live_findings(fleet_of({healthy("http://a"), std::move(odd), healthy("http://c")}));
  REQUIRE(found.size() == 1);
  CHECK(found[0].url == "http://b");
  return found[0];
}

}  // namespace

TEST_CASE("findings: nothing is wrong with a healthy fleet") {
  CHECK(live_findings(fleet_of({healthy("http://a"), healthy("http://b")})).empty());
  CHECK(live_findings({}).empty());
}

TEST_CASE("findings: each with what to do") {
  endpoint_view e = healthy("http://b");
  SUBCASE("unresolved") {
    e.addresses.clear();
    CHECK(of_one(e).what.find("does not resolve") != std::string::npos);
  }
  SUBCASE("unreachable") {
    e.state = life::down;
    const finding f = of_one(e);
    CHECK(f.serious);
    CHECK(f.what.find("start the engine") != std::string::npos);
  }
  SUBCASE("another model") {
    e.models[0].id = "qwen";
    const finding f = of_one(e);
    CHECK(f.serious);
    CHECK(f.what == "it does not serve `llama`, which pool `main` lists; it serves `qwen`");
  }
  SUBCASE("no metrics") {
    e.engine = {};
    const finding f = of_one(e);
    CHECK_FALSE(f.serious);
    CHECK(f.what.find("health.metrics_path") != std::string::npos);
  }
  SUBCASE("no capacity") {
    e.engine.kv_tokens = 0;
    CHECK(of_one(e).what.find("set kv_tokens") != std::string::npos);
  }
  SUBCASE("another block size") {
    e.engine.block_tokens = 32;
    CHECK(of_one(e).what.find("have 32 tokens, those of most of pool `main` 16") != std::string::npos);
  }
}

TEST_CASE("findings: the switch is named by the engine, both where it is not known") {
  endpoint_view e = healthy("http://a");
  CHECK(cached_tokens_switch(e) == "--enable-prompt-tokens-details");
  CHECK(is_engine(e.models, "vllm"));
  CHECK_FALSE(is_engine(e.models, "sglang"));
  CHECK_FALSE(is_engine({}, "vllm"));
  e.models[0].owned_by = "sglang";
  CHECK(cached_tokens_switch(e) == "--enable-cache-report");
  e.models.clear();
  CHECK(cached_tokens_switch(e).find("SGLang") != std::string::npos);
}

TEST_CASE("findings: a Mooncake prefill engine whose bootstrap server says nothing") {
  endpoint_view silent = healthy("http://b");
  silent.settings.role = endpoint_role::prefill;
  silent.settings.bootstrap_host = "b";
  silent.settings.bootstrap_port = 8998;
  endpoint_view known = silent;
  known.rank_ids = {"e_dp0"};
  fleet_view f = fleet_of({healthy("http://a"), silent, known});
  f.pools[0].disaggregation = {.enabled = true, .connector = connector_kind::mooncake};
  for (endpoint_view& e : f.endpoints) e.pool = 0;
  const auto found = live_findings(f);
  REQUIRE(found.size() == 1);
  CHECK(found[0].what.find("b:8998") != std::string::npos);
  CHECK(found[0].serious);
}
