// The bodies of the legs, two functions a connector: what the table of connector.cpp consists of.
#pragma once

#include "proxy/handoff/body_edits.hpp"
#include "proxy/handoff/connector.hpp"

namespace penstock::handoff {

// Each appends the edits of one leg, sorted, and leaves all else as the client wrote it.
void nixl_prefill(const request_body& body, const terms& said, splices& out);
void nixl_decode(const request_body& body, const terms& said, splices& out);
void mooncake_prefill(const request_body& body, const terms& said, splices& out);
void mooncake_decode(const request_body& body, const terms& said, splices& out);
void moriio_prefill(const request_body& body, const terms& said, splices& out);
void trtllm_context(const request_body& body, const terms& said, splices& out);
void trtllm_generation(const request_body& body, const terms& said, splices& out);
// The client's bounds where they stand, and one more where none does, all of one token.
void ask_one_token(const request_body& body, body_edits& edits);
// Both legs of SGLang's.
void sglang_leg(const request_body& body, const terms& said, splices& out);

}  // namespace penstock::handoff
