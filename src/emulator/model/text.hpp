// Tokens and words of the emulated engines: the same prompt gives the same tokens, blocks and answer
// everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::emulator {

// A token is up to 4 bytes of text, little-endian in the number. The byte 0xff, which UTF-8 never has,
// marks the tokens of the chat template.
using token_id = std::uint32_t;
inline constexpr std::size_t token_bytes = 4;

// Builds the tokens of a prompt. Each message is a header, its content from a fresh token on, and an end,
// so that a conversation that goes on has the same leading tokens.
class prompt_builder {
 public:
  prompt_builder() { tokens_.push_back(begin_of_text); }

  void begin_message(std::string_view role);
  void text(std::string_view content);
  // An image, sound or video part: 256 tokens that depend on `reference` (its URL or data) alone.
  void media(std::string_view reference);
  void end_message();
  void raw(std::span<const token_id> tokens) { tokens_.insert(tokens_.end(), tokens.begin(), tokens.end()); }

  std::vector<token_id> take() { return std::move(tokens_); }

  static constexpr token_id begin_of_text = 0x000000ff;
  static constexpr token_id end_of_message = 0x000002ff;

 private:
  std::vector<token_id> tokens_;
};

void append_tokens(std::vector<token_id>& tokens, std::string_view text);
// The text of tokens; those of the chat template have none.
std::string detokenize(std::span<const token_id> tokens);

// Chained names of the whole blocks of `tokens`. What must not share a cache (adapter, cache salt) goes
// into the seed. A name is never 0.
std::vector<std::uint64_t> block_names(std::span<const token_id> tokens, std::uint32_t block_tokens,
                                       std::uint64_t seed);
std::uint64_t hash_text(std::string_view text, std::uint64_t seed);

struct answer_request {
  std::uint32_t max_tokens = 0;
  std::uint32_t min_tokens = 0;
  bool ignore_eos = false;
  std::uint32_t choice = 0;      // n > 1: each has its own text
  std::uint64_t foreign_kv = 0;  // not 0: KV of something else was loaded in place of the prompt's
  std::vector<std::string> stop;
};

enum class finish_kind : std::uint8_t {
  length,
  stop,
  not_finished  // a prefill leg that was asked for more than its one token (TensorRT-LLM)
};

// A whole answer. Token i is bytes [4 i, 4 i + 4) of `text` as far as there are; a natural end is one
// more token without text, as an end-of-sequence token is.
struct answer {
  std::vector<token_id> tokens;
  std::string text;
  finish_kind finish = finish_kind::length;
  std::string stop_sequence;  // that ended it, if one did

  std::string_view piece(std::size_t i) const {
    const std::size_t from = i * token_bytes;
    return from >= text.size() ? std::string_view{} : std::string_view(text).substr(from, token_bytes);
  }
};

// Each token depends on all before it, so a prompt that ends with the beginning of an answer goes on with
// the rest of that answer. The natural length, 24 to 279 tokens, depends on the prompt.
answer make_answer(std::span<const token_id> prompt, const answer_request& request);
// What KV of this prompt is, to whoever reads it; never 0. The seed is the one of block_names().
std::uint64_t content_of(std::span<const token_id> prompt, std::uint64_t seed);
// The state after a prompt, from which an answer follows.
std::uint64_t prompt_state(std::span<const token_id> prompt);

}  // namespace penstock::emulator
