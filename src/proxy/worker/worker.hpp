// One worker: connections, pools, timers and flows of one thread, joined to a driver. Pure: runs the same
// on epoll and in the simulator.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "penstock/fleet_view.hpp"
#include "penstock/random.hpp"
#include "proxy/flow/retry_budget.hpp"
#include "proxy/worker/connections.hpp"
#include "proxy/worker/driver.hpp"
#include "proxy/worker/metrics.hpp"
#include "proxy/worker/observer.hpp"
#include "proxy/worker/timer_wheel.hpp"
#include "proxy/worker/upstream_pool.hpp"
#include "routing/router.hpp"
#include "tokenizer/extractor.hpp"
#include "tokenizer/token_estimator.hpp"

namespace penstock::worker {

// What a worker is built from; the references outlive it.
struct worker_parts {
  driver& io;
  observer& told;
  routing::shared_state& routing;
  std::shared_ptr<const fleet_view> fleet;  // its settings are the first configuration
  std::uint64_t seed = 0;                   // of its randomness
  std::uint32_t workers = 1;                // process-wide limits are divided by this
};

// All calls on the worker's own thread (or, in the simulator, in its one thread).
class worker final : public driver_events {
 public:
  explicit worker(const worker_parts& parts);
  ~worker();

  // A new fleet or configuration. Requests in flight keep the one they began with.
  void fleet_changed(std::shared_ptr<const fleet_view> fleet);

  // Drain, step by step: answers say Connection: close from the moment fleet_view::draining is set;
  // close_idle() ends connections between requests; end_all() ends what is left, in error, and
  // returns how many requests that were.
  void close_idle();
  std::uint64_t end_all();

  // When tick() is wanted next; `never` when nothing is armed.
  instant next_tick() const { return wheel_.next(); }
  std::uint64_t live_requests() const { return live_requests_; }
  std::uint64_t client_connections() const { return clients_; }
  worker_metrics metrics() const;

  // Anything still held: for the simulator's leak checks.
  struct holdings {
    std::uint64_t clients = 0, engines = 0, idle_engines = 0, requests = 0, body_bytes = 0, buffer_bytes = 0,
                  timers = 0, handoffs = 0;
  };
  holdings held() const;

  void accepted(socket_id s, std::string_view peer) override;
  void connected(socket_id s, alpn codec) override;
  void lost(socket_id s, loss how) override;
  void received(socket_id s, bytes_view bytes) override;
  std::span<char> receive_target(socket_id s) override;
  void received_there(socket_id s, std::size_t n) override;
  void finished(socket_id s) override;
  void writable(socket_id s) override;
  void tick() override;
  void batch_ended() override;

 private:
  // worker.cpp: sockets, time, configuration
  struct leaving_frame;
  client_connection* client_of(socket_id s);
  engine_connection* engine_of(socket_id s);
  void put_client(std::unique_ptr<client_connection> c);
  engine_connection& put_engine(std::unique_ptr<engine_connection> e);
  void reap(client_connection& c);
  void drop(client_connection& c, bool abort);
  void drop(engine_connection& e, bool abort);
  void bury();
  const config& settings() const { return *fleet_->settings; }
  void apply_limits();
  void index_endpoints();
  void wake_memory_waiters();

  // worker_client.cpp: what clients send
  void consume(client_connection& c, bytes_view bytes);
  void consume_early(client_connection& c);
  bool step(client_connection& c, bytes_view& bytes);
  void begin_request(client_connection& c);
  void begin_body(client_connection& c);
  void body_done(client_connection& c);
  void refuse(client_connection& c, api_error error);
  void answer_locally(client_connection& c, const http::route& route);
  void send_local(client_connection& c, account_record record, std::string_view content_type,
                  std::string_view body, std::vector<std::pair<std::string, std::string>> extra);
  std::string mint_request_id();
  void take_request_id(exchange& x);
  std::string local_request_id(const http::request_head& head);
  void client_left(client_connection& c, reason why);
  void client_finished(client_connection& c);
  void end_half_closed(client_connection& c);

  // worker_answer.cpp: what clients get
  void answer_head(exchange& x, bool reframed, bytes_view type);
  void answer_error(exchange& x);
  void flush(client_connection& c);
  void send_or_keep(client_connection& c, std::span<const bytes_view> parts);
  void put_off(socket_id s, bool& mark);
  void send_put_off();
  void write_unsent(client_connection& c);
  void cut_answer(client_connection& c);
  void drained(client_connection& c);
  void answer_written(client_connection& c);
  void close_after_answer(client_connection& c);
  instant client_deadline(const client_connection& c) const;
  void arm(client_connection& c);
  void client_timer(client_connection& c);
  void request_timer(client_connection& c, instant now);

  // worker_engine.cpp: flows and engines
  void drive(exchange& x, flow::event&& e);
  void follow_up(flow::event e) { followups_.push_back(std::move(e)); }
  void execute(exchange& x, const flow::action& a);
  void decide(exchange& x);
  bool hold_back(exchange& x, plan& p);
  void call_held();
  void connect_engine(exchange& x, flow::leg of, bool fresh);
  void send_request(exchange& x, flow::leg of);
  bool push_request(engine_connection& e);
  void send_on(engine_connection& e);
  void take_answer_bytes(engine_connection& e, bytes_view span);
  void release_request(exchange& x);
  std::optional<api_error> read_facts(exchange& x, const http::request_head& head);
  void engine_answered(engine_connection& e, bytes_view bytes);
  void keep_engine(exchange& x, flow::leg of);
  void dispatch(exchange& x, flow::leg of);
  static cache_told cache_told_by(const exchange& x);
  void complete_work(exchange& x);
  void account(exchange& x);
  void tell(exchange& x, flow::leg of, endpoint_id engine, flow::fault fault, bool token,
            cache_told cache = cache_told::unknown);
  const endpoint_view* endpoint_of(const exchange& x, flow::leg of) const;

  // worker_split.cpp: the second engine of a split request, and hand-offs whose client left
  static engine_connection*& engine_at(exchange& x, flow::leg of);
  bool name_handoff(exchange& x, const endpoint_view& to);
  void forget_followups(flow::leg of);
  void dispatch_prefill(exchange& x);
  void complete_prefill(exchange& x, endpoint_id engine);
  void learn_transfer(const exchange& x);
  void adopt_prefill(exchange& x);
  void append_leg_edits(exchange& x, flow::leg of, std::vector<splice>& out);
  void keep_ghost(std::unique_ptr<client_connection> c);
  void settle_ghost(client_connection& c);
  void end_ghosts();

  driver& io_;
  observer& told_;
  std::shared_ptr<const fleet_view> fleet_;
  routing::endpoint_board& board_;
  routing::router router_;
  tokenizer::extractor extractor_;
  tokenizer::token_estimator estimator_;
  flow::retry_budget retries_;
  handoff::ledger handoffs_;
  body_pool body_memory_;
  byte_budget bodies_, buffers_;
  spare_buffers spare_;
  timer_wheel wheel_;
  upstream_pool pool_;
  prng rng_;
  worker_metrics metrics_;
  routing::hold_queue held_;      // requests that wait for their turn
  timer_wheel::entry held_timer_;  // while there are any: other workers' requests make room as well

  static constexpr std::uint32_t no_index = 0xffffffff;

  // Indexed by socket index; exactly one of the two is set for a live socket.
  struct slot {
    std::unique_ptr<client_connection> client;
    std::unique_ptr<engine_connection> engine;
  };
  std::vector<slot> slots_;
  std::vector<std::unique_ptr<client_connection>> dead_clients_;  // freed when no frame refers to them
  std::vector<std::unique_ptr<engine_connection>> dead_engines_;
  std::vector<std::unique_ptr<client_connection>> ghosts_;  // clients that left between the legs
  std::vector<client_connection*> waiting_;                 // for body memory, first come first
  std::vector<socket_id> put_off_, sending_;                // have something to write at the end of the batch

  // The answer bytes of one client that one event produced, written with one call.
  struct batch {
    std::string head;              // head or whole error answer
    std::vector<bytes_view> body;  // payload of one chunk
    std::size_t body_bytes = 0;
    bool end = false, abort = false;

    void clear() {
      head.clear();
      body.clear();
      body_bytes = 0;
      end = abort = false;
    }
  };
  batch batch_;
  std::vector<std::uint32_t> endpoint_at_;  // slot -> index in fleet_, or npos
  std::vector<bytes_view> parts_;
  std::string framing_;
  flow::actions actions_;
  std::vector<flow::event> followups_;

  std::uint32_t workers_;
  std::uint64_t clients_ = 0, engines_ = 0, live_requests_ = 0, live_streams_ = 0;
  std::uint64_t client_limit_ = 0;
  bool accepting_ = true;
};

}  // namespace penstock::worker
