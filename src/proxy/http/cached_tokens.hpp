// The one figure of an answer that only another engine knows: how much of the prompt came from a cache.
#pragma once

#include <cstdint>
#include <string>

#include "penstock/api.hpp"
#include "penstock/bytes.hpp"

namespace penstock::http {

// Copies `text` (JSON that has one usage object, or an event with it) to `out` with `cached` as the count of
// cached prompt tokens: OpenAI's cached_tokens; Anthropic's cache_read_input_tokens, where input_tokens
// changes by as much, since the prompt is their sum. Only these digits change. False, with nothing copied,
// where the text does not tell such a count or a sum could not hold it.
bool correct_cached(api_kind api, bytes_view text, std::uint64_t cached, std::string& out);

}  // namespace penstock::http
