#include "proxy/worker/local_answers.hpp"

#include <doctest/doctest.h>

#include "routing/model_index.hpp"
#include "unit/proxy/worker/bench.hpp"

using namespace penstock;
using namespace penstock::worker;
using penstock::worker::testing::fleet_of;
using penstock::worker::testing::has;
using penstock::worker::testing::settings;

namespace {

fleet_view lora_fleet() {
  fleet_view f = *fleet_of(settings(), 3);
  f.pools = {{.name = "open", .models = {"*"}, .endpoints = {0}},
             {.name = "named", .models = {"llama", "soon"}, .endpoints = {1, 2}}};
  f.endpoints[1].pool = f.endpoints[2].pool = 1;
  f.endpoints[0].models = {
      {.id = "qwen", .root = "/models/qwen", .owned_by = "vllm", .max_model_len = 4096, .created = 12}};
  const std::vector<served_model> served = {{.id = "llama", .owned_by = "vllm"},
                                            {.id = "sql\"adapter", .parent = "llama", .owned_by = "vllm"},
                                            {.id = "hidden", .owned_by = "vllm"}};
  f.endpoints[1].models = f.endpoints[2].models = served;
  for (endpoint_view& e : f.endpoints) e.models_known = true;
  return f;
}

}  // namespace

TEST_CASE("models: pool names and what engines serve, each once, by name") {
  CHECK(
      models_body(lora_fleet()) ==
      R"({"object":"list","data":[)"
      R"({"id":"llama","object":"model","created":0,"owned_by":"vllm"},)"
      R"({"id":"qwen","object":"model","created":12,"owned_by":"vllm","root":"/models/qwen","max_model_len":4096},)"
      R"({"id":"soon","object":"model","created":0,"owned_by":"penstock"},)"
      R"({"id":"sql\"adapter","object":"model","created":0,"owned_by":"vllm","parent":"llama"}]})");
}

TEST_CASE("models: exactly what routing knows, described by the pool that would be asked") {
  fleet_view f = lora_fleet();
  f.endpoints[0].models.push_back({.id = "llama", .owned_by = "somebody else"});
  const std::string body = models_body(f);
  std::size_t count = 0;
  for (std::size_t at = body.find("\"object\":\"model\""); at != body.npos;
       at = body.find("\"object\":\"model\"", at + 1))
    ++count;
  const auto known = routing::known_models(f, 100);
  CHECK(count == known.size());
  for (const std::string& id : known) {
    CAPTURE(id);
    REQUIRE(model_body(f, id));
    CHECK(has(body, *model_body(f, id)));
    CHECK(routing::choose_pool(f, id) != routing::no_pool);
  }
  CHECK(has(model_body(f, "llama").value(), R"("owned_by":"vllm")"));
}

TEST_CASE("models: an empty fleet is an empty list") {
  CHECK(models_body(*fleet_of(settings(), 0)) == R"({"object":"list","data":[]})");
}

TEST_CASE("models: one by its id, adapters too, nothing that no pool lets pass") {
  const fleet_view f = lora_fleet();
  CHECK(has(model_body(f, "sql\"adapter").value(), R"("parent":"llama")"));
  CHECK(has(model_body(f, "soon").value(), R"("id":"soon")"));
  CHECK_FALSE(model_body(f, "hidden"));
  CHECK_FALSE(model_body(f, "*"));
  CHECK_FALSE(model_body(f, ""));
}
