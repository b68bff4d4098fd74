// One prompt as its two readers see it: the proxy by bytes, the engine by tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "penstock/request_facts.hpp"
#include "tokenizer/token_estimator.hpp"
#include "workload.hpp"

namespace penstock::lab {

// Every request of the laboratory asks for this model.
inline constexpr const char* model_name = "m";

// What the proxy's extractor would make of the request's body: chained blocks of `block_bytes` bytes, and
// tokens as `estimator` takes them to be. The length of the answer is not known to it.
request_facts facts_of(const request& r, std::uint32_t block_bytes,
                       const tokenizer::token_estimator& estimator);

// Names of the engine's whole blocks of the prompt and, where a later prompt continues it, of the answer.
std::vector<std::uint64_t> names_of(const request& r, std::uint32_t block_tokens);

}  // namespace penstock::lab
