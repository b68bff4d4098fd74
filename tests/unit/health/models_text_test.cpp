#include "health/models_text.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

using namespace penstock;
using namespace penstock::health;

namespace {

// Recorded from vLLM 0.32.0; the permission shortened.
constexpr std::string_view vllm =
    R"({"object":"list","data":[{"id":"tiny","object":"model","created":1795369851,"owned_by":"vllm",)"
    R"("root":"/models/tiny","parent":null,"max_model_len":4096,"permission":[{"id":"modelperm-bff",)"
    R"("object":"model_permission","created":1795369851,"allow_sampling":true,"group":null}]}]})";

// Recorded from llama.cpp b11434, shortened.
constexpr std::string_view llama =
    R"({"models":[{"name":"tiny","model":"tiny","type":"model","tags":[""],"details":{"format":"gguf"}}],)"
    R"("object":"list","data":[{"id":"tiny","aliases":["tiny"],"tags":[],"object":"model","created":1795369105,)"
    R"("owned_by":"llamacpp","meta":{"vocab_type":2,"n_ctx":4096,"n_ctx_train":32768,"ftype":"all F32"}}]})";

}  // namespace

TEST_CASE("the models of vLLM") {
  const auto models = read_models(vllm);
  REQUIRE(models);
  REQUIRE(models->size() == 1);
  const auto& m = models->front();
  CHECK(m.id == "tiny");
  CHECK(m.root == "/models/tiny");
  CHECK(m.parent == "");
  CHECK(m.owned_by == "vllm");
  CHECK(m.max_model_len == 4096);
  CHECK(m.created == 1795369851);
}

TEST_CASE("adapters have a parent") {
  const auto models = read_models(
      R"({"data":[{"id":"base","root":"org/base","parent":null},{"id":"sql","root":"/l/sql","parent":"base"}]})");
  REQUIRE(models);
  REQUIRE(models->size() == 2);
  CHECK((*models)[1].id == "sql");
  CHECK((*models)[1].parent == "base");
  CHECK((*models)[1].root == "/l/sql");
}

TEST_CASE("the models of llama.cpp: the other list is ignored, the context length is in meta") {
  const auto models = read_models(llama);
  REQUIRE(models);
  REQUIRE(models->size() == 1);
  CHECK(models->front().id == "tiny");
  CHECK(models->front().root == "tiny");
  CHECK(models->front().max_model_len == 4096);
}

TEST_CASE("aliases are models with the root of what they name, and hide none") {
  const auto models =
      read_models(R"({"data":[{"id":"a","aliases":["a","b","c",5,""],"created":3},{"id":"c","created":9}]})");
  REQUIRE(models);
  REQUIRE(models->size() == 3);
  CHECK((*models)[0].id == "a");
  CHECK((*models)[1].id == "c");
  CHECK((*models)[1].created == 9);
  CHECK((*models)[2].id == "b");
  CHECK((*models)[2].root == "a");
  CHECK((*models)[2].created == 3);
}

TEST_CASE("entries without a usable id are left out, wrong types are absent fields") {
  const auto models = read_models(
      R"({"data":[null,5,"x",[],{},{"id":null},{"id":7},{"id":""},{"id":"ok","root":5,"parent":{},)"
      R"("owned_by":[],"max_model_len":-1,"created":"then"},{"id":"ok","owned_by":"second"}]})");
  REQUIRE(models);
  REQUIRE(models->size() == 1);
  const auto& m = models->front();
  CHECK(m.id == "ok");
  CHECK(m.root == "ok");
  CHECK(m.parent == "");
  CHECK(m.owned_by == "");
  CHECK(m.max_model_len == 0);
  CHECK(m.created == 0);
}

TEST_CASE("an id is taken unescaped and only up to its bound") {
  const std::string longest(max_model_id_bytes, 'x');
  const auto models = read_models(R"({"data":[{"id":"\u006d\/1"},{"id":")" + longest + R"("},{"id":")" +
                                  longest + R"(x"}]})");
  REQUIRE(models);
  REQUIRE(models->size() == 2);
  CHECK((*models)[0].id == "m/1");
  CHECK((*models)[1].id == longest);
}

TEST_CASE("no list of models") {
  for (const std::string text :
       {"", " ", "null", "[]", "{}", "5", R"({"data":null})", R"({"data":{}})",
        R"({"models":[{"name":"x"}]})", R"({"data":[{"id":"x"}])", R"({"data":[{"id":"x"}]} trailing)",
        R"({"data":[{"id":"\ud800"}]})", "{\"data\":[{\"id\":\"\xff\"}]}", "<html></html>"}) {
    CHECK_MESSAGE(!read_models(text), text);
  }
  CHECK_FALSE(read_models(std::string(5000, '[')));
  CHECK_FALSE(read_models(std::string(max_models_text_bytes + 1, ' ')));
  const auto empty = read_models(R"({"object":"list","data":[]})");
  REQUIRE(empty);
  CHECK(empty->empty());
}

TEST_CASE("the list is bounded, with aliases as well") {
  std::string many = R"({"data":[)";
  for (int i = 0; i < 6000; ++i) many += R"({"id":"m)" + std::to_string(i) + R"("},)";
  many += R"({"id":"last"}]})";
  const auto models = read_models(many);
  REQUIRE(models);
  CHECK(models->size() == max_models);
  CHECK(models->back().id == "m4095");

  std::string aliases = R"({"data":[{"id":"m","aliases":[)";
  for (int i = 0; i < 6000; ++i) aliases += "\"a" + std::to_string(i) + "\",";
  CHECK(read_models(aliases + R"("z"]}]})")->size() == max_models);
}

TEST_CASE("an answer cut anywhere is no list") {
  for (std::size_t cut = 0; cut < llama.size(); ++cut) CHECK_FALSE(read_models(llama.substr(0, cut)));
}
