// Answers without generated tokens: embeddings, rerank, score, tokenize.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "emulator/server/answer_shape.hpp"
#include "emulator/server/json_text.hpp"
#include "penstock/random.hpp"

namespace penstock::emulator {
namespace {

constexpr int dimensions = 16;

class pooling_shape final : public answer_shape {
 public:
  using answer_shape::answer_shape;

  void first(std::uint32_t, const usage_counts&, events&) override {}
  void token(std::uint32_t, std::string_view, const answer*, const usage_counts&, events&) override {}
  void close(std::span<const answer>, const usage_counts&, bool, events&) override {}
  std::string public_id() const override { return identity_.id; }

  std::string whole(std::span<const answer>, const usage_counts& u) override {
    switch (request_.api) {
      case engine_api::rerank: return rerank(u);
      case engine_api::score: return score(u);
      case engine_api::tokenize: return tokens();
      default: return embeddings(u);
    }
  }

 private:
  prng randomness(std::size_t prompt) const { return prng(prompt_state(request_.prompts[prompt])); }

  static std::string usage(const usage_counts& u) {
    return fmt::format(

        R"("usage":{{"prompt_tokens":{0},"total_tokens":{0},"completion_tokens":0,)"
        R"("prompt_tokens_details":null}})",
        u.prompt);
  }

  std::string vector(std::size_t prompt) const {
    prng random = randomness(prompt);
    float values[dimensions];
    for (float& v : values) v = static_cast<float>(random.unit() * 2 - 1);
    if (request_.base64_vectors) {
      char raw[sizeof values];  // little-endian, as clients expect
      std::memcpy(raw, values, sizeof raw);
      return quote(base64({raw, sizeof raw}));
    }
    return fmt::format("[{}]", fmt::join(values, ","));
  }

  std::string list(std::string_view prefix) const {
    return fmt::format(R"({{"id":{},"object":"list","created":{},"model":{},"data":[)",
                       quote(std::string(prefix) + "-" + identity_.id), identity_.created,
                       quote(request_.model));
  }

  std::string embeddings(const usage_counts& u) const {
    std::string text = list("embd");
    for (std::size_t i = 0; i < request_.prompts.size(); ++i) {
      fmt::format_to(std::back_inserter(text), R"({}{{"index":{},"object":"embedding","embedding":{}}})",
                     i > 0 ? "," : "", i, vector(i));
    }
    return text + "]," + usage(u) + "}";
  }

  std::string score(const usage_counts& u) const {
    std::string text = list("score");
    for (std::size_t i = 0; i < request_.prompts.size(); ++i) {
      fmt::format_to(std::back_inserter(text), R"({}{{"index":{},"object":"score","score":{:.6f}}})",
                     i > 0 ? "," : "", i, randomness(i).unit());
    }
    return text + "]," + usage(u) + "}";
  }

  std::string rerank(const usage_counts& u) const {
    std::string text =
        fmt::format(R"({{"id":{},"model":{},"usage":{{"prompt_tokens":{},"total_tokens":{}}},"results":[)",
                    quote("rerank-" + identity_.id), quote(request_.model), u.prompt, u.prompt);
    std::vector<std::pair<double, std::size_t>> ranked;
    for (std::size_t i = 0; i < request_.prompts.size(); ++i) ranked.emplace_back(-randomness(i).unit(), i);
    std::sort(ranked.begin(), ranked.end());
    for (const auto& [negative, i] : ranked) {
      fmt::format_to(
          std::back_inserter(text),
          R"({}{{"index":{},"document":{{"text":{},"multi_modal":null}},"relevance_score":{:.6f}}})",
          text.back() == '[' ? "" : ",", i, quote(request_.texts[i]), -negative);
    }
    return text + "]}";
  }

  std::string tokens() const {
    const auto& prompt = request_.prompts.front();
    return fmt::format(R"({{"count":{},"max_model_len":{},"tokens":[{}],"token_strs":null}})", prompt.size(),
                       request_.max_tokens, fmt::join(prompt, ","));
  }
};

}  // namespace

std::unique_ptr<answer_shape> make_pooling_shape(const engine_request& request,
                                                 const answer_identity& identity) {
  return std::make_unique<pooling_shape>(request, identity);
}

}  // namespace penstock::emulator
