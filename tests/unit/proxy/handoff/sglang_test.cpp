// SGLang's hand-off: the same body on both legs to the byte, and rooms that belong to a rank.
#include <doctest/doctest.h>

#include "unit/proxy/handoff/bodies.hpp"

using namespace penstock;
using namespace penstock::handoff;
using namespace penstock::handoff::testing;

namespace {

constexpr auto sglang = connector_kind::sglang;
constexpr terms said{.room = 40, .ranks = 4, .bootstrap_host = "10.0.0.5", .bootstrap_port = 8998};

std::string leg(std::string_view body, api_kind api = api_kind::chat) {
  const std::string one = prefill(sglang, body, api, said);
  CHECK(decode(sglang, body, said, api) == one);
  return one;
}

}  // namespace

TEST_CASE("sglang: both legs are the client's body and where the engines meet") {
  CHECK(
      leg(R"({ "model":"m","messages":[],"stream":true,"stream_options":{},"max_tokens": 9 })") ==
      R"({ "model":"m","messages":[],"stream":true,"stream_options":{},"max_tokens": 9 ,"bootstrap_host":"10.0.0.5","bootstrap_port":8998,"bootstrap_room":40})");
  CHECK(
      leg(R"({"model":"m","prompt":["x"]})", api_kind::completions) ==
      R"({"model":"m","prompt":["x"],"bootstrap_host":"10.0.0.5","bootstrap_port":8998,"bootstrap_room":40})");
}

TEST_CASE("sglang: each choice of a batch has a room of its own, all of one rank") {
  CHECK(
      leg(R"({"model":"m","messages":[],"n":3})") ==
      R"({"model":"m","messages":[],"n":3,"bootstrap_host":["10.0.0.5","10.0.0.5","10.0.0.5"],"bootstrap_port":[8998,8998,8998],"bootstrap_room":[40,44,48]})");
  CHECK(
      leg(R"({"model":"m","prompt":["x","y"]})", api_kind::completions) ==
      R"({"model":"m","prompt":["x","y"],"bootstrap_host":["10.0.0.5","10.0.0.5"],"bootstrap_port":[8998,8998],"bootstrap_room":[40,44]})");
  CHECK(leg(R"({"model":"m","prompt":[[1,2],[3]],"n":2})", api_kind::completions).find("[40,44,48,52]") !=
        std::string::npos);
}

TEST_CASE("sglang: a room has 63 bits, belongs to its rank, and differs as its randomness does") {
  for (const std::uint64_t random : {std::uint64_t{0}, std::uint64_t{7}, ~std::uint64_t{0}})
    for (const std::uint32_t ranks : {1u, 3u, 8u, 65536u})
      for (const std::uint32_t rank : {0u, 1u, 7u}) {
        const std::uint64_t room = make_room(random, rank, ranks);
        CHECK(room % ranks == rank % ranks);
        CHECK(room + 1000 * std::uint64_t{ranks} < std::uint64_t{1} << 63);
      }
  CHECK(make_room(std::uint64_t{1} << 40, 0, 1) != make_room(std::uint64_t{1} << 41, 0, 1));
}

TEST_CASE("sglang: what its hand-off carries") {
  const auto carries = [](std::string_view body, api_kind api = api_kind::chat) {
    return (carriers(facts_of(body, api)) >> static_cast<unsigned>(sglang) & 1U) != 0;
  };
  CHECK(carries(R"({"model":"m","messages":[]})"));
  CHECK(carries(R"({"model":"m","messages":[],"n":4})"));
  CHECK(carries(R"({"model":"m","prompt":["x","y"]})", api_kind::completions));
  CHECK_FALSE(carries(R"({"model":"m","messages":[],"n":4000000000})"));
  CHECK_FALSE(carries(R"({"model":"m","messages":[],"use_beam_search":true,"n":2})"));
  // More answers than are told: how many rooms that takes is the engine's secret.
  CHECK_FALSE(carries(R"({"model":"m","prompt":"x","best_of":4})", api_kind::completions));
  CHECK(carries(R"({"model":"m","prompt":"x","best_of":4,"n":4})", api_kind::completions));
  CHECK_FALSE(carries(R"({"model":"m","messages":[],"echo":true})"));
  // Its responses API drops the members of a hand-off.
  CHECK_FALSE(carries(R"({"model":"m","input":"x"})", api_kind::responses));
  CHECK_FALSE(carries(R"({"model":"m","max_tokens":1,"messages":[]})", api_kind::messages));
}
