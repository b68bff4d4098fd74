// What can happen to a request, and what a request can ask to be done: two closed lists.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>

#include "penstock/bytes.hpp"
#include "penstock/error.hpp"
#include "penstock/inline_vector.hpp"
#include "penstock/plan.hpp"
#include "penstock/request_facts.hpp"
#include "proxy/flow/leg.hpp"
#include "proxy/http/head.hpp"

namespace penstock::flow {

// --- events ---------------------------------------------------------------------------------------

// The head, the body or the facts were refused before anybody was asked.
struct refused {
  api_error error;
};
// The body is whole and was read; `facts` outlives the flow.
struct body_ready {
  const request_facts* facts;
};
struct picked {
  plan chosen;
};
struct not_picked {
  api_error error;
};
// Nobody was picked yet, the request waited for its turn: decide anew.
struct turn_came {};
// A connection to the current candidate exists; `reused` when it served another request before.
struct engine_connected {
  bool reused;
  leg of = leg::answer;
};
// No connection could be made: connect_failed, connect_timeout, or internal where we lacked the means.
struct engine_unreachable {
  reason why;
  leg of = leg::answer;
};
// The last byte of the request was handed to the kernel.
struct request_sent {
  leg of = leg::answer;
};
// The engine's answer head; valid until the engine is released.
struct engine_head {
  const http::response_head* head;
  leg of = leg::answer;
};
// Body bytes of the answer, framing removed; valid until the actions were carried out and flushed.
struct engine_bytes {
  bytes_view body;
  leg of = leg::answer;
};
// The answer ended as its framing says.
struct engine_end {
  leg of = leg::answer;
};
// The engine's connection broke, or (garbage) what it sent is not HTTP; `fault` says why, in static text.
struct engine_lost {
  bool garbage;
  leg of = leg::answer;
  std::string_view fault = {};
};
// The client closed its side (client_gone), or took nothing for too long (slow_client).
struct client_gone {
  reason why = reason::client_gone;
};
// More than the allowed backlog waits for the client, and later: it was taken.
struct client_blocked {};
struct client_drained {};
// Some deadline may have passed: the flow compares for itself.
struct timer {};
// The drain deadline passed: end now, in error.
struct drain_now {};

using event = std::variant<refused, body_ready, picked, not_picked, turn_came, engine_connected, engine_unreachable,
                           request_sent, engine_head, engine_bytes, engine_end, engine_lost, client_gone,
                           client_blocked, client_drained, timer, drain_now>;

// Which leg an event is about, if any.
inline std::optional<leg> leg_of(const event& e) {
  return std::visit(
      [](const auto& what) -> std::optional<leg> {
        if constexpr (requires { what.of; }) {
          return what.of;
        } else {
          return std::nullopt;
        }
      },
      e);
}

// --- actions --------------------------------------------------------------------------------------

enum class action_kind : std::uint8_t {
  decide,        // ask routing; answer with picked or not_picked, or later with turn_came
  connect,       // get a connection to request_flow::engine_of(leg), a fresh one if `flag`
  dispatch,      // book the work on it with routing
  send_request,  // write head and body to the engine
  first_token,   // tell routing; `flag`: it teaches prefill speed
  answer_head,   // begin the client's answer with the engine's head; `flag`: its length does not hold;
                 // `bytes`: a type that replaces the engine's fields
  write,         // `bytes` to the client, in order; valid until the batch was flushed
  answer_error,  // the whole answer is request_flow::error() in the API's shape
  end_answer,    // the client's answer is complete
  abort_answer,  // cut the client's connection: the answer cannot be completed
  pause_engine,  // stop reading from the engine
  resume_engine,
  keep_engine,    // the engine's connection may serve again
  drop_engine,    // close the engine's connection at once
  hang_up,        // close our half of it: the engine stops, and what it has written still comes
  give_up_work,   // withdraw what dispatch booked
  complete_work,  // the answer ended well: tell routing the usage
  engine_failed,  // passive health: request_flow::engine_fault() says how
  adopt_prefill,  // the prefill leg's connection and work become the answer leg's
  pair_failed,    // routing: the two engines of this request could not hand over
  finish,         // nothing more will come from this flow; account it
};

struct action {
  action_kind kind = action_kind::finish;
  bool flag = false;
  leg of = leg::answer;  // of connect, dispatch, send_request, keep, drop, hang_up, give_up, complete,
                         // engine_failed
  endpoint_id engine;    // of engine_failed and a prefill's complete_work: the flow may aim elsewhere by now
  bytes_view bytes;
};

// Enough for the worst batch: 64 scanned events of which every second one is dropped.
using actions = inline_vector<action, 96>;

}  // namespace penstock::flow
