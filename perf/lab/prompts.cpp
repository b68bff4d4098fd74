#include "prompts.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "penstock/disaggregation.hpp"

namespace penstock::lab {

request_facts facts_of(const request& r, std::uint32_t block_bytes,
                       const tokenizer::token_estimator& estimator) {
  request_facts f;
  f.model = model_name;
  f.stream = r.streamed;
  f.carried_by = 1U << static_cast<unsigned>(connector_kind::nixl);
  prefix_chain chain;
  const double per_token = estimator.bytes_per_token(f.model);
  const auto tokens = static_cast<std::uint32_t>(std::max(1.0, std::round(block_bytes / per_token)));
  double bytes = 0;
  for (const segment& s : r.segments) {
    bytes += static_cast<double>(s.tokens) * static_cast<double>(s.bytes_per_token);
    // A block belongs to the run in which it ends: the id of that run says all that came before.
    while (static_cast<double>(chain.blocks.size() + 1) * block_bytes <= bytes)
      chain.blocks.push_back({mix(s.id, chain.blocks.size()), tokens});
  }
  f.prompt_bytes = static_cast<std::uint64_t>(bytes);
  f.prompt_tokens = estimator.estimate(f.model, f.prompt_bytes, 0, 0, 0);
  const std::uint64_t whole = std::uint64_t{tokens} * chain.blocks.size();
  chain.tail_tokens = static_cast<std::uint32_t>(f.prompt_tokens > whole ? f.prompt_tokens - whole : 0);
  f.prompts.push_back(std::move(chain));
  return f;
}

std::vector<std::uint64_t> names_of(const request& r, std::uint32_t block_tokens) {
  std::vector<std::uint64_t> names;
  std::uint64_t tokens = 0;
  const auto extend = [&](std::uint64_t id, std::uint64_t more) {
    tokens += more;
    while ((names.size() + 1) * block_tokens <= tokens) names.push_back(mix(id, names.size()));
  };
  names.reserve((r.input_tokens() + r.output_tokens) / block_tokens + 1);
  for (const segment& s : r.segments) extend(s.id, s.tokens);
  if (r.output_id != 0) extend(r.output_id, r.output_tokens);
  return names;
}

}  // namespace penstock::lab
