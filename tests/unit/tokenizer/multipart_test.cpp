#include <doctest/doctest.h>
#include <fmt/format.h>

#include "unit/tokenizer/reading.hpp"

using namespace penstock;
using namespace penstock::tokenizer;

namespace {

constexpr std::string_view type = "multipart/form-data; boundary=XX";

reading form(std::string_view body, std::string_view content_type = type) {
  extractor reader(extract_options{});
  reading r;
  r.error = reader.read_multipart(content_type, body, r.facts);
  return r;
}

std::string part(std::string_view head, std::string_view value) {
  return fmt::format("--XX\r\n{}\r\n\r\n{}\r\n", head, value);
}

std::string named(std::string_view name, std::string_view value) {
  return part(fmt::format("Content-Disposition: form-data; name=\"{}\"", name), value);
}

const std::string file = part(
    "Content-Disposition: form-data; name=\"file\"; filename=\"a; name=model.wav\"\r\nContent-Type: "
    "audio/wav",
    std::string("RIFF\0--XX\r\n-\r\n--X", 18));

}  // namespace

TEST_CASE("a form names its model wherever the field stands") {
  for (const std::string& body :
       {named("model", "whisper") + file + "--XX--\r\n", file + named("model", "whisper") + "--XX--",
        "preamble\r\n" + file + named("stream", "true") + named("model", "whisper") + "--XX--\r\nepilogue"}) {
    const auto r = form(body);
    REQUIRE_FALSE(r.error);
    CHECK(r.facts.model == "whisper");
    CHECK(r.facts.api == api_kind::multipart);
    CHECK(r.facts.stream == (body.find("stream") != std::string::npos));
  }
}

TEST_CASE("spellings of heads and boundaries") {
  CHECK(form("--XX\r\ncontent-disposition:form-data;NAME=model\r\n\r\nm\r\n--XX--").facts.model == "m");
  CHECK(form("--XX \t\r\nContent-Disposition: form-data; name=\"mod\\el\"\r\n\r\nm\r\n--XX--").facts.model ==
        "m");
  CHECK(form(named("model", "m") + "--XX--", "multipart/form-data; charset=utf-8; Boundary=\"XX\"")
            .facts.model == "m");
  CHECK(form(named("model", "") + "--XX--").facts.model.empty());
  CHECK_FALSE(form("--XX\r\n\r\nheadless\r\n--XX--").error);
  CHECK_FALSE(form("--XX--").error);
  CHECK(form(part("Content-Disposition: form-data", "x") + "--XX--").facts.model.empty());
}

TEST_CASE("forms that are refused") {
  const auto why = [](const reading& r) {
    return r.error ? std::string(name(r.error->why)) + " " + r.error->param : "read";
  };
  CHECK(why(form("--XX--", "multipart/form-data")) == "invalid_field ");
  CHECK(why(form("--XX--", "multipart/form-data; boundary=" + std::string(71, 'x'))) == "invalid_field ");
  CHECK(why(form("")) == "invalid_field ");
  CHECK(why(form("no delimiter")) == "invalid_field ");
  CHECK(why(form(named("model", "a") + named("model", "b") + "--XX--")) == "invalid_field model");
  CHECK(why(form(named("model", std::string(513, 'm')) + "--XX--")) == "invalid_field model");
  CHECK(why(form(named("kv_transfer_params", "{}") + "--XX--")) == "field_not_allowed kv_transfer_params");
  std::string many;
  for (int i = 0; i < 1100; ++i) many += named("x", "");
  CHECK(why(form(many + "--XX--")) == "invalid_field ");
}

TEST_CASE("a form cut anywhere is refused, not misread") {
  const std::string body = named("model", "whisper") + file + "--XX--";
  for (std::size_t i = 0; i < body.size(); ++i) {
    CAPTURE(i);
    CHECK(form(std::string_view(body).substr(0, i)).error.has_value());
  }
}
