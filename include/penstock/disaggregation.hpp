// Words about requests that are prefilled on one engine and decoded on another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock {

// How prefill and decode engines pass a prompt's KV cache on; what each says on the wire is in
// src/proxy/handoff.
enum class connector_kind : std::uint8_t { nixl, mooncake, sglang, trtllm, moriio };
inline constexpr std::size_t connector_count = 5;
constexpr std::string_view name(connector_kind v) {
  constexpr std::string_view names[] = {"nixl", "mooncake", "sglang", "trtllm", "moriio"};
  return names[static_cast<std::size_t>(v)];
}

// What configuration and decisions must know of a connector.
struct connector_traits {
  bool decode_serves_alone;  // an engine of role decode can also take a whole request
  bool bootstrap;            // the engines find each other through a server of the prefill engine
  bool ranks_have_ids;       // ... which tells what its ranks are called, for the decode request
};
constexpr connector_traits traits(connector_kind v) {
  // SGLang's decode engines have no prefill path: they answer 400 to what comes without a room.
  constexpr connector_traits rows[] = {
      {.decode_serves_alone = true, .bootstrap = false, .ranks_have_ids = false},  // nixl
      {.decode_serves_alone = true, .bootstrap = true, .ranks_have_ids = true},    // mooncake
      {.decode_serves_alone = false, .bootstrap = true, .ranks_have_ids = false},  // sglang
      {.decode_serves_alone = true, .bootstrap = false, .ranks_have_ids = false},  // trtllm
      {.decode_serves_alone = true, .bootstrap = false, .ranks_have_ids = false},  // moriio
  };
  return rows[static_cast<std::size_t>(v)];
}

// Why a request was split, or was not.
enum class split_choice : std::uint8_t {
  not_asked,     // its pool does not split requests
  cheaper,       // two engines were expected to be sooner
  dearer,        // ... or later
  told_to,       // by configuration
  told_not_to,   // by configuration
  long_prompt,   // at or above the configured number of uncached tokens
  short_prompt,  // below it
  not_carried,   // a hand-off cannot carry what it asks for
  no_pair,       // no prefill and decode engine of one group are there
  only_split,    // nobody can serve it in one place
};
inline constexpr std::size_t split_choice_count = 10;
constexpr std::string_view name(split_choice v) {
  constexpr std::string_view names[] = {"not_asked",   "cheaper",     "dearer",       "told_to",
                                        "told_not_to", "long_prompt", "short_prompt", "not_carried",
                                        "no_pair",     "only_split"};
  return names[static_cast<std::size_t>(v)];
}
// Whether the first candidate of a plan with this choice names a prefill engine.
constexpr bool is_split(split_choice v) {
  return v == split_choice::cheaper || v == split_choice::told_to || v == split_choice::long_prompt ||
         v == split_choice::only_split;
}

}  // namespace penstock
