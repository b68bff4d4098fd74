#include "tokenizer/body_members.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace penstock::tokenizer {
namespace {

using index = json_doc::index;

struct named_field {
  field key;
  std::string_view name;
};

constexpr named_field named_fields[] = {
    {field::model, "model"},
    {field::stream, "stream"},
    {field::stream_options, "stream_options"},
    {field::max_tokens, "max_tokens"},
    {field::max_completion_tokens, "max_completion_tokens"},
    {field::max_output_tokens, "max_output_tokens"},
    {field::min_tokens, "min_tokens"},
    {field::n, "n"},
    {field::best_of, "best_of"},
    {field::messages, "messages"},
    {field::prompt, "prompt"},
    {field::prompt_embeds, "prompt_embeds"},
    {field::input, "input"},
    {field::instructions, "instructions"},
    {field::system, "system"},
    {field::tools, "tools"},
    {field::documents, "documents"},
    {field::previous_response_id, "previous_response_id"},
    {field::query, "query"},
    {field::queries, "queries"},
    {field::items, "items"},
    {field::text_1, "text_1"},
    {field::text_2, "text_2"},
    {field::data_1, "data_1"},
    {field::data_2, "data_2"},
    {field::texts, "texts"},
    {field::tokens, "tokens"},
    {field::token_ids, "token_ids"},
    {field::prompt_token_ids, "prompt_token_ids"},
    {field::cache_salt, "cache_salt"},
    {field::chat_template, "chat_template"},
    {field::reasoning_effort, "reasoning_effort"},
    {field::reasoning, "reasoning"},
    {field::output_config, "output_config"},
    {field::tool_choice, "tool_choice"},
    {field::chat_template_kwargs, "chat_template_kwargs"},
    {field::add_generation_prompt, "add_generation_prompt"},
    {field::continue_final_message, "continue_final_message"},
    {field::add_special_tokens, "add_special_tokens"},
    {field::mm_processor_kwargs, "mm_processor_kwargs"},
    {field::thinking, "thinking"},
    {field::response_format, "response_format"},
    {field::text, "text"},
    {field::structured_outputs, "structured_outputs"},
    {field::output_format, "output_format"},
    {field::prompt_cache_key, "prompt_cache_key"},
    {field::user, "user"},
    {field::metadata, "metadata"},
    {field::echo, "echo"},
    {field::prompt_logprobs, "prompt_logprobs"},
    {field::use_beam_search, "use_beam_search"},
    {field::vllm_xargs, "vllm_xargs"},
    {field::extra_args, "extra_args"},
    {field::sampling_params, "sampling_params"},
};

// A field's value is found at its place in this table.
constexpr bool in_order() {
  std::size_t i = 0;
  for (const named_field& f : named_fields) {
    if (static_cast<std::size_t>(f.key) != i++) return false;
  }
  return i == static_cast<std::size_t>(field::count_);
}
static_assert(in_order());

// The fields in the order of their names' sizes; those of size n begin at first[n].
struct fields_by_size {
  static constexpr std::size_t longest = 24;
  std::array<std::uint8_t, std::size(named_fields)> order{};
  std::array<std::uint8_t, longest + 2> first{};
};
constexpr fields_by_size by_size = [] {
  fields_by_size out;
  std::uint8_t at = 0;
  for (std::size_t size = 0; size <= fields_by_size::longest; ++size) {
    out.first[size] = at;
    for (std::uint8_t i = 0; i < std::size(named_fields); ++i) {
      if (named_fields[i].name.size() == size) out.order[at++] = i;
    }
  }
  out.first[fields_by_size::longest + 1] = at;
  return out;
}();
static_assert(by_size.first.back() == std::size(named_fields));

// Index of the field with this name, or count_.
std::size_t field_of(std::string_view name) {
  constexpr auto none = static_cast<std::size_t>(field::count_);
  if (name.size() > fields_by_size::longest) return none;
  for (std::size_t i = by_size.first[name.size()]; i < by_size.first[name.size() + 1]; ++i) {
    if (named_fields[by_size.order[i]].name == name) return by_size.order[i];
  }
  return none;
}

// vLLM's connectors, SGLang's bootstrap and ranks, TensorRT-LLM, the ranks of other sidecars.
constexpr std::string_view internal_names[] = {
    "kv_transfer_params", "ec_transfer_params", "bootstrap_host",         "bootstrap_port",
    "bootstrap_room",     "bootstrap_pair_key", "disaggregated_params",   "disagg_prefill_resp",
    "data_parallel_rank", "routed_dp_rank",     "disagg_prefill_dp_rank", "remote_dp_rank"};

api_error internal_member(std::string_view where, std::string_view name) {
  std::string param = where.empty() ? std::string(name) : fmt::format("{}.{}", where, name);
  std::string message = fmt::format(
      "'{}' is for engines to say to each other and is not allowed from clients; leave it out.", param);
  return {reason::field_not_allowed, std::move(message), std::move(param)};
}

std::optional<api_error> refuse_internal(const json_doc& doc, index object, std::string_view where) {
  if (object == json_doc::root || !doc.is_object(object)) return std::nullopt;
  std::optional<api_error> refused;
  std::string scratch;
  doc.each_member(object, [&](index key, index) {
    const std::string_view name = doc.plain(key, scratch);
    if (!refused && is_engine_internal(name)) refused = internal_member(where, name);
  });
  return refused;
}

// vLLM hands vllm_xargs to its sampler as extra_args, where the connectors look; its token API takes both
// inside of sampling_params.
std::optional<api_error> refuse_nested(const json_doc& doc, const body_members& members) {
  constexpr std::pair<field, std::string_view> places[] = {{field::vllm_xargs, "vllm_xargs"},
                                                           {field::extra_args, "extra_args"},
                                                           {field::sampling_params, "sampling_params"}};
  for (const auto& [f, name] : places) {
    if (auto refused = refuse_internal(doc, members[f], name)) return refused;
  }
  const index sampling = members[field::sampling_params];
  if (sampling == json_doc::root || !doc.is_object(sampling)) return std::nullopt;
  const auto [extra, xargs] = doc.pick(sampling, std::array<std::string_view, 2>{"extra_args", "vllm_xargs"});
  if (auto refused = refuse_internal(doc, extra, "sampling_params.extra_args")) return refused;
  return refuse_internal(doc, xargs, "sampling_params.vllm_xargs");
}

std::optional<api_error> refuse_duplicates(std::vector<std::pair<std::uint64_t, std::uint32_t>>& keys) {
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end(),
                                        [](const auto& a, const auto& b) { return a.first == b.first; });
  if (twice == keys.end()) return std::nullopt;
  return api_error{reason::invalid_json,
                   fmt::format("The body has a member twice, the second time at byte {}; send it once.",
                               std::next(twice)->second),
                   {}};
}

}  // namespace

bool is_engine_internal(std::string_view name) {
  return std::find(std::begin(internal_names), std::end(internal_names), name) != std::end(internal_names);
}

std::optional<api_error> body_members::read(const json_doc& doc) {
  values_ = {};
  keys_.clear();
  std::string scratch;
  std::optional<api_error> refused;
  std::uint32_t excess = 0;  // where one member too many stands; none stands at 0
  doc.each_member(json_doc::root, [&](index key, index value) {
    if (keys_.size() == max_members) {
      if (excess == 0) excess = doc.offset(key);
      return;
    }
    const std::string_view name = doc.plain(key, scratch);
    keys_.emplace_back(XXH3_64bits(name.data(), name.size()), doc.offset(key));
    if (const std::size_t f = field_of(name); f < values_.size()) {
      values_[f] = value;
    } else if (!refused && is_engine_internal(name)) {
      refused = internal_member({}, name);
    }
  });
  if (excess != 0) {
    return api_error{reason::invalid_json,
                     fmt::format("The body has more than {} members, one too many at byte {}; send fewer.",
                                 max_members, excess),
                     {}};
  }
  if (auto duplicate = refuse_duplicates(keys_)) return duplicate;
  if (refused) return refused;
  return refuse_nested(doc, *this);
}

}  // namespace penstock::tokenizer
