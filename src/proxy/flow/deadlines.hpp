// The separate clocks of one request.
#pragma once

#include "penstock/config.hpp"
#include "penstock/time.hpp"

namespace penstock::flow {

// Instants at which a request is given up, or something has to be done for it. Unset ones are `never`.
// Per event only `last_event` moves: the timer compares when it fires and is not armed anew.
struct deadlines {
  instant connect = never;      // of the current attempt
  instant first_token = never;  // streams: until the first generated content
  instant total = never;
  instant keepalive = never;     // next SSE comment while nothing was sent
  instant prefill_done = never;  // predicted first token of an answer that is not streamed
  instant gate = never;          // the prefill leg's end, once the decode leg has generated
  instant proof = never;         // an engine that may be dying of this request lives if it is there by then
  instant last_event{};          // streams after the first token
  duration between_events{};     // 0: not watched

  instant next_event() const { return between_events.count() == 0 ? never : last_event + between_events; }
};

// `start + d`, where 0 means never.
constexpr instant after(instant start, duration d) { return d.count() == 0 ? never : start + d; }

}  // namespace penstock::flow
