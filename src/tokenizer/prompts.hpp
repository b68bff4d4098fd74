// Which members of a body are its prompt, per API, and in which order an engine's template has them.
#pragma once

#include "penstock/request_facts.hpp"
#include "tokenizer/block_hasher.hpp"
#include "tokenizer/body_members.hpp"
#include "tokenizer/json_doc.hpp"
#include "tokenizer/token_estimator.hpp"

namespace penstock::tokenizer {

// Fills prompts and counts of `facts`, whose scalars were read before (read_scalars). Order: the seed takes
// what changes a prompt's head (cache_salt, chat_template, reasoning effort, tool_choice none, the
// conversation that previous_response_id continues); then documents, tools, system, messages; then the
// other arguments of the template, since nothing that may change between turns stands before the messages.
void write_prompts(const json_doc& doc, const body_members& members, const token_estimator& estimator,
                   block_hasher& hasher, request_facts& facts, bytes_view tenant);

}  // namespace penstock::tokenizer
