// The client-facing calls that Penstock tells apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock {

enum class api_kind : std::uint8_t {
  chat,         // POST /v1/chat/completions
  completions,  // POST /v1/completions
  responses,    // POST /v1/responses
  messages,     // POST /v1/messages (Anthropic)
  embeddings,   // POST /v1/embeddings
  rerank,       // POST /v1/rerank
  score,        // POST /v1/score
  tokenize,     // POST /tokenize
  detokenize,   // POST /detokenize
  passthrough,  // other allowed JSON POST: routed by load alone
  multipart,    // POST /v1/audio/* and other multipart forms: routed by load alone
  models,       // GET /v1/models
  model,        // GET /v1/models/{id}
  health,       // GET /health, /ping
  options,      // OPTIONS *
  unknown,      // refused before its path was known, or with one that does not exist
};

inline constexpr std::size_t api_count = 16;

// The name in logs and metrics.
constexpr std::string_view name(api_kind v) {
  constexpr std::string_view names[] = {"chat",      "completions", "responses", "messages",   "embeddings",
                                        "rerank",    "score",       "tokenize",  "detokenize", "passthrough",
                                        "multipart", "models",      "model",     "health",     "options",
                                        "unknown"};
  return names[static_cast<std::size_t>(v)];
}

// The shapes of errors and stream ends; most calls speak OpenAI's chat dialect.
enum class dialect : std::uint8_t { openai, responses, anthropic };

constexpr dialect dialect_of(api_kind k) {
  if (k == api_kind::responses) return dialect::responses;
  if (k == api_kind::messages) return dialect::anthropic;
  return dialect::openai;
}

}  // namespace penstock
