// TensorRT-LLM: a context engine is told by a type that only the prompt is wanted, a generation engine that
// it comes after one.
#include <fmt/format.h>

#include "proxy/handoff/legs.hpp"
#include "proxy/handoff/raw_json.hpp"

namespace penstock::handoff {

// The context engine makes one token of a whole request by itself. Ids of hand-offs are positive 64-bit
// numbers above those that an engine counts for itself: [2^42, 2^63).
void trtllm_context(const request_body& body, const terms& said, splices& out) {
  constexpr std::uint64_t top = std::uint64_t{1} << 62;
  body_edits edits(body);
  edits.replace(body_key::stream, "false");
  edits.drop_stream_options();
  edits.add("disaggregated_params", fmt::format(R"({{"request_type":"context_only","disagg_request_id":{}}})",
                                                said.room % top | top));
  edits.finish(out);
}

// The prompt's tokens go along: the generation engine need not cut the text again, and cannot cut it
// otherwise.
void trtllm_generation(const request_body& body, const terms& said, splices& out) {
  body_edits edits(body);
  if (!said.prompt_ids.empty()) {
    if (body.facts.api == api_kind::completions) {
      edits.replace(body_key::prompt, said.prompt_ids);
    } else {
      edits.set(body_key::prompt_token_ids, "prompt_token_ids", said.prompt_ids);
    }
  }
  edits.add("disaggregated_params", with_value(said.params, "request_type", R"("generation_only")"));
  edits.finish(out);
}

}  // namespace penstock::handoff
