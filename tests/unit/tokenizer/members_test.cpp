// What is refused, where members stand, and splices by these places.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "unit/tokenizer/reading.hpp"

using namespace penstock;
using namespace penstock::tokenizer;

namespace {

std::string refused(api_kind api, std::string_view body) {
  const reading r = read_body(api, body);
  return r.error ? fmt::format("{} {}", name(r.error->why), r.error->param) : "read";
}

std::string chat(std::string_view member) {
  return refused(api_kind::chat,
                 fmt::format(R"({{"model":"m","messages":[]{}{}}})", member.empty() ? "" : ",", member));
}

}  // namespace

TEST_CASE("missing and wrong-typed members are refused by name") {
  CHECK(chat("") == "read");
  CHECK(refused(api_kind::chat, "{}") == "missing_field model");
  CHECK(refused(api_kind::chat, R"({"model":null,"messages":[]})") == "missing_field model");
  CHECK(refused(api_kind::chat, R"({"model":"","messages":[]})") == "missing_field model");
  CHECK(refused(api_kind::chat, R"({"model":1,"messages":[]})") == "invalid_field model");
  CHECK(refused(api_kind::chat, R"({"model":"m"})") == "missing_field messages");
  CHECK(refused(api_kind::chat, R"({"model":"m","messages":"hi"})") == "invalid_field messages");
  CHECK(refused(api_kind::messages, R"({"model":"m","messages":{}})") == "invalid_field messages");
  CHECK(refused(api_kind::completions, R"({"model":"m"})") == "missing_field prompt");
  CHECK(refused(api_kind::completions, R"({"model":"m","prompt_embeds":"AA=="})") == "read");
  CHECK(refused(api_kind::completions, R"({"model":"m","prompt":7})") == "invalid_field prompt");
  CHECK(refused(api_kind::responses, R"({"model":"m"})") == "missing_field input");
  CHECK(refused(api_kind::responses, R"({"model":"m","input":{}})") == "invalid_field input");
  CHECK(refused(api_kind::embeddings, R"({"model":"m"})") == "missing_field input");
  CHECK(refused(api_kind::embeddings, R"({"model":"m","messages":[]})") == "read");
  CHECK(refused(api_kind::responses, R"({"model":"m","input":"","previous_response_id":3})") ==
        "invalid_field previous_response_id");
  CHECK(refused(api_kind::chat, fmt::format(R"({{"model":"{}","messages":[]}})", std::string(513, 'm'))) ==
        "invalid_field model");
}

TEST_CASE("scalars of generating calls have their types") {
  CHECK(chat(R"("stream":true)") == "read");
  CHECK(chat(R"("stream":null)") == "read");
  CHECK(chat(R"("stream":"true")") == "invalid_field stream");
  CHECK(chat(R"("stream":1)") == "invalid_field stream");
  CHECK(chat(R"("stream_options":[])") == "invalid_field stream_options");
  CHECK(chat(R"("stream_options":null)") == "read");
  for (const std::string_view key : {"n", "max_tokens", "max_completion_tokens", "max_output_tokens"}) {
    CHECK(chat(fmt::format(R"("{}":12)", key)) == "read");
    CHECK(chat(fmt::format(R"("{}":null)", key)) == "read");
    CHECK(chat(fmt::format(R"("{}":-1)", key)) == "read");
    CHECK(chat(fmt::format(R"("{}":123456789012345678901234567890)", key)) == "read");
    for (const std::string_view bad : {"\"12\"", "1.5", "true", "[]", "{}"}) {
      CHECK(chat(fmt::format(R"("{}":{})", key, bad)) == fmt::format("invalid_field {}", key));
    }
  }
  CHECK(chat(R"("best_of":"x","unknown":{"a":[1]},"temperature":"hot","priority":3,"cache_salt":"s")") ==
        "read");
}

TEST_CASE("calls whose engine knows its model need none") {
  for (const api_kind api :
       {api_kind::tokenize, api_kind::detokenize, api_kind::rerank, api_kind::score, api_kind::passthrough}) {
    CHECK(refused(api, R"({"prompt":"x"})") == "read");
    CHECK(refused(api, R"({"model":null})") == "read");
    CHECK(refused(api, R"({"model":5})") == "invalid_field model");
    CHECK(refused(api, R"({"stream":"x","n":"y"})") == "read");
    CHECK(refused(api, "{}") == "read");
  }
}

TEST_CASE("what engines say to each other is refused everywhere") {
  for (const std::string_view key :
       {"kv_transfer_params", "ec_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room",
        "disaggregated_params", "data_parallel_rank", "routed_dp_rank", "disagg_prefill_dp_rank",
        "disagg_prefill_resp", "remote_dp_rank", "bootstrap_pair_key"}) {
    const std::string top = fmt::format("field_not_allowed {}", key);
    CHECK(chat(fmt::format(R"("{}":{{"do_remote_prefill":true}})", key)) == top);
    CHECK(chat(fmt::format(R"("{}":null)", key)) == top);
    for (const std::string_view place : {"vllm_xargs", "extra_args", "sampling_params"}) {
      CHECK(chat(fmt::format(R"("{}":{{"a":1,"{}":1}})", place, key)) ==
            fmt::format("field_not_allowed {}.{}", place, key));
    }
    for (const api_kind api : {api_kind::passthrough, api_kind::tokenize, api_kind::embeddings,
                               api_kind::rerank, api_kind::responses, api_kind::messages,
                               api_kind::completions, api_kind::score, api_kind::detokenize}) {
      CHECK(refused(api, fmt::format(R"({{"{}":1}})", key)) == top);
    }
  }
  CHECK(chat(R"("\u006bv_transfer_params":{})") == "field_not_allowed kv_transfer_params");
  CHECK(chat(R"("vllm_xargs":{"kv_transfer_param\u0073":{}})") ==
        "field_not_allowed vllm_xargs.kv_transfer_params");
  CHECK(chat(R"("vllm_xarg\u0073":{"kv_transfer_params":{}})") ==
        "field_not_allowed vllm_xargs.kv_transfer_params");
  CHECK(chat(R"("sampling_params":{"extra_args":{"kv_transfer_params":{}}})") ==
        "field_not_allowed sampling_params.extra_args.kv_transfer_params");
  // Its place in a text is no offence.
  CHECK(chat(R"("metadata":{"kv_transfer_params":1},"vllm_xargs":{"top":"kv_transfer_params"})") == "read");
}

TEST_CASE("a member twice is refused by its unescaped name") {
  CHECK(chat(R"("a":1,"b":2,"a":3)") == "invalid_json ");
  CHECK(chat(R"("mode\u006c":"other")") == "invalid_json ");
  CHECK(chat(R"("\u0061":1,"a":2)") == "invalid_json ");
  CHECK(chat(R"("a":1,"A":2)") == "read");
  const auto error = read_body(api_kind::chat, R"({"model":"m","model":"n","messages":[]})").error;
  REQUIRE(error);
  CHECK(error->message.find("at byte 13") != std::string::npos);
  CHECK(traits(error->why).status == 400);
}

TEST_CASE("invalid JSON names its byte") {
  const auto error = read_body(api_kind::chat, R"({"model":"m","x":tru})").error;
  REQUIRE(error);
  CHECK(error->why == reason::invalid_json);
  CHECK(error->message == "The body is not valid JSON: expected true at byte 17; send one JSON object.");
}

TEST_CASE("facts of the scalars") {
  const auto f = read_body(api_kind::chat, R"({"mod\u0065l":"a\/b\u00e9","stream":true,"n":3,"best_of":5,
      "max_tokens":7,"max_completion_tokens":9,"user":"u","prompt_cache_key":"k\n","messages":[],
      "tools":[],"response_format":{"type":"json_object"}})")
                     .facts;
  CHECK(f.model == "a/b\xC3\xA9");
  CHECK(f.stream);
  CHECK(f.n == 5);
  CHECK(f.max_tokens == 9);
  CHECK(f.affinity == "k\n");
  CHECK_FALSE(f.has_tools);
  CHECK(f.has_response_format);
  CHECK_FALSE(f.pooling);
  CHECK(read_body(api_kind::embeddings, R"({"model":"m","input":"x"})").facts.pooling);
  CHECK(read_body(api_kind::messages, R"({"model":"m","messages":[],"metadata":{"user_id":"z"}})")
            .facts.affinity == "z");
  CHECK(
      read_body(api_kind::responses, R"({"model":"m","input":"x","max_output_tokens":4})").facts.max_tokens ==
      4);
  CHECK(read_body(api_kind::chat, R"({"model":"m","messages":[],"n":-5,"max_tokens":-1})").facts.n == 1);
  const std::string key(300, 'k');
  const auto long_key =
      read_body(api_kind::chat, fmt::format(R"({{"model":"m","messages":[],"user":"{}"}})", key)).facts;
  CHECK(long_key.affinity.size() == 32);
}

TEST_CASE("places of members are exact whatever the white space") {
  const std::string_view bodies[] = {
      R"({"model":"m","stream":true,"max_tokens":5,"messages":[],"min_tokens":1,"stream_options":{"x":1}})",
      "{ \"model\" : \"m\" , \"stream\" : true ,\n\t\"max_tokens\" : 5 , \"messages\" : [ ] , \"min_tokens\" "
      ": 1\n, "
      "\"stream_options\" : { \"x\" : 1 } } \n",
  };
  for (const std::string_view body : bodies) {
    const auto r = read_body(api_kind::chat, body);
    REQUIRE_FALSE(r.error);
    CHECK(at(body, r.facts.member(body_key::model)) == "\"m\"");
    CHECK(at(body, r.facts.member(body_key::stream)) == "true");
    CHECK(at(body, r.facts.member(body_key::max_tokens)) == "5");
    CHECK(at(body, r.facts.member(body_key::min_tokens)) == "1");
    CHECK(at(body, r.facts.member(body_key::stream_options)).front() == '{');
    CHECK(at(body, r.facts.member(body_key::stream_options)).back() == '}');
    CHECK_FALSE(r.facts.member(body_key::cache_salt));
    CHECK(body[r.facts.object_end] == '}');
    CHECK(body.find('}', r.facts.object_end + 1) == std::string_view::npos);
    CHECK_FALSE(r.facts.object_empty);

    const value_range model = r.facts.member(body_key::model);
    const std::string changed = spliced(body, {model.begin, model.end - model.begin, "\"other\""});
    CHECK(read_body(api_kind::chat, changed).facts.model == "other");
    const std::string added = spliced(body, {r.facts.object_end, 0, ",\"cache_salt\":\"s\""});
    const auto again = read_body(api_kind::chat, added);
    REQUIRE_FALSE(again.error);
    CHECK(at(added, again.facts.member(body_key::cache_salt)) == "\"s\"");
  }
  CHECK(read_body(api_kind::passthrough, " { } ").facts.object_empty);
}

TEST_CASE("usage is asked for once and only where it must be") {
  const auto after = [](std::string_view members) {
    const std::string body = fmt::format(R"({{"model":"m","messages":[],{}}})", members);
    const auto r = read_body(api_kind::chat, body);
    REQUIRE_FALSE(r.error);
    const auto edit = usage_splice(r.facts, body);
    if (!edit) return std::string("none");
    const std::string changed = spliced(body, *edit);
    const auto again = read_body(api_kind::chat, changed);
    REQUIRE_FALSE(again.error);
    CHECK(again.facts.client_wants_usage);
    CHECK_FALSE(usage_splice(again.facts, changed));
    return changed.substr(changed.find("[],") + 3);
  };
  CHECK(after(R"("stream":false)") == "none");
  CHECK(after(R"("stream":null)") == "none");
  CHECK(after(R"("stream":true,"stream_options":{"include_usage":true})") == "none");
  CHECK(after(R"("stream":true,"stream_options":{"continuous_usage_stats":true})") == "none");
  for (const auto* yes : {"1", "1.0", "\"yes\""}) {
    const std::string asked = fmt::format(
        R"({{"model":"m","messages":[],"stream":true,"stream_options":{{"include_usage":{}}}}})", yes);
    CHECK(read_body(api_kind::chat, asked).facts.client_wants_usage);
    CHECK(after(fmt::format(R"("stream":true,"stream_options":{{"include_usage":{}}})", yes)) == "none");
    CHECK(after(fmt::format(R"("stream":true,"stream_options":{{"continuous_usage_stats":{}}})", yes)) ==
          "none");
  }
  CHECK(after(R"("stream":true)") == R"("stream":true,"stream_options":{"include_usage":true}})");
  CHECK(after(R"("stream_options":null,"stream":true)") ==
        R"("stream_options":{"include_usage":true},"stream":true})");
  CHECK(after(R"("stream_options":{ },"stream":true)") ==
        R"("stream_options":{"include_usage":true},"stream":true})");
  CHECK(after(R"("stream_options":{"a":1 } ,"stream":true)") ==
        R"("stream_options":{"a":1 ,"include_usage":true} ,"stream":true})");
  CHECK(after(R"("stream":true,"stream_options":{"include_usage":false,"a":1})") ==
        R"("stream":true,"stream_options":{"include_usage":true,"a":1}})");
  CHECK(after(R"("stream":true,"stream_options":{"include_usage": null })") ==
        R"("stream":true,"stream_options":{"include_usage": true }})");
  CHECK(after(R"("stream":true,"stream_options":{"include_usage":true,"include\u005fusage":false})") ==
        R"("stream":true,"stream_options":{"include_usage":true,"include\u005fusage":true}})");
  const std::string body = R"({"model":"m","input":"x","stream":true})";
  CHECK_FALSE(usage_splice(read_body(api_kind::responses, body).facts, body));
}

TEST_CASE("a tenant's salt comes into the body once and takes the client's own along") {
  const auto salted = [](api_kind api, std::string_view body, std::string_view tenant) {
    const auto r = read_body(api, body);
    REQUIRE_FALSE(r.error);
    const auto edit = salt_splice(r.facts, tenant_salt(tenant, r.facts, body));
    return edit ? spliced(body, *edit) : std::string("none");
  };
  const std::string plain = R"({"model":"m","messages":[]})";
  const std::string own = R"({"model":"m", "cache_salt" : "mine" ,"messages":[]})";
  const std::string a = salted(api_kind::chat, plain, "acme"), b = salted(api_kind::chat, plain, "bolt");
  CHECK(a.starts_with(R"({"model":"m","messages":[],"cache_salt":")"));
  CHECK(a.size() == plain.size() + std::string_view(R"(,"cache_salt":"")").size() + 32);
  CHECK(a != b);
  CHECK(a == salted(api_kind::chat, plain, "acme"));
  const std::string c = salted(api_kind::chat, own, "acme");
  CHECK(c.find("mine") == std::string::npos);
  CHECK(c != salted(api_kind::chat, own, "bolt"));
  // What a client says cannot make it another tenant.
  CHECK(c.find(a.substr(a.size() - 34, 32)) == std::string::npos);
  CHECK_FALSE(read_body(api_kind::chat, c).error);
  const std::string anthropic = R"({"model":"m","max_tokens":1,"messages":[]})";
  CHECK(salted(api_kind::messages, anthropic, "acme")
            .starts_with(R"({"model":"m","max_tokens":1,"messages":[],"cache_salt":")"));
  CHECK(salted(api_kind::messages, anthropic, "acme") != salted(api_kind::messages, anthropic, "bolt"));
  CHECK(salted(api_kind::embeddings, R"({"model":"m","input":"x"})", "acme") == "none");
}
