// What a prefill engine's answer says: the parameters of the hand-off, and what the client is told of it.
#pragma once

#include <cstdint>
#include <string>

#include "penstock/bytes.hpp"
#include "penstock/config.hpp"

namespace penstock::handoff {

struct prefill_answer {
  bool read = false;  // JSON, and an object
  bytes_view params;  // the object to be passed on, verbatim and inside the body; empty: none that is usable
  bytes_view prompt_ids;   // trtllm: the array of the prompt's tokens, inside the body; empty: not told
  bool error = false;      // an error in place of an answer
  bool handed_on = false;  // a decode engine finds what was computed
  bool finished = false;   // trtllm: its first token ended the answer, which is the client's as it is
  bool cached_known = false;
  std::uint64_t cached_tokens = 0;  // of the prompt, from the prefill engine's prefix cache
};

// Reads a whole body. `body` outlives the result. Parameters that lack what the decode engine needs to find
// the blocks count as none: vLLM would compute the prompt anew without a word.
prefill_answer read_prefill_answer(connector_kind kind, bytes_view body);

}  // namespace penstock::handoff
