// Facts and hashing of one chat body: parse, checks, canonical bytes, block chain.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <string>

#include "tokenizer/extractor.hpp"
#include "tokenizer/token_estimator.hpp"

namespace {

using namespace penstock;

// A coding agent's conversation: prose, code with its line breaks and quotes escaped, some other scripts.
std::string chat_body(std::size_t size) {
  constexpr std::string_view prose =
      "The relay path does no allocation and no copy per event that it can avoid, so what a stream costs is "
      "known before it begins. ";
  constexpr std::string_view code =
      R"(\nfor (const auto& part : parts) {\n    if (part.name == \"model\") {\n )"
      R"(       return part.value;\n    }\n}\n)";
  constexpr std::string_view other = "Größe, café, naïve; 桥梁承载道路。 ";
  std::string body =
      R"({"model":"m","messages":[{"role":"system","content":"You write code."},{"role":"user","content":")";
  std::size_t turn = 0, written = 0;
  for (std::size_t i = 0; body.size() + 200 < size; ++i) {
    const std::string_view piece = i % 3 == 0 ? prose : i % 3 == 1 ? code : other;
    body += piece;
    written += piece.size();
    if (written > 6000) {
      body += fmt::format(R"("}},{{"role":"{}","content":")", turn++ % 2 == 0 ? "assistant" : "user");
      written = 0;
    }
  }
  return body + R"("}],"stream":true,"temperature":0.7,"max_tokens":512})";
}

void facts(benchmark::State& state) {
  const std::string body = chat_body(static_cast<std::size_t>(state.range(0)));
  const std::string padded = body + std::string(tokenizer::body_padding, '\0');
  const std::string_view view = std::string_view(padded).substr(0, body.size());
  tokenizer::extractor reader(tokenizer::extract_options{});
  const tokenizer::token_estimator estimator;
  request_facts out;
  for (auto _ : state) {
    if (reader.read(api_kind::chat, view, estimator, out)) state.SkipWithError("refused");
    benchmark::DoNotOptimize(out.prompts.data());
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * body.size()));
  state.counters["blocks"] = static_cast<double>(out.prompts.empty() ? 0 : out.prompts[0].blocks.size());
}
BENCHMARK(facts)->Arg(2 << 10)->Arg(64 << 10)->Arg(400 << 10)->Unit(benchmark::kMicrosecond);

// The same amount of text in one string without an escape: what parsing and hashing cost at the least.
void facts_plain(benchmark::State& state) {
  const std::string body = R"({"model":"m","messages":[{"role":"user","content":")" +
                           std::string(static_cast<std::size_t>(state.range(0)), 'x') + R"("}]})";
  const std::string padded = body + std::string(tokenizer::body_padding, '\0');
  const std::string_view view = std::string_view(padded).substr(0, body.size());
  tokenizer::extractor reader(tokenizer::extract_options{});
  const tokenizer::token_estimator estimator;
  request_facts out;
  for (auto _ : state) {
    if (reader.read(api_kind::chat, view, estimator, out)) state.SkipWithError("refused");
    benchmark::DoNotOptimize(out.prompts.data());
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * body.size()));
}
BENCHMARK(facts_plain)->Arg(64 << 10)->Arg(400 << 10)->Unit(benchmark::kMicrosecond);

}  // namespace
