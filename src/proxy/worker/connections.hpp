// The two kinds of connections a worker has, and the exchange that joins one of each for one request.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "penstock/fleet_view.hpp"
#include "penstock/request_facts.hpp"
#include "proxy/flow/request_flow.hpp"
#include "proxy/http/heads.hpp"
#include "proxy/http/request_parser.hpp"
#include "proxy/http/response_parser.hpp"
#include "proxy/http/route.hpp"
#include "proxy/worker/backlog.hpp"
#include "proxy/worker/body_buffer.hpp"
#include "proxy/worker/driver.hpp"
#include "proxy/worker/metrics.hpp"
#include "proxy/worker/observer.hpp"
#include "proxy/worker/timer_wheel.hpp"
#include "routing/router.hpp"

namespace penstock::worker {

struct client_connection;
struct engine_connection;

// A request that waits for its turn, and what was decided for it.
struct held_request {
  routing::hold_queue::ticket turn;
  plan chosen;
};

// What the prefill engine of a split request needs beside the exchange's own.
struct prefill_work {
  engine_connection* engine = nullptr;  // while the leg has one
  std::string request_head;
  std::vector<splice> splices;
  routing::work_lease work;
  instant attempt_began{};
  std::uint64_t room = 0;  // names the hand-off, where the proxy does
  // Of a concurrent one: what both legs say. It outlives the fleet view that it was read from.
  std::uint32_t ranks = 1;
  int rank = -1;  // of the prefill engine that is asked; -1: none
  std::string bootstrap_host, engine_id;
  std::uint16_t bootstrap_port = 0;
};

// One request from its head to its accounting: the flow and all that it owns. It dies with its answer,
// and everything counted for it is given back by destructors.
struct exchange {
  exchange(const config& settings, flow::retry_budget& retries, handoff::ledger& book, body_pool& pool,
           byte_budget& bodies, byte_budget& buffers, api_kind api, instant accepted)
      : body(pool, bodies), flow(settings, retries, book, api, accepted), kept(buffers) {}

  client_connection* client = nullptr;
  engine_connection* engine = nullptr;      // while the flow has one
  std::shared_ptr<const fleet_view> fleet;  // of the moment the head came; a reload does not touch it
  http::route route;
  body_buffer body;
  request_facts facts;
  std::string request_head;  // to the engine
  std::string salt;          // of the request's tenant, for the engine's cache; empty: none
  std::vector<splice> splices;
  flow::request_flow flow;
  byte_lease kept;  // of answer bytes that the flow holds back
  routing::work_lease work;
  std::unique_ptr<prefill_work> prefill;  // of a split request
  bool body_complete = false;
  bool waiting_for_memory = false;
  bool finished = false;        // the flow said finish; only the answer's tail may be unsent
  request_id_claim claimed_id;  // of an id that the client chose
  count_lease live, live_stream;
  std::unique_ptr<held_request> held;  // while it waits for an engine that has enough to do
  instant body_began{};
  instant attempt_began{};  // of the current attempt: for passive health
  instant token_told_at{};
  pool_metrics* cells = nullptr;  // of the pool that serves it; set at dispatch
};

// A client's connection: its codec session, what it sent too early, what it did not take yet.
struct client_connection {
  client_connection(socket_id s, http::request_limits limits, byte_budget& buffers, spare_buffers& spare)
      : socket(s), parser(limits), early(buffers, spare), unsent(buffers, spare) {}

  socket_id socket;
  std::string peer;
  http::request_parser parser;
  backlog early;  // pipelined bytes behind the request in hand
  backlog unsent;
  std::unique_ptr<exchange> current;
  timer_wheel::entry timer;
  instant state_since{};  // idle, head or linger began
  instant took_at{};      // last progress of unsent bytes
  std::uint64_t sent_in_answer = 0;
  http::client_framing framing = http::client_framing::none;
  bool head_begun = false;  // between the first byte of a head and its end
  bool paused = false;
  bool put_off = false;   // unsent bytes wait for the end of the batch, not for the kernel
  bool blocked = false;   // the flow knows that too much is unsent
  bool answered = false;  // the current answer was written (or copied) to its end
  bool keep_alive = true;
  bool leaving = false;      // close when unsent is empty
  bool half_closed = false;  // it sent FIN, which half_close = "tolerate" let pass
  bool at_end = false;       // ... and everything before that was read
  bool lingering = false;    // FIN sent; discarding until the client is done
  bool gone = false;         // socket is dead; to be reaped, or kept while its hand-off is closed
  bool processing = false;   // guards against nested consumption of early bytes
};

// An engine's connection: busy for one exchange, or idle in the pool.
struct engine_connection {
  explicit engine_connection(socket_id s) : socket(s) {}

  socket_id socket;
  http::response_parser parser;
  endpoint_id endpoint;
  exchange* owner = nullptr;         // null: idle
  std::vector<bytes_view> to_send;   // of the request: views into the exchange
  std::size_t sent_parts = 0;        // parts of to_send that are gone
  timer_wheel::entry timer;          // while idle
  flow::leg of = flow::leg::answer;  // which engine of its owner it is
  bool connecting = true;
  bool reused = false;
  bool put_off = false;       // to_send waits for the end of the batch
  bool request_gone = false;  // the whole request was handed to the kernel
  bool answer_complete = false;
  bool paused = false;
  bool gone = false;
};

}  // namespace penstock::worker
