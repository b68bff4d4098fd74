#include "emulator/server/engine_core.hpp"

#include <algorithm>
#include <utility>

namespace penstock::emulator {
namespace {

// One wake-up runs at most this many iterations, so that sockets are served even by an engine class that
// is faster than this machine.
constexpr std::uint32_t iterations_per_wakeup = 64;

}  // namespace

engine_core::engine_core(boost::asio::io_context& context, const engine_settings& settings)
    : model_(settings), timer_(context), start_(std::chrono::steady_clock::now()) {}

instant engine_core::now() const {
  return instant(std::chrono::duration_cast<duration>(std::chrono::steady_clock::now() - start_));
}

std::chrono::steady_clock::time_point engine_core::clock_of(instant at) const {
  return start_ + std::chrono::duration_cast<std::chrono::steady_clock::duration>(at.time_since_epoch());
}

// Events up to now belong to others and are delivered by the timer, not from inside a call.
void engine_core::advance_to(instant at) { model_.advance(at, events_, iterations_per_wakeup); }

std::uint64_t engine_core::submit(sequence request, token_sink& sink, double slow) {
  const std::uint64_t id = next_id_++;
  request.id = id;
  const instant at = now();
  advance_to(at);
  if (!model_.submit(std::move(request), at)) return 0;
  listeners_.emplace(id, listener{&sink, slow, at});
  arm();
  return id;
}

void engine_core::cancel(std::uint64_t id) {
  if (listeners_.erase(id) == 0) return;
  const instant at = now();
  // It may have finished already, with the event that tells so still on its way.
  if (!model_.cancel(id, at)) model_.unpin(id, at);
  std::erase_if(late_, [&](const auto& e) { return e.second.sequence == id; });
  arm();
}

void engine_core::kv_loaded(std::uint64_t id, std::uint32_t max_output_tokens,
                            std::vector<std::uint64_t> names) {
  const instant at = now();
  advance_to(at);
  model_.kv_loaded(id, max_output_tokens, std::move(names), at);
  arm();
}

void engine_core::kv_lost(std::uint64_t id) {
  const instant at = now();
  advance_to(at);
  model_.kv_lost(id, at);
  arm();
}

void engine_core::unpin(std::uint64_t id) {
  const instant at = now();
  advance_to(at);
  model_.unpin(id, at);
  arm();
}

void engine_core::stop() {
  stopped_ = true;
  timer_.cancel();
}

void engine_core::arm() {
  instant next = model_.next_time();
  if (!late_.empty()) next = std::min(next, late_.begin()->first);
  if (!events_.empty()) next = std::min(next, now());
  if (stopped_ || next == never || next >= armed_for_) return;
  armed_for_ = next;
  timer_.expires_at(clock_of(next));
  timer_.async_wait([this, alive = std::weak_ptr<bool>(alive_)](boost::system::error_code ec) {
    if (!ec && !alive.expired()) run();
  });
}

void engine_core::run() {
  armed_for_ = never;
  if (stopped_) return;
  const instant until = now();
  model_.advance(until, events_, iterations_per_wakeup);
  deliver(until);
  arm();
}

// Sinks may submit and cancel while they are called; listeners are looked up anew for each event.
void engine_core::deliver(instant until) {
  std::vector<engine_event> events;
  events.swap(events_);
  touched_.clear();
  for (const engine_event& e : events) {
    const auto found = listeners_.find(e.sequence);
    if (found == listeners_.end()) continue;
    const listener& l = found->second;
    if (l.slow == 1) {
      dispatch(e);
      continue;
    }
    const double stretched = static_cast<double>((e.at - l.since).count()) * l.slow;
    late_.emplace(l.since + duration(static_cast<std::int64_t>(std::min(stretched, 1e17))), e);
  }
  while (!late_.empty() && late_.begin()->first <= until) {
    const engine_event e = late_.begin()->second;
    late_.erase(late_.begin());
    dispatch(e);
  }
  // A sink with several sequences is flushed more than once, which costs a look at an empty buffer.
  for (const std::uint64_t id : std::exchange(touched_, {})) {
    if (const auto found = listeners_.find(id); found != listeners_.end()) found->second.sink->flush();
  }
  events.clear();
  if (events_.empty()) events_.swap(events);
}

void engine_core::dispatch(const engine_event& event) {
  const auto found = listeners_.find(event.sequence);
  if (found == listeners_.end()) return;
  token_sink* const sink = found->second.sink;
  if (event.kind == engine_event_kind::finished) {
    listeners_.erase(found);
    sink->on_event(event);
    sink->flush();
    return;
  }
  touched_.push_back(event.sequence);
  sink->on_event(event);
}

}  // namespace penstock::emulator
