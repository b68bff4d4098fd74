#include "proxy/http/route.hpp"

#include <doctest/doctest.h>

#include <string>

#include "proxy/http/request_parser.hpp"

using namespace penstock;
using namespace penstock::http;

namespace {

const std::string json = "Content-Type: application/json\r\n";
const std::string form = "Content-Type: multipart/form-data; boundary=xyz\r\n";

std::variant<route, api_error> route_of(const std::string& method, const std::string& target,
                                        const std::string& fields,
                                        const std::vector<std::string>& passthrough = {}) {
  request_parser parser({});
  body_spans spans;
  const parse_result r =
      parser.feed(method + " " + target + " HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n", spans);
  if (r.status != parse_status::head) return parser.error();
  return find_route(parser.head(), passthrough);
}

// The API's name, or the reason.
std::string result(const std::string& method, const std::string& target, const std::string& fields = "",
                   const std::vector<std::string>& passthrough = {}) {
  const auto found = route_of(method, target, fields, passthrough);
  if (const auto* e = std::get_if<api_error>(&found)) return std::string(name(e->why));
  return std::string(name(std::get<route>(found).api));
}

std::string posted(const std::string& target) { return result("POST", target, json); }

}  // namespace

TEST_CASE("the named paths") {
  CHECK(posted("/v1/chat/completions") == "chat");
  CHECK(posted("/v1/completions") == "completions");
  CHECK(posted("/v1/embeddings") == "embeddings");
  CHECK(posted("/v1/responses") == "responses");
  CHECK(posted("/v1/messages") == "messages");
  CHECK(posted("/tokenize") == "tokenize");
  CHECK(posted("/detokenize") == "detokenize");
  CHECK(posted("/v1/rerank") == "rerank");
  CHECK(posted("/v1/score") == "score");
  CHECK(posted("http://a/v1/chat/completions") == "chat");
  for (const char* method : {"GET", "HEAD"}) {
    CHECK(result(method, "/v1/models") == "models");
    CHECK(result(method, "/v1/models/tiny") == "model");
    CHECK(result(method, "/health") == "health");
    CHECK(result(method, "/ping") == "health");
  }
  CHECK(result("GET", "/v1/models", "Content-Type: text/plain\r\nContent-Length: 2\r\n") == "models");
}

TEST_CASE("path and query of a route") {
  const auto found = route_of("POST", "/v1/chat/completions?a=%20b&c[]=1", json);
  REQUIRE(std::holds_alternative<route>(found));
  CHECK(std::get<route>(found).path == "/v1/chat/completions");
  CHECK(std::get<route>(found).query == "a=%20b&c[]=1");
}

TEST_CASE("model ids may hold slashes, encoded or not") {
  const auto id = [](const std::string& target) {
    const auto found = route_of("GET", target, "");
    return std::holds_alternative<route>(found) ? std::get<route>(found).model_id
                                                : std::string(name(std::get<api_error>(found).why));
  };
  CHECK(id("/v1/models/tiny") == "tiny");
  CHECK(id("/v1/models/org/name") == "org/name");
  CHECK(id("/v1/models/org%2Fname") == "org/name");
  CHECK(id("/v1/models/org%2fname:v1") == "org/name:v1");
  CHECK(id("/v1/models/a%20b%C3%A9") == "a b\xC3\xA9");
  CHECK(id("/v1/models/") == "not_found");
  CHECK(id("/v1/models/a//b") == "bad_target");
  CHECK(id("/v1/models/../health") == "bad_target");
  CHECK(id("/v1/models/%2E%2E/x") == "bad_target");
  CHECK(id("/v1/models/a%2F..%2Fb") == "bad_target");
  CHECK(id("/v1/models/a%2F%2Fb") == "bad_target");
  CHECK(id("/v1/models/a%00b") == "bad_target");
  CHECK(id("/v1/models/a%5Cb") == "bad_target");
  CHECK(id("/v1/models/%61") == "bad_target");
}

TEST_CASE("targets with two readings are refused") {
  for (const char* target :
       {"//v1/models", "/v1//models", "/v1/./models", "/v1/../models", "/v1/models/..", "/v1/%6dodels",
        "/v1%2Fmodels", "/v1/models%", "/v1/models%2", "/v1/models%zz", "/v1/mod\"els", "/v1/{x}",
        "/v1\\models", "/v1/models?a=%", "/v1/models?a={b}", "/%2e%2e/", "/v1/%00", "/.", "/.."}) {
    CAPTURE(std::string(target));
    CHECK(result("GET", target) == "bad_target");
  }
}

TEST_CASE("everything else is not found") {
  for (const char* target : {"/", "/invocations", "/metrics", "/generate", "/v1", "/v1/", "/sleep",
                             "/v2/embed", "/v1/chat/completions/", "/V1/chat/completions",
                             "/v1/chat%20completions", "/v1/a;b", "/server_info", "/v1/models/"}) {
    CAPTURE(std::string(target));
    CHECK(posted(target) == "not_found");
    CHECK(result("GET", target) == "not_found");
    CHECK(result("OPTIONS", target) == "not_found");
    CHECK(allowed_methods(target).empty());
  }
}

TEST_CASE("other POSTs under /v1/ pass, engine-internal ones do not") {
  CHECK(posted("/v1/audio/speech") == "passthrough");
  CHECK(posted("/v1/messages/count_tokens") == "passthrough");
  CHECK(posted("/v1/chat/completions/render") == "passthrough");
  CHECK(result("GET", "/v1/audio/speech") == "not_found");
  for (const char* target :
       {"/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/Load_Lora_Adapter", "/v1/x/sleep",
        "/v1/wake_up", "/v1/start_profile", "/v1/update_weights_from_disk", "/v1/collective_rpc",
        "/v1/invocations", "/v1/admin/x"}) {
    CAPTURE(std::string(target));
    CHECK(posted(target) == "not_found");
    CHECK(result("POST", target, form) == "not_found");
  }
  const std::vector<std::string> more = {"/invocations", "/v1/load_lora_adapter"};
  CHECK(result("POST", "/invocations", json, more) == "passthrough");
  CHECK(result("POST", "/v1/load_lora_adapter", json, more) == "passthrough");
  CHECK(result("POST", "/invocations/x", json, more) == "not_found");
  CHECK(result("GET", "/invocations", "", more) == "method_not_allowed");
  CHECK(allowed_methods("/invocations", more) == "POST, OPTIONS");
}

TEST_CASE("methods") {
  CHECK(result("GET", "/v1/chat/completions") == "method_not_allowed");
  CHECK(result("PUT", "/v1/chat/completions", json) == "method_not_allowed");
  CHECK(result("TRACE", "/v1/chat/completions") == "method_not_allowed");
  CHECK(posted("/v1/models") == "method_not_allowed");
  CHECK(posted("/v1/models/x") == "method_not_allowed");
  CHECK(result("DELETE", "/v1/models/x") == "method_not_allowed");
  CHECK(posted("/health") == "method_not_allowed");
  CHECK(result("CONNECT", "a:1") == "not_implemented");
  CHECK(allowed_methods("/v1/chat/completions") == "POST, OPTIONS");
  CHECK(allowed_methods("/v1/models") == "GET, HEAD, OPTIONS");
  CHECK(allowed_methods("/v1/models/a/b") == "GET, HEAD, OPTIONS");
  CHECK(allowed_methods("/v1/audio/speech") == "POST, OPTIONS");
  CHECK(result("OPTIONS", "/v1/chat/completions") == "options");
  CHECK(result("OPTIONS", "/v1/models/x") == "options");
  CHECK(result("OPTIONS", "*") == "options");
  CHECK_FALSE(allowed_methods("*").empty());
}

TEST_CASE("media types of POST bodies") {
  const auto typed = [](const std::string& type, const std::string& target = "/v1/chat/completions") {
    return result("POST", target, "Content-Type: " + type + "\r\n");
  };
  CHECK(typed("application/json; charset=utf-8") == "chat");
  CHECK(typed("Application/JSON;charset=\"UTF-8\"") == "chat");
  CHECK(typed("application/json; x=y; charset=utf-8") == "chat");
  CHECK(typed("application/json;") == "chat");
  CHECK(typed("application/json; charset=latin1") == "unsupported_media_type");
  CHECK(typed("application/json; charset") == "unsupported_media_type");
  CHECK(typed("application/json; charset=\"utf-8") == "unsupported_media_type");
  CHECK(typed("application/jsonx") == "unsupported_media_type");
  CHECK(typed("text/plain") == "unsupported_media_type");
  CHECK(typed("") == "unsupported_media_type");
  CHECK(typed("application/json, text/plain") == "unsupported_media_type");
  CHECK(typed("multipart/form-data; boundary=x") == "unsupported_media_type");
  CHECK(result("POST", "/v1/chat/completions") == "unsupported_media_type");
  CHECK(result("POST", "/v1/chat/completions", json + json) == "unsupported_media_type");
  CHECK(typed("multipart/form-data; boundary=x", "/v1/audio/transcriptions") == "multipart");
  CHECK(typed("multipart/form-data; boundary=\"a b\"", "/v1/images/edits") == "multipart");
  CHECK(typed("multipart/form-data", "/v1/audio/transcriptions") == "unsupported_media_type");
  CHECK(typed("multipart/form-data; boundary=\"\"", "/v1/audio/transcriptions") == "unsupported_media_type");
  CHECK(typed("multipart/mixed; boundary=x", "/v1/audio/transcriptions") == "unsupported_media_type");
  CHECK(typed("application/json", "/v1/audio/speech") == "passthrough");
}

TEST_CASE("encodings and expectations") {
  const auto with = [](const std::string& f) { return result("POST", "/v1/completions", json + f + "\r\n"); };
  CHECK(with("Content-Encoding: gzip") == "unsupported_encoding");
  CHECK(with("Content-Encoding: identity, br") == "unsupported_encoding");
  CHECK(with("Content-Encoding: identity\r\nContent-Encoding: gzip") == "unsupported_encoding");
  CHECK(with("Content-Encoding: Identity") == "completions");
  CHECK(with("Content-Encoding:") == "completions");
  CHECK(with("Expect: 100-continue") == "completions");
  CHECK(with("Expect: 200-maybe") == "expectation_failed");
  CHECK(with("Expect: 100-continue, x") == "expectation_failed");
}

TEST_CASE("headers that steer engines are refused with their name") {
  for (const char* field :
       {"x-data-parallel-rank", "X-Data-Parallel-Rank", "x_data_parallel_rank", "x-data-parallel-host-port",
        "x-prefiller-host-port", "x-encoder-hosts-ports", "x-kv-cache-source-host-port",
        "x-gateway-destination-endpoint", "x-gateway-destination-endpoint-subset"}) {
    CAPTURE(std::string(field));
    const auto found = route_of("POST", "/v1/chat/completions", json + field + ": 1\r\n");
    REQUIRE(std::holds_alternative<api_error>(found));
    const auto& e = std::get<api_error>(found);
    CHECK(e.why == reason::field_not_allowed);
    CHECK(iequals(e.param, field));
  }
  CHECK(result("POST", "/v1/chat/completions",
               json + "x-gateway-inference-objective: a\r\nx-envoy-a: b\r\nx-data: c\r\n") == "chat");
}
