#include "proxy/worker/local_answers.hpp"

#include <doctest/doctest.h>

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
