// Sockets, time and configuration of a worker.
#include "proxy/worker/worker.hpp"

#include <algorithm>
#include <utility>

namespace penstock::worker {
namespace {

// So many connections with something to write do not wait for the end of the batch.
constexpr std::size_t most_put_off = 32;

}  // namespace

// Every entry from the driver ends with this: connections that died inside the call are freed when no
// frame of it refers to them any more, and body memory that became free is handed on.
struct worker::leaving_frame {
  worker& w;
  ~leaving_frame() {
    w.wake_memory_waiters();
    w.bury();
    if (w.put_off_.size() >= most_put_off && w.sending_.empty()) w.send_put_off();
  }
};

worker::worker(const worker_parts& parts)
    : io_(parts.io),
      told_(parts.told),
      fleet_(parts.fleet),
      board_(parts.routing.board),
      router_(parts.routing),
      extractor_({.block_bytes = parts.fleet->settings->routing.block_bytes}),
      retries_(parts.fleet->settings->limits.retry_budget),
      bodies_(0),
      buffers_(0),
      wheel_(parts.io.now()),
      rng_(parts.seed),
      workers_(std::max(parts.workers, 1u)) {
  held_timer_.kind = 2;
  apply_limits();
  index_endpoints();
}

worker::~worker() = default;

void worker::apply_limits() {
  const limits_config& limits = settings().limits;
  bodies_.set_limit(limits.body_memory / workers_);
  buffers_.set_limit(limits.buffer_memory / workers_);
  retries_.set_share(limits.retry_budget);
  client_limit_ = std::max<std::uint64_t>(limits.connections / workers_, 1);
}

void worker::fleet_changed(std::shared_ptr<const fleet_view> fleet) {
  const bool new_settings = fleet->settings != fleet_->settings;
  fleet_ = std::move(fleet);
  index_endpoints();
  if (new_settings) apply_limits();
}

void worker::index_endpoints() {
  endpoint_at_.assign(max_endpoints, no_index);
  for (std::uint32_t i = 0; i < fleet_->endpoints.size(); ++i) endpoint_at_[fleet_->endpoints[i].id.slot] = i;
}

// The endpoint the flow's plan aims at, as it is known now; null when it was removed since.
const endpoint_view* worker::endpoint_of(const exchange& x, flow::leg of) const {
  const endpoint_id id = x.flow.engine_of(of);
  const std::uint32_t at = id.slot < endpoint_at_.size() ? endpoint_at_[id.slot] : no_index;
  if (at == no_index || !(fleet_->endpoints[at].id == id)) return nullptr;
  return &fleet_->endpoints[at];
}

client_connection* worker::client_of(socket_id s) {
  if (s.index >= slots_.size()) return nullptr;
  client_connection* c = slots_[s.index].client.get();
  return c != nullptr && c->socket == s ? c : nullptr;
}

engine_connection* worker::engine_of(socket_id s) {
  if (s.index >= slots_.size()) return nullptr;
  engine_connection* e = slots_[s.index].engine.get();
  return e != nullptr && e->socket == s ? e : nullptr;
}

void worker::put_client(std::unique_ptr<client_connection> c) {
  const std::size_t at = c->socket.index;
  if (at >= slots_.size()) slots_.resize(at + 1);
  slots_[at].client = std::move(c);
  ++clients_;
}

engine_connection& worker::put_engine(std::unique_ptr<engine_connection> e) {
  const std::size_t at = e->socket.index;
  if (at >= slots_.size()) slots_.resize(at + 1);
  slots_[at].engine = std::move(e);
  ++engines_;
  return *slots_[at].engine;
}

void worker::accepted(socket_id s, std::string_view peer) {
  const leaving_frame frame{*this};
  const limits_config& limits = settings().limits;
  auto c = std::make_unique<client_connection>(
      s, http::request_limits{.head_bytes = limits.head_bytes, .head_fields = limits.head_fields}, buffers_,
      spare_);
  c->peer = peer;
  c->state_since = io_.now();
  c->timer.owner = c.get();
  c->timer.kind = 0;
  ++metrics_.accepted;
  client_connection& here = *c;
  put_client(std::move(c));
  if (clients_ >= client_limit_ && accepting_) {
    accepting_ = false;
    io_.accept_more(false);
  }
  arm(here);
}

// The socket is closed (or dead already); the object lives until the frame ends.
void worker::reap(client_connection& c) {
  if (c.gone) return;
  c.gone = true;
  c.timer.unlink();
  std::erase(waiting_, &c);
  std::unique_ptr<client_connection> own = std::move(slots_[c.socket.index].client);
  if (own->current != nullptr) {
    keep_ghost(std::move(own));
  } else {
    dead_clients_.push_back(std::move(own));
  }
  --clients_;
  if (!accepting_ && clients_ < client_limit_) {
    accepting_ = true;
    io_.accept_more(true);
  }
}

void worker::drop(client_connection& c, bool abort) {
  if (c.gone) return;
  io_.close(c.socket, abort);
  reap(c);
}

void worker::drop(engine_connection& e, bool abort) {
  if (e.gone) return;
  io_.close(e.socket, abort);
  e.gone = true;
  e.timer.unlink();
  if (e.owner == nullptr && !e.connecting) pool_.remove(e);
  if (e.owner != nullptr) engine_at(*e.owner, e.of) = nullptr;
  e.owner = nullptr;
  dead_engines_.push_back(std::move(slots_[e.socket.index].engine));
  --engines_;
}

void worker::bury() {
  dead_clients_.clear();
  dead_engines_.clear();
}

void worker::connected(socket_id s, alpn) {
  const leaving_frame frame{*this};
  engine_connection* e = engine_of(s);
  if (e == nullptr || e->owner == nullptr) return;
  e->connecting = false;
  exchange& x = *e->owner;
  client_connection& c = *x.client;
  drive(x, flow::engine_connected{false, e->of});
  flush(c);
}

void worker::lost(socket_id s, loss how) {
  const leaving_frame frame{*this};
  if (client_connection* c = client_of(s)) {
    client_left(*c, reason::client_gone);
    return reap(*c);
  }
  engine_connection* e = engine_of(s);
  if (e == nullptr) return;
  exchange* x = e->owner;
  const bool was_connecting = e->connecting;
  drop(*e, false);
  if (x == nullptr) return;
  client_connection& c = *x->client;
  if (was_connecting) {
    drive(*x, flow::engine_unreachable{how == loss::timed_out ? reason::connect_timeout
                                       : how == loss::local   ? reason::internal
                                                              : reason::connect_failed,
                                       e->of});
  } else {
    drive(*x, flow::engine_lost{false, e->of});
  }
  flush(c);
}

void worker::received(socket_id s, bytes_view bytes) {
  const leaving_frame frame{*this};
  if (client_connection* c = client_of(s)) return consume(*c, bytes);
  if (engine_connection* e = engine_of(s)) engine_answered(*e, bytes);
}

std::span<char> worker::receive_target(socket_id s) {
  client_connection* c = client_of(s);
  if (c == nullptr || c->current == nullptr || c->current->body_complete) return {};
  exchange& x = *c->current;
  // Small rests are not worth it: behind them the next request may wait in the same segment.
  const std::uint64_t wanted = c->parser.wanted_directly();
  if (x.waiting_for_memory || wanted < 2048) return {};
  return x.body.room(static_cast<std::size_t>(wanted));
}

void worker::received_there(socket_id s, std::size_t n) {
  const leaving_frame frame{*this};
  client_connection* c = client_of(s);
  if (c == nullptr || c->current == nullptr) return;
  c->current->body.filled(n);
  if (c->parser.took_directly(n)) body_done(*c);
  if (!c->gone) arm(*c);
}

void worker::finished(socket_id s) {
  const leaving_frame frame{*this};
  if (client_connection* c = client_of(s)) return client_finished(*c);
  engine_connection* e = engine_of(s);
  if (e == nullptr) return;
  exchange* x = e->owner;
  if (x == nullptr) return drop(*e, false);
  client_connection& c = *x->client;
  if (e->parser.finish()) {
    e->answer_complete = false;  // an answer that ends with the connection leaves nothing to keep
    drive(*x, flow::engine_end{e->of});
  } else {
    drop(*e, false);
    drive(*x, flow::engine_lost{false, e->of});
  }
  flush(c);
}

void worker::writable(socket_id s) {
  const leaving_frame frame{*this};
  if (client_connection* c = client_of(s)) return drained(*c);
  if (engine_connection* e = engine_of(s)) send_on(*e);
}

void worker::tick() {
  const leaving_frame frame{*this};
  wheel_.turn(io_.now(), [this](timer_wheel::entry& e) {
    if (e.kind == 0) return client_timer(*static_cast<client_connection*>(e.owner));
    // Those who are held back are looked at when the batch ends.
    if (e.kind == 1) drop(*static_cast<engine_connection*>(e.owner), false);  // idle for long enough
  });
}

// What follows each other closely wakes a peer once: its process sees the first bytes and has not gone back
// to sleep when the last ones come. Waking another core is dearer than all that a send costs besides.
void worker::put_off(socket_id s, bool& mark) {
  if (mark) return;
  mark = true;
  put_off_.push_back(s);
}

void worker::batch_ended() {
  call_held();
  while (!put_off_.empty()) send_put_off();
}

// Those whose turn has come go where they were meant to, unless that engine is in doubt by now. What was
// booked for them stays until the dispatch, or all would go before the first of them is connected.
void worker::call_held() {
  if (held_.empty()) return;
  const leaving_frame frame{*this};
  const auto takes = [this](endpoint_id e) { return !router_.has_enough(e); };
  while (routing::hold_queue::ticket* t = held_.next(io_.now(), takes)) {
    exchange& x = *static_cast<exchange*>(t->owner);
    client_connection& c = *x.client;
    const std::unique_ptr<held_request> held = std::move(x.held);
    account_record& r = x.flow.record();
    r.held = std::max(io_.now() - r.body_done, duration(1));
    if (router_.doubts(x.work.endpoint(), *fleet_, io_.now())) {
      x.work = {};
      drive(x, flow::turn_came{});
    } else {
      x.work.send();
      router_.turn_came(held->chosen.candidates.front());
      drive(x, flow::picked{std::move(held->chosen)});
    }
    flush(c);
  }
  if (!held_.empty() && !held_timer_.armed()) wheel_.arm(held_timer_, io_.now() + timer_wheel::tick);
}

void worker::send_put_off() {
  const leaving_frame frame{*this};
  sending_.swap(put_off_);
  for (const socket_id s : sending_) {
    if (client_connection* c = client_of(s)) {
      if (c->put_off) drained(*c);
    } else if (engine_connection* e = engine_of(s)) {
      if (std::exchange(e->put_off, false)) send_on(*e);
    }
  }
  sending_.clear();
}

void worker::wake_memory_waiters() {
  while (!waiting_.empty() && !bodies_.full()) {
    client_connection& c = *waiting_.front();
    waiting_.erase(waiting_.begin());
    c.current->waiting_for_memory = false;
    c.current->body_began = io_.now();
    begin_body(c);
    if (c.gone) continue;
    if (!c.early.empty()) {
      consume_early(c);
    } else if (c.paused) {
      c.paused = false;
      io_.resume(c.socket);
    }
  }
}

void worker::close_idle() {
  batch_ended();
  const leaving_frame frame{*this};
  for (slot& s : slots_)
    if (s.client != nullptr && s.client->current == nullptr && !s.client->head_begun &&
        s.client->unsent.empty())
      drop(*s.client, false);
}

std::uint64_t worker::end_all() {
  batch_ended();
  const leaving_frame frame{*this};
  const std::uint64_t cut = live_requests_;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    client_connection* c = slots_[i].client.get();
    if (c == nullptr) continue;
    if (c->current != nullptr && !c->current->finished) {
      c->keep_alive = false;
      drive(*c->current, flow::drain_now{});
      flush(*c);
      if (c->put_off) drained(*c);
    }
    if (!c->gone && c->current == nullptr && c->unsent.empty()) drop(*c, false);
  }
  end_ghosts();
  return cut;
}

worker_metrics worker::metrics() const {
  worker_metrics m = metrics_;
  m.client_connections = clients_;
  m.engine_connections = engines_;
  m.idle_engine_connections = pool_.size();
  m.live_requests = live_requests_;
  m.live_streams = live_streams_;
  m.body_bytes = bodies_.used();
  m.buffer_bytes = buffers_.used();
  m.handoffs_opened = handoffs_.opened();
  m.handoffs_open = handoffs_.open_count();
  for (std::size_t i = 0; i < handoff::closing_count; ++i)
    m.handoffs_closed[i] = handoffs_.closed(static_cast<handoff::closing>(i));
  m.leases = handoffs_.held();
  m.pairs = router_.pairs();
  return m;
}

worker::holdings worker::held() const {
  return {.clients = clients_,
          .engines = engines_,
          .idle_engines = pool_.size(),
          .requests = live_requests_,
          .body_bytes = bodies_.used(),
          .buffer_bytes = buffers_.used(),
          .timers = wheel_.armed(),
          .handoffs = handoffs_.open_count()};
}

}  // namespace penstock::worker
