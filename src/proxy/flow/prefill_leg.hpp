// The first half of a split request: a prefill engine computes the prompt and says where its KV cache is. A
// state machine beside request_flow, which owns it and decides what its outcomes mean for the whole.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "penstock/disaggregation.hpp"
#include "penstock/ids.hpp"
#include "penstock/time.hpp"
#include "proxy/flow/events.hpp"
#include "proxy/handoff/connector.hpp"
#include "proxy/handoff/ledger.hpp"
#include "proxy/http/sse_scanner.hpp"

namespace penstock::flow {

enum class prefill_state : std::uint8_t {
  connecting,  // a connection was asked for
  waiting,     // the request is on its way; no answer head yet
  reading,     // a good head came: from here on the engine holds blocks for us
  handed,      // the answer was whole: the decode leg may use what it says
  over,        // refused, lost, used up or given up
};
inline constexpr std::size_t prefill_state_count = 5;
std::string_view name(prefill_state s);

// What an event came to.
enum class prefill_outcome : std::uint8_t {
  none,         // nothing to decide
  connected,    // the request is to be sent
  unreachable,  // no connection
  refused,      // a status that may be the client's answer: its head is the event's
  stale,        // a reused connection was dead: nothing was computed
  died,         // the engine was lost with the request in hand, or said what is not HTTP or too much
  handed,       // the decode leg may start
  finished,     // nothing is left to decode: its answer is the client's
  no_params,    // a good answer that hands nothing on
  failed,       // a 200 that turned out to be an error
};

// Belongs to one request. Times are the caller's.
class prefill_leg {
 public:
  // `decode` is the engine that shall read the blocks; an answer above `limit` bytes is not believed.
  prefill_leg(connector_kind connector, api_kind api, endpoint_id prefill, endpoint_id decode, duration lease,
              std::size_t limit, handoff::ledger& book);
  prefill_leg(const prefill_leg&) = delete;  // views into itself
  prefill_leg& operator=(const prefill_leg&) = delete;

  void connect_by(instant deadline) { connect_ = deadline; }
  prefill_outcome on(const engine_connected& e);
  prefill_outcome on(const engine_unreachable& e);
  void on(const request_sent&) { sent_ = state_ == prefill_state::waiting; }
  prefill_outcome on(const engine_head& e, instant now);
  prefill_outcome on(const engine_bytes& e);
  prefill_outcome on(const engine_end& e);
  prefill_outcome on(const engine_lost& e);
  // The stale connection gets a second, fresh one.
  void try_again(instant connect_deadline);
  // Nothing more is wanted of this engine.
  void give_up() { state_ = prefill_state::over; }

  prefill_state where() const { return state_; }
  endpoint_id endpoint() const { return prefill_; }
  // Its connection is the second one, since the first was dead.
  bool tried_again() const { return tried_again_; }
  instant deadline() const { return state_ == prefill_state::connecting ? connect_ : never; }
  bool has_connection() const { return state_ < prefill_state::handed; }
  // No answer has come, but one may be on its way.
  bool may_answer() const { return state_ == prefill_state::waiting && sent_; }
  bool booked() const { return state_ == prefill_state::waiting || state_ == prefill_state::reading; }

  // Bytes of the engine's answer that are kept, for the budget of buffers.
  std::size_t held_bytes() const { return answer_.size() + (scanner_ ? scanner_->held() : 0); }

  // Once finished: the head, valid until the engine is released, and the body.
  const http::response_head* head() const { return head_; }
  std::string take_answer() { return std::move(answer_); }

  // Once handed.
  bytes_view params() const { return params_; }
  bytes_view prompt_ids() const { return prompt_ids_; }
  // Nobody is sent them again: a stream that lives for minutes need not hold them.
  void forget_params() {
    answer_ = std::string();
    params_ = prompt_ids_ = {};
  }
  handoff::lease& lease() { return lease_; }
  const handoff::lease& lease() const { return lease_; }
  bool cached_known() const { return cached_known_; }
  std::uint64_t cached_tokens() const { return cached_; }

 private:
  prefill_outcome end_stream();

  handoff::ledger& book_;
  handoff::lease lease_;
  std::string answer_;                          // one piece of JSON; kept while its parameters are needed
  std::unique_ptr<http::sse_scanner> scanner_;  // ... or a stream, of which the end and the usage count
  bytes_view params_, prompt_ids_;              // in answer_
  const http::response_head* head_ = nullptr;
  std::uint64_t cached_ = 0;
  duration length_;
  instant connect_ = never;
  std::size_t limit_, read_ = 0;  // of the answer, in bytes
  endpoint_id prefill_, decode_;
  connector_kind connector_;
  api_kind api_;
  prefill_state state_ = prefill_state::connecting;
  bool reused_ = false, tried_again_ = false, cached_known_ = false;
  bool sent_ = false;  // the request is whole with the engine
};

}  // namespace penstock::flow
