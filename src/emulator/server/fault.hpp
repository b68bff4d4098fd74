// What an emulated engine does wrong on purpose, and when.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/server/leg.hpp"
#include "penstock/random.hpp"

namespace penstock::emulator {

// How an answer breaks off after a number of tokens.
enum class break_kind : std::uint8_t {
  none,
  die,          // RST
  cut,          // FIN, without the last chunk
  half_chunk,   // half of the next event's chunk, then FIN; a whole answer: half of its body
  garbage,      // bytes that are no chunk, then FIN
  stall,        // silence on an open connection
  exit,         // the process exits
  error_event,  // an error event, the end marker and a clean end: vLLM that got SIGTERM
  error_only,   // an error event and a clean end without marker
  no_end,       // a clean end of HTTP without marker
};

// What goes wrong with one request. Defaults: nothing.
struct fault_plan {
  break_kind breaks = break_kind::none;
  std::uint32_t break_after = 0;  // tokens over all choices
  bool no_marker = false;         // all tokens, but no end marker
  bool no_last_chunk = false;     // all of it, but FIN in place of the last chunk
  bool reset = false;             // RST once the request was read, no answer
  bool close = false;             // FIN once the request was read, no answer
  bool garbage = false;           // an answer that is not HTTP
  bool informational = false;     // a 103 goes ahead of the answer
  std::uint16_t status = 0;       // this error in place of an answer
  std::uint32_t retry_after = 0;  // seconds, with `status`
  double slow = 1;                // tokens come this many times later
  std::chrono::milliseconds delay_head{0}, delay_first{0};
  std::uint32_t dribble = 0;  // bytes of one write; 0: as they come
  std::chrono::milliseconds dribble_gap{1};
  std::uint32_t chunk_bytes = 0;  // chunks of this size, whatever the events are
  std::uint32_t events_per_chunk = 1;
  std::uint32_t big_event = 0;  // one extra event with this many bytes of content
  bool half_answer = false;     // half of a whole answer, then FIN
  bool exit_end = false;        // the process exits once what it sends of the answer is out
  bool no_hand_off = false;     // a prefill leg's answer without hand-off, and no lease
  bool load_failure = false;    // a decode leg's KV does not arrive
  double slow_transfer = 1;     // a decode leg's KV takes this many times longer
};

// A switch of the engine: faults, and the requests that they hit.
struct fault_rule {
  enum class when : std::uint8_t { always, chance, every, first, after };
  std::string text;                  // as the user wrote it
  std::vector<std::string> actions;  // applied in order to a fault_plan
  when applies = when::always;
  double chance = 1;
  std::uint64_t count = 0;  // k of `every`, `first`, `after`
  std::uint64_t seen = 0;   // requests that this rule looked at
  // Faults of the server, not of one request.
  bool refuse = false;        // no listening socket
  bool reset_accept = false;  // RST to accepted connections
  bool unhealthy = false;     // /health and /ping say 503
  bool bad_metrics = false;   // /metrics is nonsense
};

// Each returns an error sentence, or an empty string. A rule is ACTION{,ACTION}[@WHEN]; see fault_help.
std::string parse_fault_rule(std::string_view text, fault_rule& rule);
// An action may be limited to a leg: prefill:ACTION, decode:ACTION.
std::string apply_faults(std::string_view actions, fault_plan& plan, leg_kind leg = leg_kind::none);
// Whether some action of the rule is for such a leg.
bool concerns(const fault_rule& rule, leg_kind leg);

// Whether the rule hits the next request; counts it.
bool hits(fault_rule& rule, prng& random);

std::string_view fault_help();

}  // namespace penstock::emulator
