// Pools that split requests and could not serve, and exactly what is said about each.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include "helpers.hpp"

using namespace penstock::conf;
using namespace penstock::conf::testing;

namespace {

std::string endpoint(int port, std::string_view more) {
  return fmt::format("[[pool.endpoint]]\nurl = \"http://e:{}\"\n{}\n", port, more);
}

std::string pool(std::string_view section, std::initializer_list<std::string_view> endpoints) {
  std::string out = fmt::format("[[pool]]\nname = \"p\"\n[pool.disaggregation]\n{}\n", section);
  int port = 1;
  for (const auto e : endpoints) out += endpoint(port++, e);
  return out;
}

struct wrong {
  std::string text, said;
};

constexpr std::string_view prefill = "role = \"prefill\"", decode = "role = \"decode\"";

}  // namespace

TEST_CASE("a pool that cannot be split is refused") {
  const wrong samples[] = {
      {pool("connector = \"nixl\"", {""}),
       "c.toml:3:1: pool \"p\" has no pair of endpoints to split a request over (it takes one of role "
       "\"prefill\" (or "
       "\"both\") and another of role \"decode\" (or \"both\") in one group)\n"},
      {pool("connector = \"nixl\"", {prefill}),
       "c.toml:1:1: pool \"p\" has only endpoints of role \"prefill\" (somebody must decode: role \"both\" "
       "or \"decode\")\n"
       "c.toml:3:1: pool \"p\" has no pair of endpoints to split a request over (it takes one of role "
       "\"prefill\" (or "
       "\"both\") and another of role \"decode\" (or \"both\") in one group)\n"},
      {pool("connector = \"sglang\"", {decode, ""}),
       "c.toml:3:1: pool \"p\": SGLang decode engines cannot serve without prefill engines (add endpoints of "
       "role \"prefill\")\n"},
      {pool("connector = \"sglang\"", {prefill, ""}),
       "c.toml:3:1: pool \"p\" has no pair of endpoints to split a request over (it takes one of role "
       "\"prefill\" and one of role \"decode\" in one group)\n"},
      {pool("connector = \"sglang\"", {"", ""}),
       "c.toml:3:1: pool \"p\" has no pair of endpoints to split a request over (it takes one of role "
       "\"prefill\" and one of role \"decode\" in one group)\n"},
      {pool("connector = \"sglang\"\nsplit = \"never\"", {decode, prefill}),
       "c.toml:5:9: pool.disaggregation.split: \"never\" leaves SGLang engines of role \"decode\" without "
       "work (\"cost\", or "
       "endpoints of role \"both\")\n"},
      {pool("connector = \"mooncake\"", {prefill, decode}),
       "c.toml:6:7: pool.endpoint: \"http://e:1\" has no bootstrap address, which Mooncake's prefill engines "
       "need (add "
       "bootstrap = \"host:8998\")\n"},
      {pool("connector = \"mooncake\"", {"role = \"prefill\"\nbootstrap = \"nowhere\"", decode}),
       "c.toml:8:13: pool.endpoint.bootstrap: \"nowhere\" is no address (as in \"10.0.0.5:8998\")\n"},
      {pool("connector = \"mooncake\"", {"role = \"prefill\"\nbootstrap = \"e:1\"\ntensor_parallel = 2",
                                         "role = \"decode\"\ntensor_parallel = 4"}),
       "c.toml:13:19: pool.endpoint.tensor_parallel: 4 of \"http://e:2\" is not the 2 of \"http://e:1\" "
       "(Mooncake passes "
       "blocks between equal sizes only)\n"},
      {pool("", {"role = \"prefill\"\ntensor_parallel = 4", "role = \"decode\"\ntensor_parallel = 2"}),
       "c.toml:12:19: pool.endpoint.tensor_parallel: 2 of \"http://e:2\" is below the 4 of \"http://e:1\" "
       "(NIXL decode "
       "engines have at least the ranks of their prefill engines)\n"},
      {pool("", {"role = \"prefill\"\ngroup = \"a\"", "role = \"decode\"\ngroup = \"b\""}),
       "c.toml:3:1: pool \"p\" has no pair of endpoints to split a request over (it takes one of role "
       "\"prefill\" (or "
       "\"both\") and another of role \"decode\" (or \"both\") in one group)\n"},
      {"[[pool]]\ndisaggregation = \"nixl\"\n" + endpoint(1, ""),
       "c.toml:2:18: pool.disaggregation: found the string \"nixl\", but a table is wanted (write "
       "[pool.disaggregation], "
       "once for each [[pool]])\n"},
  };
  for (const wrong& s : samples) {
    INFO(s.text);
    const auto r = load_text(s.text);
    CHECK(joined(r.errors) == s.said);
    CHECK_FALSE(r.value);
  }
}

TEST_CASE("every connector has a pool that it can serve") {
  for (std::size_t i = 0; i < penstock::connector_count; ++i) {
    const auto kind = static_cast<penstock::connector_kind>(i);
    const auto r = load_text(pool(fmt::format("connector = \"{}\"", name(kind)),
                                  {"role = \"prefill\"\nbootstrap = \"b:9\"", decode}));
    CAPTURE(name(kind));
    CHECK(joined(r.errors) == "");
    REQUIRE(r.value);
    const auto& one = r.value->pools[0].endpoints[0];
    CHECK(one.bootstrap_port == (penstock::traits(kind).bootstrap ? 9 : 0));
    CHECK(one.bootstrap_host == (penstock::traits(kind).bootstrap ? "b" : ""));
    CHECK(r.value->pools[0].endpoints[1].bootstrap_port == 0);
  }
}

TEST_CASE("an SGLang engine's bootstrap server is on its host unless told otherwise") {
  const auto r = load_text(pool("connector = \"sglang\"", {"role = \"prefill\"", decode}));
  REQUIRE(r.value);
  CHECK(r.value->pools[0].endpoints[0].bootstrap_host == "e");
  CHECK(r.value->pools[0].endpoints[0].bootstrap_port == 8998);
  const auto local = load_text(
      "[[pool]]\nname = \"p\"\n[pool.disaggregation]\nconnector = \"sglang\"\n"
      "[[pool.endpoint]]\nurl = \"unix:/run/p\"\nrole = \"prefill\"\n" +
      endpoint(2, decode));
  CHECK(joined(local.errors) ==
        "c.toml:6:7: pool.endpoint: \"unix:/run/p\" has no host where decode engines could find it (add "
        "bootstrap = \"host:8998\")\n");
}

TEST_CASE("what works but is odd is told") {
  const wrong samples[] = {
      {pool("", {"role = \"prefill\"\ngroup = \"a\"", "role = \"decode\"\ngroup = \"a\"",
                 "role = \"decode\"\ngroup = \"b\""}),
       "c.toml:15:8: pool.endpoint.role: \"http://e:3\" has no partner of role \"prefill\" in its group "
       "(engines of one pair "
       "have equal `group` labels)\n"},
      {pool("", {"role = \"prefill\"\nbootstrap = \"e:1\"", decode}),
       "c.toml:8:13: pool.endpoint.bootstrap is not used by this connector and role\n"},
      {pool("connector = \"sglang\"", {prefill, decode, "bootstrap = \"e:1\""}),
       "c.toml:13:13: pool.endpoint.bootstrap is not used by this connector and role\n"},
  };
  for (const wrong& s : samples) {
    INFO(s.text);
    const auto r = load_text(s.text);
    CHECK(joined(r.errors) == "");
    CHECK(joined(r.warnings) == s.said);
    CHECK(r.value);
  }
}

TEST_CASE("engines that do both make pairs among themselves") {
  const auto r = load_text(pool("split = 512\nlease = \"480s\"", {"", ""}));
  INFO(joined(r.errors));
  REQUIRE(r.value);
  CHECK(joined(r.warnings) == "");
  CHECK(r.value->pools[0].disaggregation.lease == std::chrono::seconds(480));
}
