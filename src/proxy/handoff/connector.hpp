// How engines hand a prompt's KV cache on: a table with one row for each connector, and the bodies of the
// two legs as edits of the client's bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/bytes.hpp"
#include "penstock/disaggregation.hpp"
#include "penstock/request_facts.hpp"
#include "penstock/time.hpp"

namespace penstock::handoff {

// Whether the decode leg needs what the prefill leg answers, or both start at once and find each other.
enum class dispatch : std::uint8_t { serial, concurrent };

// What one hand-off says besides the client's words. Views outlive the call they are passed to.
struct terms {
  bytes_view params;          // serial: the object of the prefill answer, as it was
  bytes_view prompt_ids;      // trtllm: the prompt's tokens as the context engine cut them; may be empty
  std::uint64_t room = 0;     // what both legs call this hand-off, where the proxy names it
  std::uint32_t ranks = 1;    // sglang: of the prefill engine; a room belongs to the rank room % ranks
  bytes_view bootstrap_host;  // of the prefill engine; IPv6 without brackets
  std::uint16_t bootstrap_port = 0;
  bytes_view engine_id;  // mooncake: of the prefill engine's rank; nothing in it needs an escape in JSON
};

// The client's body and where its members stand.
struct request_body {
  const request_facts& facts;
  bytes_view bytes;
};

using splices = std::vector<splice>;

// One row. `lease` is how long the prefill engine holds the blocks when nobody fetches them.
struct connector {
  connector_kind kind;
  dispatch order;
  bool every_api;             // also responses and messages; else only chat and completions
  bool batches;               // n > 1, several prompts: each choice finds its own KV
  bool freed_by_delivery;     // a delivered decode request frees the blocks although nobody reads its answer
  bool answers_once_fetched;  // a prefill answer ends when the decode engine has the blocks
  bool bounds_prefill;        // a prefill leg asks for one token, whatever the client does
  duration lease;
  std::string_view params_member;  // of a prefill answer; "": it has none
  void (*prefill)(const request_body&, const terms&, splices&);
  void (*decode)(const request_body&, const terms&, splices&);
};
const connector& row(connector_kind kind);

// Appends the edits of a leg, sorted by offset and free of overlaps. The decode leg is the client's body with
// one member more; what the client asked for stays to the byte.
void prefill_body(connector_kind kind, const request_body& body, const terms& said, splices& out);
void decode_body(connector_kind kind, const request_body& body, const terms& said, splices& out);

// A name for a concurrent hand-off: 63 bits made of `random`, congruent to `rank` modulo `ranks` (SGLang's
// ranks of a prefill engine take what is theirs by that). Further choices of the request have the names
// room + ranks, room + 2 * ranks and so on.
std::uint64_t make_room(std::uint64_t random, std::uint32_t rank, std::uint32_t ranks);

// The edits of a decode request that only frees blocks: a stream, so that its engine notices at once that
// nobody listens, and of one token where the prefill leg was, since the client's own bounds may be what the
// engine refuses.
void make_unread(connector_kind kind, const request_body& body, splices& out);

// Both legs say the same: what is asked of the answer is asked of both (SGLang).
bool same_body(connector_kind kind);

// Sequences that a request is: prompts times n.
std::uint64_t choices_of(const request_facts& facts);

// The connectors (bit 1 << kind) that can carry a request. What a hand-off cannot carry would not fail but
// give wrong text, so no option changes this: with several choices on one hand-off the first to finish frees
// the blocks under the others (measured on vLLM 0.32: 16 of 24 choices came from foreign KV).
std::uint8_t carriers(const request_facts& facts);

}  // namespace penstock::handoff
