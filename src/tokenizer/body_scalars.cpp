#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <limits>
#include <string>

#include "tokenizer/body_members.hpp"
#include "tokenizer/json_text.hpp"

namespace penstock::tokenizer {
namespace {

using index = json_doc::index;

constexpr std::size_t max_model_bytes = 512;
constexpr std::size_t max_response_id_bytes = 512;
constexpr std::size_t max_affinity_bytes = 256;

constexpr bool generates(api_kind api) {
  return api == api_kind::chat || api == api_kind::completions || api == api_kind::responses ||
         api == api_kind::messages;
}

// vLLM's tokenize, rerank and score know their one model without being told; what else passes may too.
constexpr bool needs_model(api_kind api) { return generates(api) || api == api_kind::embeddings; }

api_error wrong(std::string_view param, std::string_view wanted) {
  return {reason::invalid_field, fmt::format("'{}' must be {}; correct it.", param, wanted),
          std::string(param)};
}

api_error missing(std::string_view param) {
  return {reason::missing_field, fmt::format("'{}' is missing; add it.", param), std::string(param)};
}

class scalar_reader {
 public:
  scalar_reader(api_kind api, const json_doc& doc, const body_members& members, request_facts& out)
      : api_(api), doc_(doc), members_(members), out_(out) {}

  std::optional<api_error> read() {
    note_layout();
    if (auto error = read_model()) return error;
    if (auto error = check_prompt()) return error;
    if (auto error = read_stream()) return error;
    if (auto error = read_numbers()) return error;
    if (auto error = read_previous_response()) return error;
    read_affinity();
    read_shape();
    read_prompt_use();
    return std::nullopt;
  }

 private:
  bool given(field f) const { return members_[f] != json_doc::root && !doc_.is_null(members_[f]); }
  bool is_string(field f) const { return given(f) && doc_.is_string(members_[f]); }
  bool is_array(field f) const { return given(f) && doc_.is_array(members_[f]); }
  bool is_object(field f) const { return given(f) && doc_.is_object(members_[f]); }
  // Engines take more for true than true itself (pydantic: 1, "yes"); who writes that is left alone.
  bool maybe_true(index value) const { return doc_.kind(value) != 'f' && doc_.kind(value) != 'n'; }
  bool maybe_true(field f) const { return given(f) && maybe_true(members_[f]); }

  void note_layout() {
    constexpr std::pair<body_key, field> noted[] = {
        {body_key::model, field::model},
        {body_key::stream, field::stream},
        {body_key::stream_options, field::stream_options},
        {body_key::max_tokens, field::max_tokens},
        {body_key::max_completion_tokens, field::max_completion_tokens},
        {body_key::max_output_tokens, field::max_output_tokens},
        {body_key::min_tokens, field::min_tokens},
        {body_key::cache_salt, field::cache_salt},
        {body_key::prompt, field::prompt},
        {body_key::prompt_token_ids, field::prompt_token_ids}};
    for (const auto& [key, f] : noted) {
      if (members_[f] != json_doc::root)
        out_.members[static_cast<std::size_t>(key)] = doc_.range(members_[f]);
    }
    // The tokens before a value are its colon and its name.
    const index options = members_[field::stream_options];
    if (options != json_doc::root) out_.stream_options_key = doc_.offset(options - 2);
    out_.object_end = doc_.range(json_doc::root).end - 1;
    out_.object_empty = doc_.kind(json_doc::root + 1) == '}';
  }

  std::optional<api_error> read_model() {
    if (!given(field::model)) {
      if (needs_model(api_)) return missing("model");
      return std::nullopt;
    }
    if (!is_string(field::model)) return wrong("model", "a string");
    const bytes_view raw = doc_.raw(members_[field::model]);
    if (raw.size() > max_model_bytes) {
      return wrong("model", fmt::format("a string of at most {} bytes", max_model_bytes));
    }
    unescape(raw, out_.model);
    if (out_.model.empty() && needs_model(api_)) return missing("model");
    return std::nullopt;
  }

  std::optional<api_error> check_prompt() {
    switch (api_) {
      case api_kind::chat:
      case api_kind::messages:
        if (!given(field::messages)) return missing("messages");
        if (!is_array(field::messages)) return wrong("messages", "an array");
        return std::nullopt;
      case api_kind::completions:
        if (!given(field::prompt)) {
          if (!given(field::prompt_embeds)) return missing("prompt");
          return std::nullopt;
        }
        // llama.cpp also takes an object: text and the images in it.
        if (!is_string(field::prompt) && !is_array(field::prompt) && !is_object(field::prompt)) {
          return wrong("prompt", "a string or an array");
        }
        return std::nullopt;
      case api_kind::responses: return check_input(false);
      case api_kind::embeddings: return check_input(given(field::messages));
      default: return std::nullopt;
    }
  }

  std::optional<api_error> check_input(bool optional) {
    if (!given(field::input)) {
      if (!optional) return missing("input");
      return std::nullopt;
    }
    if (!is_string(field::input) && !is_array(field::input)) return wrong("input", "a string or an array");
    return std::nullopt;
  }

  std::optional<api_error> read_stream() {
    const index stream = members_[field::stream];
    if (given(field::stream)) {
      const char kind = doc_.kind(stream);
      out_.stream = kind == 't';
      if (generates(api_) && kind != 't' && kind != 'f') return wrong("stream", "true or false");
    }
    if (!given(field::stream_options)) return std::nullopt;
    const index options = members_[field::stream_options];
    if (!doc_.is_object(options)) {
      if (generates(api_)) return wrong("stream_options", "an object");
      return std::nullopt;
    }
    const auto [usage, continuous] =
        doc_.pick(options, std::array<std::string_view, 2>{"include_usage", "continuous_usage_stats"});
    out_.stream_options_empty = doc_.kind(options + 1) == '}';
    if (usage != json_doc::root) {
      out_.include_usage = doc_.range(usage);
      out_.client_wants_usage = maybe_true(usage);
    }
    out_.continuous_usage = continuous != json_doc::root && maybe_true(continuous);
    return std::nullopt;
  }

  // An integer or null where answers are generated; 0 where it is absent, negative or not a number.
  std::optional<api_error> read_count(field f, std::string_view name, std::uint32_t& count) {
    count = 0;
    if (!given(f)) return std::nullopt;
    const auto value = integer_of(doc_.token(members_[f]));
    if (!value) {
      if (generates(api_)) return wrong(name, "an integer");
      return std::nullopt;
    }
    constexpr std::int64_t most = std::numeric_limits<std::uint32_t>::max();
    count = static_cast<std::uint32_t>(std::clamp<std::int64_t>(*value, 0, most));
    return std::nullopt;
  }

  std::optional<api_error> read_numbers() {
    std::uint32_t n = 0, best_of = 0, tokens = 0, completion_tokens = 0, output_tokens = 0;
    if (auto error = read_count(field::n, "n", n)) return error;
    // Gone from vLLM, which ignores it; others may read a number in what is none.
    const bool odd_best_of = read_count(field::best_of, "best_of", best_of).has_value();
    if (auto error = read_count(field::max_tokens, "max_tokens", tokens)) return error;
    if (auto error = read_count(field::max_completion_tokens, "max_completion_tokens", completion_tokens)) {
      return error;
    }
    if (auto error = read_count(field::max_output_tokens, "max_output_tokens", output_tokens)) return error;
    out_.n = std::max({n, best_of, 1U});
    out_.best_of = odd_best_of || best_of > std::max(n, 1U);
    if (api_ == api_kind::responses) {
      out_.max_tokens = output_tokens;
    } else {
      // vLLM's order: the newer name wins.
      out_.max_tokens = completion_tokens != 0 && api_ == api_kind::chat ? completion_tokens : tokens;
    }
    return std::nullopt;
  }

  std::optional<api_error> read_previous_response() {
    if (api_ != api_kind::responses || !given(field::previous_response_id)) return std::nullopt;
    if (!is_string(field::previous_response_id)) return wrong("previous_response_id", "a string");
    const bytes_view raw = doc_.raw(members_[field::previous_response_id]);
    if (raw.size() > max_response_id_bytes) {
      return wrong("previous_response_id",
                   fmt::format("a string of at most {} bytes", max_response_id_bytes));
    }
    unescape(raw, out_.previous_response_id);
    return std::nullopt;
  }

  void read_affinity() {
    index key = is_string(field::prompt_cache_key) ? members_[field::prompt_cache_key]
                : is_string(field::user)           ? members_[field::user]
                                                   : json_doc::root;
    if (key == json_doc::root && api_ == api_kind::messages && is_object(field::metadata)) {
      // Anthropic's name for it.
      const auto [user_id] = doc_.pick(members_[field::metadata], std::array<std::string_view, 1>{"user_id"});
      if (user_id != json_doc::root && doc_.is_string(user_id)) key = user_id;
    }
    if (key == json_doc::root) return;
    const bytes_view raw = doc_.raw(key);
    if (raw.size() <= max_affinity_bytes) {
      unescape(raw, out_.affinity);
    } else {
      const XXH128_hash_t digest = XXH3_128bits(raw.data(), raw.size());
      out_.affinity = fmt::format("{:016x}{:016x}", digest.high64, digest.low64);
    }
  }

  void read_shape() {
    out_.pooling = api_ == api_kind::embeddings || api_ == api_kind::rerank || api_ == api_kind::score;
    out_.has_tools = is_array(field::tools) && doc_.kind(members_[field::tools] + 1) != ']';
    out_.has_response_format =
        given(field::response_format) || given(field::structured_outputs) || given(field::output_format);
    if (api_ == api_kind::responses && is_object(field::text)) {
      const auto [format] = doc_.pick(members_[field::text], std::array<std::string_view, 1>{"format"});
      out_.has_response_format |= format != json_doc::root && !doc_.is_null(format);
    }
  }

  void read_prompt_use() {
    out_.echo = maybe_true(field::echo);
    out_.beam_search = maybe_true(field::use_beam_search);
    out_.prompt_logprobs = given(field::prompt_logprobs);
    out_.prompt_embeds = given(field::prompt_embeds);
    if (api_ != api_kind::completions || !is_array(field::prompt)) return;
    const char first = doc_.kind(members_[field::prompt] + 1);
    out_.prompt_array = first == '"' || first == '[';
  }

  api_kind api_;
  const json_doc& doc_;
  const body_members& members_;
  request_facts& out_;
};

}  // namespace

std::optional<api_error> read_scalars(api_kind api, const json_doc& doc, const body_members& members,
                                      request_facts& out) {
  return scalar_reader(api, doc, members, out).read();
}

}  // namespace penstock::tokenizer
