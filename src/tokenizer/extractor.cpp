#include "tokenizer/extractor.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <limits>

#include "tokenizer/block_hasher.hpp"
#include "tokenizer/body_members.hpp"
#include "tokenizer/json_doc.hpp"
#include "tokenizer/prompts.hpp"

namespace penstock::tokenizer {
namespace {

// A block holds whole token ids, four bytes each.
std::uint32_t sane_block_bytes(std::uint32_t wanted) {
  return std::clamp<std::uint32_t>(wanted, 16, std::uint32_t{1} << 20) & ~std::uint32_t{3};
}

}  // namespace

struct extractor::impl {
  explicit impl(extract_options options) : hasher(sane_block_bytes(options.block_bytes)) {}

  std::optional<api_error> read(api_kind api, bytes_view body, const token_estimator& estimator,
                                request_facts& out, bytes_view tenant);

  json_doc doc;
  body_members members;
  block_hasher hasher;
};

extractor::extractor(extract_options options) : impl_(std::make_unique<impl>(options)) {}
extractor::~extractor() = default;

std::optional<api_error> extractor::read(api_kind api, bytes_view body, const token_estimator& estimator,
                                         request_facts& out, bytes_view tenant) {
  auto refused = impl_->read(api, body, estimator, out, tenant);
  impl_->doc.trim();
  return refused;
}

std::optional<api_error> extractor::impl::read(api_kind api, bytes_view body,
                                               const token_estimator& estimator, request_facts& out,
                                               bytes_view tenant) {
  out = request_facts{};
  out.api = api;
  if (body.size() >= std::numeric_limits<std::uint32_t>::max()) {
    // Offsets of members have 32 bits.
    return api_error{reason::body_too_large, "The body has 4 GiB or more; send a shorter one.", {}};
  }
  if (const auto error = doc.open(body)) {
    return api_error{reason::invalid_json,
                     fmt::format("The body is not valid JSON: {} at byte {}; send one JSON object.",
                                 error->what, error->offset),
                     {}};
  }
  if (auto refused = members.read(doc)) return refused;
  if (auto refused = read_scalars(api, doc, members, out)) return refused;
  write_prompts(doc, members, estimator, hasher, out, tenant);
  return std::nullopt;
}

// vLLM sends usage in every chunk when a client set continuous_usage_stats, but only together with
// include_usage: asking for it there would change what the client sees, so it is left alone.
std::optional<splice> usage_splice(const request_facts& facts, bytes_view body) {
  const bool reports_anyway = facts.api != api_kind::chat && facts.api != api_kind::completions;
  if (!facts.stream || facts.client_wants_usage || facts.continuous_usage || reports_anyway)
    return std::nullopt;
  if (const value_range flag = facts.include_usage) return splice{flag.begin, flag.end - flag.begin, "true"};

  const value_range options = facts.member(body_key::stream_options);
  if (!options) {
    const std::string_view comma = facts.object_empty ? "" : ",";
    return splice{facts.object_end, 0, fmt::format(R"({}"stream_options":{{"include_usage":true}})", comma)};
  }
  if (facts.stream_options_empty || body[options.begin] != '{') {
    return splice{options.begin, options.end - options.begin, R"({"include_usage":true})"};
  }
  return splice{options.end - 1, 0, R"(,"include_usage":true)"};
}

std::string tenant_salt(bytes_view tenant, const request_facts& facts, bytes_view body) {
  std::string text(tenant);
  text += '\0';  // no header value has one
  if (const value_range own = facts.member(body_key::cache_salt))
    text += body.substr(own.begin, own.end - own.begin);
  const XXH128_hash_t digest = XXH3_128bits(text.data(), text.size());
  return fmt::format("{:016x}{:016x}", digest.high64, digest.low64);
}

std::optional<splice> salt_splice(const request_facts& facts, std::string_view salt) {
  // vLLM: ChatCompletionRequest, CompletionRequest, ResponsesRequest and, lately, AnthropicMessagesRequest;
  // older ones ignore members of /v1/messages that they do not know.
  const bool known = facts.api == api_kind::chat || facts.api == api_kind::completions ||
                     facts.api == api_kind::responses || facts.api == api_kind::messages;
  if (!known || salt.empty()) return std::nullopt;
  if (const value_range own = facts.member(body_key::cache_salt))
    return splice{own.begin, own.end - own.begin, fmt::format(R"("{}")", salt)};
  return splice{facts.object_end, 0,
                fmt::format(R"({}"cache_salt":"{}")", facts.object_empty ? "" : ",", salt)};
}

}  // namespace penstock::tokenizer
