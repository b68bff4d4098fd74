// How many tokens a prompt has, learned from what engines report.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "penstock/request_facts.hpp"

namespace penstock::tokenizer {

// Per model: bytes per token, and tokens per image, audio and video part, corrected online by `usage`.
// Bounded (256 models; further ones share one entry). One per worker, not thread safe.
class token_estimator {
 public:
  token_estimator();

  // What is believed of one model.
  struct figures {
    double bytes_per_token = 4.0;
    double image_tokens = 1000, audio_tokens = 500, video_tokens = 4000;  // of one part
    std::uint32_t text_samples = 0, media_samples = 0;

    // Tokens of a prompt with so much text and so many parts.
    std::uint64_t estimate(std::uint64_t text_bytes, std::uint64_t images, std::uint64_t audios,
                           std::uint64_t videos) const;
  };
  // Valid until the next learn().
  const figures& of(std::string_view model) const;

  // Bytes of canonical text per token for this model; 4.0 until something was learned.
  double bytes_per_token(std::string_view model) const { return of(model).bytes_per_token; }
  std::uint64_t estimate(std::string_view model, std::uint64_t text_bytes, std::uint64_t images,
                         std::uint64_t audios, std::uint64_t videos) const {
    return of(model).estimate(text_bytes, images, audios, videos);
  }

  // Corrects the figures by what the engine counted for a request with these facts. Absurd counts
  // (0, or a ratio outside 0.25..64 bytes per token) are ignored, and so are requests whose count says
  // nothing about text: token ids, rerank and score, a conversation that the engine continues from memory.
  void learn(const request_facts& facts, std::uint64_t prompt_tokens);

 private:
  // Looks names up without making a string of them.
  struct name_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view name) const { return std::hash<std::string_view>{}(name); }
  };

  figures& entry(std::string_view model);
  static void learn_text(figures& f, std::uint64_t bytes, std::uint64_t tokens);
  static void learn_media(figures& f, const request_facts& facts, std::uint64_t tokens);

  std::unordered_map<std::string, figures, name_hash, std::equal_to<>> models_;
  figures shared_;
};

}  // namespace penstock::tokenizer
