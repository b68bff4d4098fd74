// The top-level members of a request body: where they stand, and which of them are refused.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/api.hpp"
#include "penstock/error.hpp"
#include "penstock/request_facts.hpp"
#include "tokenizer/json_doc.hpp"

namespace penstock::tokenizer {

// Members that something here reads, by their names.
enum class field : std::uint8_t {
  model,
  stream,
  stream_options,
  max_tokens,
  max_completion_tokens,
  max_output_tokens,
  min_tokens,
  n,
  best_of,
  // What the prompt is made of.
  messages,
  prompt,
  prompt_embeds,
  input,
  instructions,
  system,
  tools,
  documents,
  previous_response_id,
  query,
  queries,
  items,
  text_1,
  text_2,
  data_1,
  data_2,
  texts,
  tokens,
  token_ids,
  prompt_token_ids,
  // What changes the head of a prompt.
  cache_salt,
  chat_template,
  reasoning_effort,
  reasoning,
  output_config,
  tool_choice,
  // Other arguments of the template.
  chat_template_kwargs,
  add_generation_prompt,
  continue_final_message,
  add_special_tokens,
  mm_processor_kwargs,
  thinking,
  // What answers look like, and who asks.
  response_format,
  text,
  structured_outputs,
  output_format,
  prompt_cache_key,
  user,
  metadata,
  // What only an engine that computed the prompt itself can answer.
  echo,
  prompt_logprobs,
  use_beam_search,
  // Where engine-internal members could hide.
  vllm_xargs,
  extra_args,
  sampling_params,
  count_
};

// More top-level members than any API has: refused, since each costs a look-up.
inline constexpr std::size_t max_members = 4096;

// May be used for one body after the other.
class body_members {
 public:
  // Finds the members of a checked body. Refuses duplicate names (engines disagree on which one counts)
  // and what only engines may say to each other, also inside vllm_xargs.
  std::optional<api_error> read(const json_doc& doc);

  // The value's index, or root where the member is absent.
  json_doc::index operator[](field f) const { return values_[static_cast<std::size_t>(f)]; }

 private:
  std::array<json_doc::index, static_cast<std::size_t>(field::count_)> values_{};
  std::vector<std::pair<std::uint64_t, std::uint32_t>> keys_;  // hash and place of each name, while reading
};

// Whether a member (of a body, of vllm_xargs, of a form) may only be sent by engines and proxies: P/D
// hand-offs and data-parallel ranks. One of them kills a vLLM that gets it from a client.
bool is_engine_internal(std::string_view name);

// Makes the scalars of the facts from the members and notes where they stand. Refuses missing and
// wrong-typed members by the rules of the API.
std::optional<api_error> read_scalars(api_kind api, const json_doc& doc, const body_members& members,
                                      request_facts& out);

}  // namespace penstock::tokenizer
