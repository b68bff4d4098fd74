#include "proxy/config/reference.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "helpers.hpp"
#include "unit/source_dir.hpp"

using namespace penstock;
using namespace penstock::conf;
using namespace penstock::conf::testing;

namespace {

const std::string tree = test::source_dir();

std::string file_text(const std::string& path) {
  std::ifstream in(tree + "/" + path, std::ios::binary);
  INFO(path);
  REQUIRE(in.good());
  return {std::istreambuf_iterator<char>(in), {}};
}

// Every variable is set, as it would be in a deployment.
std::optional<std::string> any_variable(std::string_view) { return "value"; }

}  // namespace

TEST_CASE("conf/REFERENCE.md is what the table says; UPDATE_GOLDEN=1 rewrites it") {
  if (std::getenv("UPDATE_GOLDEN") != nullptr) {
    std::ofstream(tree + "/conf/REFERENCE.md", std::ios::binary) << reference_markdown();
  }
  CHECK(file_text("conf/REFERENCE.md") == reference_markdown());
}

TEST_CASE("the examples in conf/ are right and raise no warning") {
  for (const std::string name : {"laptop", "sidecar", "ingress", "disaggregated"}) {
    const auto path = "conf/" + name + ".toml";
    const auto result = load(file_text(path), path, any_variable);
    INFO(joined(result.errors) << joined(result.warnings));
    CHECK(result.value);
    CHECK(result.errors.empty());
    CHECK(result.warnings.empty());
  }
}

TEST_CASE("the smallest configuration of the reference page works") {
  const auto page = reference_markdown();
  const auto begin = page.find("```toml\n") + 8;
  const auto text = page.substr(begin, page.find("```", begin) - begin);
  CHECK(load_text(text).value);
}

TEST_CASE("the effective configuration loads to itself") {
  const auto first = load(file_text("conf/ingress.toml"), "a", any_variable);
  REQUIRE(first.value);
  const auto text = effective_toml(*first.value);
  CHECK(text.find("value") == std::string::npos);  // the secrets
  CHECK(text.find("api_key = \"(hidden)\"") != std::string::npos);
  CHECK(text.find("\"X-Auth\" = \"(hidden)\"") != std::string::npos);
  const auto second = load_text(text);
  INFO(joined(second.errors));
  REQUIRE(second.value);
  CHECK(effective_toml(*second.value) == text);
  CHECK(second.value->pools.size() == first.value->pools.size());
  CHECK(second.value->pools[0].endpoints[3].data_parallel_rank == 1);
}

TEST_CASE("a pool that splits requests survives the effective configuration") {
  const auto first = load(file_text("conf/disaggregated.toml"), "a", any_variable);
  REQUIRE(first.value);
  const auto second = load_text(effective_toml(*first.value));
  INFO(joined(second.errors));
  REQUIRE(second.value);
  CHECK(effective_toml(*second.value) == effective_toml(*first.value));
  CHECK(second.value->pools[0].disaggregation.enabled);
  CHECK(second.value->pools[0].disaggregation.split == split_by_cost);
  CHECK(load_text("[[pool]]\n[[pool.endpoint]]\nurl = \"http://e:1\"\n")
            .value->pools[0]
            .disaggregation.enabled == false);
}

TEST_CASE("split is a word or a number of tokens") {
  const auto split = [](std::string_view value) {
    const auto r =
        load_text("[[pool]]\n[pool.disaggregation]\nsplit = " + std::string(value) +
                  "\n[[pool.endpoint]]\nurl = \"http://e:1\"\n[[pool.endpoint]]\nurl = \"http://e:2\"\n");
    INFO(joined(r.errors));
    REQUIRE(r.value);
    return r.value->pools[0].disaggregation.split;
  };
  CHECK(split("\"cost\"") == split_by_cost);
  CHECK(split("\"always\"") == split_always);
  CHECK(split("\"never\"") == split_never);
  CHECK(split("0") == 0);
  CHECK(split("2048") == 2048);
}

TEST_CASE("texts that need escapes survive the effective configuration") {
  const auto first = load_text(
      "[log]\naccess = \"/tmp/$${A}\\\"\\\\\\u00e9\"\n[[pool]]\nmodels = [\"m$${X}\"]\n"
      "[[pool.endpoint]]\nurl = \"http://engine:8000\"\ngroup = \"g \\\"1\\\"\"\n");
  INFO(joined(first.errors));
  REQUIRE(first.value);
  CHECK(first.value->log.access == "/tmp/${A}\"\\é");
  const auto second = load_text(effective_toml(*first.value));
  REQUIRE(second.value);
  CHECK(second.value->log.access == first.value->log.access);
  CHECK(second.value->pools[0].models == first.value->pools[0].models);
  CHECK(second.value->pools[0].endpoints[0].group == "g \"1\"");
}

TEST_CASE("what a reload may not change") {
  const auto running = *load_text(good_pool).value;
  auto next = running;
  CHECK(reload_conflict(running, next) == "");
  next.timeouts.connect *= 2;
  next.limits.body_bytes *= 2;
  next.log.level = "debug";
  next.pools[0].name = "other";
  next.pools[0].endpoints.push_back(next.pools[0].endpoints[0]);
  CHECK(reload_conflict(running, next) == "");
  next.server.workers = 3;
  next.server.listen.push_back("127.0.0.1:1");
  next.admin.listen = "";
  next.routing.table_bytes *= 2;
  CHECK(reload_conflict(running, next) == "server.listen, server.workers, admin.listen, routing.table_bytes");
}
