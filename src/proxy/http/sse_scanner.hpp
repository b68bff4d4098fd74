// Watches an SSE answer go by: finds whole events, the first token, usage, errors and the end marker,
// without changing a byte and, after the first token, without parsing JSON.
#pragma once

#include <cstdint>
#include <string>

#include "penstock/account_record.hpp"
#include "penstock/api.hpp"
#include "penstock/bytes.hpp"
#include "penstock/inline_vector.hpp"
#include "proxy/http/sse_lines.hpp"

namespace penstock::http {

enum class event_kind : std::uint8_t {
  content,     // generated content (text, reasoning, tool call, audio, ...)
  frame,       // belongs to the protocol, carries no content (role, created, ping, block start)
  usage_only,  // OpenAI dialect: `choices` is [] and `usage` is an object
  end_marker,  // the API's proper end: [DONE]; response.completed/incomplete/failed; message_stop
  error,       // the engine's own error event
  comment,     // no data at all
  piece,       // part of an event above the size limit; passes as it is
};

struct scanned_event {
  bytes_view bytes;  // the whole event with its blank line (or a piece)
  event_kind kind = event_kind::frame;
};

using scanned_events = inline_vector<scanned_event, 64>;

// One per stream. An idle scanner holds at most the tail of one unfinished event.
class sse_scanner {
 public:
  sse_scanner(api_kind api, std::size_t event_limit);

  // Consumes some of `in` (all of it unless `out` is full) and appends the whole events found. Views point
  // into `in` or into the scanner and stay valid until the next call. Line ends CR, LF, CRLF and a BOM
  // are understood as in the WHATWG EventSource rules. An event above the limit passes as pieces, unread
  // but for its name: the flags below still tell its first token and its end.
  std::size_t scan(bytes_view in, scanned_events& out);

  // The stream ended as its framing says. True: the event that is held is the end marker, which lacks but its
  // blank line. Clients of engines take it, so it counts; tail() has its bytes.
  bool finish();

  // Bytes of an unfinished event kept inside.
  std::size_t held() const { return carry_.size(); }
  // What is held, when the engine's stream ended in the middle of an event.
  bytes_view tail() const { return carry_; }

  bool first_token_seen() const { return first_token_; }
  bool ended() const { return ended_; }       // the end marker came
  bool error_seen() const { return error_; }  // the engine's error event came (or response.failed)
  const token_usage& usage() const { return usage_; }
  std::uint64_t content_events() const { return content_events_; }
  std::uint64_t events() const { return events_; }  // with data
  std::uint64_t oversized() const { return oversized_; }
  bool inside_oversized() const { return in_oversized_; }  // a piece went out and its event is not whole
  const std::string& response_id() const { return response_id_; }  // responses API
  std::uint64_t next_sequence() const { return next_sequence_; }   // responses API
  bool end_is_failure() const { return end_is_failure_; }          // response.failed

 private:
  event_fields fields_of(bytes_view event);
  event_kind classify(bytes_view event);
  event_kind classify_choices(const event_fields& f);
  event_kind classify_quickly(bytes_view data);
  event_kind classify_parsed(bytes_view data);
  event_kind classify_responses(const event_fields& f);
  event_kind classify_messages(const event_fields& f);
  event_kind content();
  event_kind failed();
  event_kind end_of_response(bool failure);
  bool reads_choices() const { return api_ == api_kind::chat || api_ == api_kind::completions; }
  void note_sequence(bytes_view data);
  void keep(bytes_view rest, scanned_events& out);
  void begin_oversized(bytes_view start);
  void end_oversized();
  void emit(bytes_view last_part, scanned_events& out);

  std::string carry_;   // start of an unfinished event
  std::string whole_;   // an event that began in an earlier call; given out in this one
  std::string joined_;  // data of several lines
  event_splitter lines_;
  token_usage usage_;
  std::string response_id_;
  std::uint64_t next_sequence_ = 0, content_events_ = 0, events_ = 0, oversized_ = 0;
  std::size_t event_limit_;
  api_kind api_;
  bool first_token_ = false, ended_ = false, error_ = false, end_is_failure_ = false;
  bool at_start_ = true;                                   // no event was read yet
  bool in_oversized_ = false;                              // the current event passes in pieces
  bool oversized_ends_ = false, oversized_fails_ = false;  // ... and is the end marker
};

}  // namespace penstock::http
