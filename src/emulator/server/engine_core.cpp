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

std::uint64_t engine_core::submit(sequence request, token_sink& sink, double slow) {
  const std::uint64_t id = next_id_++;
  request.id = id;
  const instant at = now();
  // Events up to now belong to others and are delivered by the timer, not from inside this call.
  model_.advance(at, events_, iterations_per_wakeup);
  if (!model_.submit(std::move(request), at)) return 0;
  listeners_.emplace(id, listener{&sink, slow, at});
  arm();
  return id;
}

void engine_core::cancel(std::uint64_t id) {
  if (listeners_.erase(id) == 0) return;
  model_.cancel(id);
  std::erase_if(late_, [&](const auto& e) { return e.second.sequence == id; });
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
  timer_.expires_at(start_ +
                    std::chrono::duration_cast<std::chrono::steady_clock::duration>(next.time_since_epoch()));
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
