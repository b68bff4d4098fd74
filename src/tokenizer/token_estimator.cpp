#include "tokenizer/token_estimator.hpp"

#include <algorithm>
#include <cmath>

namespace penstock::tokenizer {
namespace {

constexpr std::size_t max_models = 256;
constexpr double least_ratio = 0.25, greatest_ratio = 64;
constexpr double least_part = 1, greatest_part = 1e6;  // tokens of one image, audio or video part

// A chat template adds some ten to fifty tokens that have no bytes in the body, so short prompts say
// little: a sample of this many tokens has half of the full weight.
constexpr double half_weight_tokens = 512;

// Figures move in steps bounded in the logarithm. Far from the truth every sample pulls by the same
// bounded step, which is how a running median moves, so a few wrong counts do little; near to it the
// step is a moving average's. The first samples may move far.
constexpr std::uint32_t warmup_samples = 8;
constexpr double warmup_step = 0.7, steady_step = 0.03, steady_rate = 0.05;

void step(double& figure, double observed, double weight, std::uint32_t samples, double least,
          double greatest) {
  const bool warm = samples >= warmup_samples;
  const double rate = std::max(steady_rate, 1.0 / (samples + 1.0));
  const double bound = warm ? steady_step : warmup_step;
  const double move = std::clamp(rate * std::log(observed / figure), -bound, bound);
  figure = std::clamp(figure * std::exp(weight * move), least, greatest);
}

}  // namespace

token_estimator::token_estimator() = default;

const token_estimator::figures& token_estimator::of(std::string_view model) const {
  static constexpr figures unknown;
  const auto found = models_.find(model);
  if (found != models_.end()) return found->second;
  return models_.size() < max_models ? unknown : shared_;
}

token_estimator::figures& token_estimator::entry(std::string_view model) {
  const auto found = models_.find(model);
  if (found != models_.end()) return found->second;
  if (models_.size() >= max_models) return shared_;
  return models_.emplace(model, figures{}).first->second;
}

std::uint64_t token_estimator::figures::estimate(std::uint64_t text_bytes, std::uint64_t images,
                                                 std::uint64_t audios, std::uint64_t videos) const {
  const double tokens =
      static_cast<double>(text_bytes) / bytes_per_token + static_cast<double>(images) * image_tokens +
      static_cast<double>(audios) * audio_tokens + static_cast<double>(videos) * video_tokens;
  return static_cast<std::uint64_t>(std::ceil(tokens));
}

void token_estimator::learn(const request_facts& facts, std::uint64_t prompt_tokens) {
  const bool says_nothing = facts.exact_tokens || facts.api == api_kind::rerank ||
                            facts.api == api_kind::score || !facts.previous_response_id.empty();
  if (says_nothing || prompt_tokens == 0) return;
  if (facts.image_parts + facts.audio_parts + facts.video_parts != 0) {
    learn_media(entry(facts.model), facts, prompt_tokens);
    return;
  }
  const double ratio = static_cast<double>(facts.prompt_bytes) / static_cast<double>(prompt_tokens);
  if (ratio < least_ratio || ratio > greatest_ratio) return;
  learn_text(entry(facts.model), facts.prompt_bytes, prompt_tokens);
}

void token_estimator::learn_text(figures& f, std::uint64_t bytes, std::uint64_t tokens) {
  const auto count = static_cast<double>(tokens);
  const double weight = count / (count + half_weight_tokens);
  step(f.bytes_per_token, static_cast<double>(bytes) / count, weight, f.text_samples, least_ratio,
       greatest_ratio);
  f.text_samples = std::min(f.text_samples + 1, warmup_samples * 1000);
}

// What text does not explain is the parts'. Several kinds share it as their figures stand, and the less
// of the prompt they are, the less it says.
void token_estimator::learn_media(figures& f, const request_facts& facts, std::uint64_t tokens) {
  const double text = static_cast<double>(facts.prompt_bytes) / f.bytes_per_token;
  const double media = static_cast<double>(facts.image_parts) * f.image_tokens +
                       static_cast<double>(facts.audio_parts) * f.audio_tokens +
                       static_cast<double>(facts.video_parts) * f.video_tokens;
  const double residual = static_cast<double>(tokens) - text;
  const auto parts = static_cast<double>(facts.image_parts + facts.audio_parts + facts.video_parts);
  if (residual > parts * greatest_part) return;
  const double factor = std::max(residual, parts * least_part) / media;
  const double weight = std::max(residual, media) / (std::max(residual, media) + text);
  const auto learn_kind = [&](double& figure, std::uint64_t count) {
    if (count != 0) step(figure, figure * factor, weight, f.media_samples, least_part, greatest_part);
  };
  learn_kind(f.image_tokens, facts.image_parts);
  learn_kind(f.audio_tokens, facts.audio_parts);
  learn_kind(f.video_tokens, facts.video_parts);
  f.media_samples = std::min(f.media_samples + 1, warmup_samples * 1000);
}

}  // namespace penstock::tokenizer
