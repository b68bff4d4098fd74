#include "sim/world.hpp"

#include <algorithm>
#include <utility>

namespace sim {

using penstock::never;
using penstock::worker::loss;

void world::at(duration delay, std::function<void()> what) {
  queue_.push_back({now_ + delay, order_++, std::move(what)});
  std::push_heap(queue_.begin(), queue_.end());
}

bool world::run(instant end, const std::function<instant()>& next_tick) {
  for (;;) {
    const instant tick = bug == planted::swallow_ticks ? never : next_tick();
    const instant event_at = queue_.empty() ? never : queue_.front().when;
    if (tick == never && event_at == never) return true;
    const instant next = std::min(tick, event_at);
    if (next > end) return false;
    now_ = std::max(now_, next);
    if (tick <= event_at) {
      events_->tick();
    } else {
      std::pop_heap(queue_.begin(), queue_.end());
      const auto what = std::move(queue_.back().what);
      queue_.pop_back();
      what();
    }
    // Batches of one event and of several that came close together.
    const bool more = !queue_.empty() && queue_.front().when - now_ < net.batch_max;
    if (!more || chance(0.3)) events_->batch_ended();
  }
}

world::link* world::find(socket_id s) {
  if (s.index >= links_.size()) return nullptr;
  link& l = links_[s.index];
  return l.generation == s.generation && l.peer != nullptr ? &l : nullptr;
}

socket_id world::make(actor* peer, bool client) {
  std::uint32_t at = 0;
  if (free_.empty()) {
    at = static_cast<std::uint32_t>(links_.size());
    links_.emplace_back();
    last_to_peer_.emplace_back();
  } else {
    at = free_.back();
    free_.pop_back();
  }
  const std::uint32_t generation = links_[at].generation + 1;
  links_[at] = link{};
  links_[at].generation = generation;
  links_[at].open = true;
  links_[at].client = client;
  links_[at].window = net.window;
  links_[at].peer = peer;
  last_to_peer_[at] = now_;
  return {at, generation};
}

std::size_t world::open_links() const {
  return static_cast<std::size_t>(
      std::count_if(links_.begin(), links_.end(), [](const link& l) { return l.open; }));
}

// --- actors -----------------------------------------------------------------------------------------

socket_id world::join(actor& client) {
  const socket_id s = make(&client, true);
  events_->accepted(s, "sim:1");
  return s;
}

void world::send(socket_id s, std::string bytes) {
  link* l = find(s);
  if (l == nullptr || !l->open || l->fin) return;
  l->sent += bytes.size();
  for (std::size_t from = 0, n = 0; from < bytes.size(); from += n) {
    n = 1 + rng.below(std::min(bytes.size() - from, net.piece_max));
    l->inbox.push_back(bytes.substr(from, n));
  }
  pump_soon(s);
}

void world::when_heard(socket_id s, std::function<void(hearing)> what) {
  link* l = find(s);
  if (l == nullptr || !l->open) return what(hearing::closed);
  l->marks.push_back({l->sent, l->fin || l->resetting, std::move(what)});
  tell_marks(s);
}

void world::tell_marks(socket_id s) {
  for (;;) {
    link* l = find(s);
    if (l == nullptr || l->marks.empty()) return;
    const mark& first = l->marks.front();
    if (l->heard < first.at || (first.fin && !l->fin_told)) return;
    const auto what = std::move(l->marks.front().what);
    l->marks.pop_front();
    what(hearing::whole);
  }
}

// The worker does not hold this id any more.
void world::let_go(socket_id s, hearing how) {
  link& l = links_[s.index];
  const std::deque<mark> marks = std::exchange(l.marks, {});
  const std::uint64_t heard = l.heard;
  const bool fin = l.fin_told;
  l.open = false;
  l.peer = nullptr;
  free_.push_back(s.index);
  for (const mark& m : marks) m.what(m.at <= heard && (fin || !m.fin) ? hearing::whole : how);
}

void world::finish(socket_id s) {
  link* l = find(s);
  if (l == nullptr || !l->open) return;
  l->fin = true;
  pump_soon(s);
}

void world::reset(socket_id s, std::function<void()> arrived) {
  if (link* l = find(s); l != nullptr) l->resetting = true;
  at(jitter(net.latency_max), [this, s, arrived = std::move(arrived)] {
    link* l = find(s);
    if (l == nullptr || !l->open) return;
    if (arrived) arrived();
    if (l->client && bug == planted::swallow_client_loss) return;
    let_go(s, hearing::reset);
    events_->lost(s, loss::reset);
  });
}

void world::consume(socket_id s, std::size_t n) {
  link* l = find(s);
  if (l == nullptr || !l->open) return;
  l->window += n;
  if (!l->wants_writable) return;
  l->wants_writable = false;
  at(jitter(net.latency_max), [this, s] {
    link* still = find(s);
    if (still != nullptr && still->open) events_->writable(s);
  });
}

void world::pump_soon(socket_id s) {
  link* l = find(s);
  if (l == nullptr || l->pumping) return;
  l->pumping = true;
  at(jitter(net.latency_max), [this, s] { pump(s); });
}

void world::pump(socket_id s) {
  link* l = find(s);
  if (l == nullptr) return;
  l->pumping = false;
  if (!l->open || l->connecting) return;
  if (!l->paused && !l->inbox.empty()) {
    std::string bytes = std::move(l->inbox.front());
    l->inbox.pop_front();
    // Sometimes several pieces arrive as one.
    while (!l->inbox.empty() && chance(0.5)) {
      bytes += l->inbox.front();
      l->inbox.pop_front();
    }
    if (!l->client && bug == planted::repeat_engine_bytes && chance(0.2)) l->inbox.push_front(bytes);
    const std::span<char> direct = events_->receive_target(s);
    if (!direct.empty()) {
      const std::size_t n = std::min(direct.size(), bytes.size());
      std::copy_n(bytes.data(), n, direct.data());
      if (n < bytes.size()) l->inbox.push_front(bytes.substr(n));
      l->heard += n;
      events_->received_there(s, n);
    } else {
      l->heard += bytes.size();
      events_->received(s, bytes);
    }
    tell_marks(s);
    return pump_soon(s);
  }
  // A client's FIN shows even where nobody reads, and again behind its bytes; an engine's only there.
  if (!l->fin || l->fin_told) return;
  if (!l->paused) {
    l->fin_told = true;
    events_->finished(s);
    tell_marks(s);
  } else if (l->client && !l->leaving_told) {
    l->leaving_told = true;
    events_->finished(s);
  }
}

// --- the worker ---------------------------------------------------------------------------------------

// What the worker does to a peer arrives in order, after a delay.
void world::to_peer(socket_id s, std::function<void(actor&)> what) {
  link* l = find(s);
  if (l == nullptr) return;
  actor* peer = l->peer;
  instant when = std::max(now_ + jitter(net.latency_max), last_to_peer_[s.index]);
  last_to_peer_[s.index] = when;
  at(when - now_, [peer, what = std::move(what)] { what(*peer); });
}

socket_id world::connect(const penstock::net_address& to) {
  actor* engine = engine_at(to.port);
  static actor* const nobody = nullptr;
  if (engine == nobody) {
    // Refused: an id all the same, as the seam promises.
    struct absent final : actor {
      void connected(socket_id) override {}
      void got(socket_id, bytes_view) override {}
      void closed(socket_id, bool) override {}
    };
    static absent refusing;
    const socket_id s = make(&refusing, false);
    links_[s.index].connecting = true;
    at(jitter(net.latency_max), [this, s] {
      link* l = find(s);
      if (l == nullptr || !l->open) return;
      let_go(s, hearing::closed);
      events_->lost(s, loss::refused);
    });
    return s;
  }
  const socket_id s = make(engine, false);
  links_[s.index].connecting = true;
  at(jitter(net.latency_max), [this, s] {
    link* l = find(s);
    if (l == nullptr || !l->open) return;
    l->connecting = false;
    l->peer->connected(s);
    l = find(s);
    if (l == nullptr || !l->open) return;
    events_->connected(s, penstock::worker::alpn::http1);
    pump_soon(s);
  });
  return s;
}

std::size_t world::write(socket_id to, std::span<const bytes_view> parts) {
  std::size_t all = 0;
  for (const bytes_view part : parts) all += part.size();
  link* l = find(to);
  if (l == nullptr || !l->open || all == 0) return all;
  const std::size_t n = std::min(all, l->window);
  l->window -= n;
  if (n < all) l->wants_writable = true;
  std::string sent;
  sent.reserve(n);
  for (const bytes_view part : parts) sent += part.substr(0, n - sent.size());
  if (bug == planted::lose_written_bytes && l->client && n > 40 && chance(0.05)) sent.pop_back();
  if (!sent.empty()) to_peer(to, [to, sent = std::move(sent)](actor& peer) { peer.got(to, sent); });
  return n;
}

void world::pause(socket_id s) {
  link* l = find(s);
  if (l == nullptr) return;
  l->paused = true;
  pump_soon(s);
}

void world::resume(socket_id s) {
  link* l = find(s);
  if (l == nullptr) return;
  l->paused = false;
  pump_soon(s);
}

void world::finish_sending(socket_id s) {
  link* l = find(s);
  if (l == nullptr || l->fin_sent) return;
  l->fin_sent = true;
  to_peer(s, [s](actor& peer) { peer.closed(s, false); });
}

void world::close(socket_id s, bool abort) {
  link* l = find(s);
  if (l == nullptr || !l->open) return;
  const bool heard = l->client || bug != planted::swallow_hang_ups;
  if (heard && (!l->fin_sent || abort)) to_peer(s, [s, abort](actor& peer) { peer.closed(s, abort); });
  let_go(s, hearing::closed);
}

}  // namespace sim
