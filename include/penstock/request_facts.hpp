// What one request asks for, read once from its body.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "penstock/api.hpp"
#include "penstock/bytes.hpp"

namespace penstock {

// One block of canonical prompt bytes. `key` chains over all blocks before it, so equal keys mean
// equal prefixes; `tokens` is the estimate for this block alone.
struct prefix_block {
  std::uint64_t key = 0;
  std::uint32_t tokens = 0;
};

// The blocks of one prompt, first to last. Bytes after the last whole block are only counted, in
// `tail_tokens`.
struct prefix_chain {
  std::vector<prefix_block> blocks;
  std::uint32_t tail_tokens = 0;

  std::uint64_t tokens() const {
    std::uint64_t sum = tail_tokens;
    for (const prefix_block& b : blocks) sum += b.tokens;
    return sum;
  }
};

// Top-level body members whose place is remembered, for splices.
enum class body_key : std::uint8_t {
  model,
  stream,
  stream_options,
  max_tokens,
  max_completion_tokens,
  max_output_tokens,
  min_tokens,
  cache_salt,
  prompt,
  prompt_token_ids,
  count_
};

// Where a member's value stands in the body: [begin, end), without surrounding white space.
// end == 0 means the member is absent.
struct value_range {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  explicit operator bool() const { return end != 0; }
};

struct request_facts {
  api_kind api = api_kind::chat;
  std::string model;  // unescaped; empty only where the API has none
  bool stream = false;
  bool client_wants_usage = false;    // stream_options.include_usage is true
  bool continuous_usage = false;      // stream_options.continuous_usage_stats is true
  bool pooling = false;               // embeddings, rerank, score: no decode, no reusable prefix
  bool exact_tokens = false;          // prompts came as token ids: counts are not estimates
  std::uint32_t n = 1;                // answers per prompt (n or best_of, the larger)
  std::uint32_t max_tokens = 0;       // output limit per answer; 0: not given
  std::vector<prefix_chain> prompts;  // one per prompt of a batch; empty where only load counts
  std::uint64_t prompt_bytes = 0;     // canonical text bytes of all prompts: what the estimate used
  std::uint64_t prompt_tokens = 0;    // estimate (or exact count) over all prompts
  std::uint64_t image_parts = 0, audio_parts = 0, video_parts = 0;  // counted, not measured in bytes
  std::string affinity;              // prompt_cache_key, else user; may be empty
  std::string previous_response_id;  // responses only
  bool has_tools = false, has_response_format = false;

  // What bears on whether prefill and decode may run on different engines.
  bool echo = false;             // the answer repeats the prompt
  bool prompt_logprobs = false;  // ... or tells about it
  bool beam_search = false;
  bool best_of = false;  // more answers are made than told
  bool prompt_embeds = false;
  bool prompt_array = false;    // completions: a list of prompts, be it of one
  std::uint8_t carried_by = 0;  // connectors that can carry it: bit 1 << connector_kind

  // Layout of the original bytes, for splices.
  value_range members[static_cast<std::size_t>(body_key::count_)];
  std::uint32_t object_end = 0;          // offset of the closing brace
  bool object_empty = false;             // no member at all: an insertion needs no comma
  std::uint32_t stream_options_key = 0;  // offset of its name's opening quote, when present
  value_range include_usage;             // stream_options.include_usage, when present
  bool stream_options_empty = false;     // stream_options is {}

  value_range member(body_key k) const { return members[static_cast<std::size_t>(k)]; }
};

}  // namespace penstock
