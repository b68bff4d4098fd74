// One worker on its own thread: driver, core, mailbox, and where it tells what happened.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "penstock/fleet_view.hpp"
#include "proxy/io/epoll_driver.hpp"
#include "proxy/io/id_claims.hpp"
#include "proxy/io/log_writer.hpp"
#include "proxy/io/mailbox.hpp"
#include "proxy/worker/observer.hpp"
#include "proxy/worker/worker.hpp"
#include "routing/router.hpp"

namespace penstock::io {

// How many clients each worker has: for sharing new ones. Written by its worker, read by all.
struct worker_load {
  alignas(64) std::atomic<std::uint32_t> clients{0};
};

// What all workers of a process have in common; outlives them.
struct worker_commons {
  routing::shared_state& routing;
  id_claims& ids;
  std::vector<worker_load>& loads;
  // Takes outcomes for passive health; called on workers' threads.
  std::function<void(std::vector<worker::endpoint_outcome>)> on_outcomes;
};

class worker_thread final : private worker::observer {
 public:
  worker_thread(std::uint32_t index, worker_commons& commons, std::vector<int> listening, log_ring* log,
                std::shared_ptr<const fleet_view> fleet, std::uint64_t seed);
  ~worker_thread();

  void start();
  // Runs a job on the worker's thread, soon.
  void post(std::function<void(worker::worker&, epoll_driver&)> job);
  // Ends the loop; the destructor joins.
  void stop();
  // Requests in flight and connections with clients, as of the last turn of the loop.
  std::uint64_t live() const { return live_.load(std::memory_order_relaxed); }

 private:
  void run();
  void share_clients();
  void send_outcomes();
  void account(const account_record& record) override;
  void outcome(const worker::endpoint_outcome& what) override;
  bool claim_request_id(std::uint64_t hash) override { return commons_.ids.claim(hash); }
  void release_request_id(std::uint64_t hash) override { commons_.ids.release(hash); }

  std::uint32_t index_;
  worker_commons& commons_;
  log_ring* log_;
  mailbox mailbox_;
  epoll_driver driver_;
  worker::worker worker_;
  std::string line_;  // room for the access line
  std::vector<worker::endpoint_outcome> outcomes_;
  bool urgent_ = false;  // a failure is among the outcomes
  instant outcomes_due_ = never;
  std::atomic<std::uint64_t> live_{0};
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace penstock::io
