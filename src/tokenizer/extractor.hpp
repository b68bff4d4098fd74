// A request body becomes facts: what it asks for, where its members stand, its block chains.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "penstock/bytes.hpp"
#include "penstock/error.hpp"
#include "penstock/request_facts.hpp"
#include "tokenizer/token_estimator.hpp"

namespace penstock::tokenizer {

// Bytes that must be readable (any value) behind every body given to an extractor.
inline constexpr std::size_t body_padding = 64;

struct extract_options {
  std::uint32_t block_bytes = 1024;
};

// Reads bodies. One per worker; keeps its parser's memory between requests (released when a body was
// large). Not thread safe.
class extractor {
 public:
  explicit extractor(extract_options options);
  ~extractor();
  extractor(const extractor&) = delete;
  extractor& operator=(const extractor&) = delete;

  // Reads one whole JSON body, followed by body_padding readable bytes, in one parse and one hash pass.
  // Fills `out` (assigned anew) or returns the refusal: invalid_json with a byte offset, missing_field,
  // invalid_field or field_not_allowed with `param`. `estimator` supplies bytes per token; `tenant`, if any,
  // joins the seed of the chains.
  std::optional<api_error> read(api_kind api, bytes_view body, const token_estimator& estimator,
                                request_facts& out, bytes_view tenant = {});

  // The same for a multipart/form-data body: only `model` (and `stream`) are read from its fields.
  std::optional<api_error> read_multipart(bytes_view content_type, bytes_view body, request_facts& out);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

// The edits that make an engine report usage in a stream: stream_options.include_usage becomes true.
// Empty when the client asked for it already, or the API reports usage anyway.
std::optional<splice> usage_splice(const request_facts& facts, bytes_view body);

// The salt that keeps one tenant's blocks apart in an engine's cache: a digest of the tenant and of the
// client's own `cache_salt` as it stands in the body, so that neither replaces the other. Equal in every
// process, for engines outlive us.
std::string tenant_salt(bytes_view tenant, const request_facts& facts, bytes_view body);
// The edit that brings it into the body. Empty for APIs whose engines know no `cache_salt`.
std::optional<splice> salt_splice(const request_facts& facts, std::string_view salt);

}  // namespace penstock::tokenizer
