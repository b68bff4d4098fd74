#include "proxy/io/worker_thread.hpp"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "proxy/io/access_log.hpp"
#include "proxy/io/clock.hpp"

namespace penstock::io {
namespace {

// Good news may wait so long to be told together; a failure is told at once.
constexpr duration outcomes_wait = std::chrono::milliseconds(100);
// A worker this far above its share leaves new connections to the others.
constexpr std::uint32_t share_slack = 8;
// How often a worker that leaves connections to others looks again.
constexpr duration share_check = std::chrono::milliseconds(20);

}  // namespace

worker_thread::worker_thread(std::uint32_t index, worker_commons& commons, std::vector<int> listening,
                             log_ring* log, std::shared_ptr<const fleet_view> fleet, std::uint64_t seed)
    : index_(index),
      commons_(commons),
      log_(log),
      driver_(std::move(listening), mailbox_.descriptor()),
      worker_({.io = driver_,
               .told = *this,
               .routing = commons.routing,
               .fleet = std::move(fleet),
               .seed = seed,
               .workers = static_cast<std::uint32_t>(commons.loads.size())}) {
  driver_.attach(worker_);
}

worker_thread::~worker_thread() {
  stop();
  if (thread_.joinable()) thread_.join();
}

void worker_thread::start() {
  thread_ = std::thread([this] { run(); });
  const std::string name = "worker-" + std::to_string(index_);
  ::pthread_setname_np(thread_.native_handle(), name.c_str());
}

void worker_thread::post(std::function<void(worker::worker&, epoll_driver&)> job) {
  mailbox_.post([this, job = std::move(job)] { job(worker_, driver_); });
}

void worker_thread::stop() {
  mailbox_.post([this] { stopping_ = true; });
}

void worker_thread::run() {
  const std::function<void()> on_wake = [this] { mailbox_.run(); };
  bool held_back = false;
  while (!stopping_) {
    instant until = std::min(worker_.next_tick(), outcomes_due_);
    if (held_back) until = std::min(until, driver_.now() + share_check);
    driver_.run_once(until, on_wake);
    if (worker_.next_tick() <= driver_.now()) worker_.tick();
    worker_.batch_ended();
    if (urgent_ || outcomes_due_ <= driver_.now()) send_outcomes();
    live_.store(worker_.live_requests() + worker_.client_connections(), std::memory_order_relaxed);
    share_clients();
    held_back = !driver_.share_open();
  }
}

void worker_thread::share_clients() {
  if (commons_.loads.size() < 2) return;
  const auto mine = static_cast<std::uint32_t>(worker_.client_connections());
  std::atomic<std::uint32_t>& told = commons_.loads[index_].clients;
  if (told.load(std::memory_order_relaxed) != mine) told.store(mine, std::memory_order_relaxed);
  std::uint64_t all = 0;
  for (const worker_load& load : commons_.loads) all += load.clients.load(std::memory_order_relaxed);
  const std::uint64_t share = all / commons_.loads.size();
  driver_.set_share_open(mine <= share + share / 8 + share_slack);
}

void worker_thread::account(const account_record& record) {
  if (log_ == nullptr) return;
  log_->push(access_line(line_, record, wall_clock_us()));
}

void worker_thread::outcome(const worker::endpoint_outcome& what) {
  if (what.fault != flow::fault::none) {
    urgent_ = true;
  } else {
    // Of good news only the latest of an endpoint counts.
    for (worker::endpoint_outcome& known : outcomes_) {
      if (!(known.endpoint == what.endpoint) || known.fault != flow::fault::none || known.token != what.token)
        continue;
      const worker::cache_told told = what.cache == worker::cache_told::unknown ? known.cache : what.cache;
      known = what;
      known.cache = told;
      return;
    }
  }
  outcomes_.push_back(what);
  outcomes_due_ = std::min(outcomes_due_, driver_.now() + outcomes_wait);
}

void worker_thread::send_outcomes() {
  urgent_ = false;
  outcomes_due_ = never;
  commons_.on_outcomes(std::exchange(outcomes_, {}));
}

}  // namespace penstock::io
