// A running proxy: workers, and the control thread that probes, scrapes, reloads and drains.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "health/cache_reports.hpp"
#include "health/fleet_tracker.hpp"
#include "penstock/config.hpp"
#include "penstock/fleet_view.hpp"
#include "proxy/io/fleet_probe.hpp"
#include "proxy/io/id_claims.hpp"
#include "proxy/io/listeners.hpp"
#include "proxy/io/log_writer.hpp"
#include "proxy/io/worker_thread.hpp"
#include "routing/router.hpp"

namespace penstock::io {

// Exit codes of `penstock serve`.
enum class exit_code : int {
  drained = 0,
  configuration = 1,
  cannot_listen = 2,
  drain_deadline = 3,
  internal = 70
};

// A new configuration for a reload, or why not (already told to people).
using config_source = std::function<std::shared_ptr<const config>()>;

// Everything of one process but the admin listener. Built, started and ended on the control thread, which
// runs `context`.
class process {
 public:
  process(boost::asio::io_context& context, std::shared_ptr<const config> settings, config_source reread);
  ~process();
  process(const process&) = delete;
  process& operator=(const process&) = delete;

  // Opens the listeners and starts the workers. Empty, or why it cannot listen.
  std::string start();
  // Addresses that are really listened on (port 0 resolved).
  std::vector<std::string> addresses() const;

  // Reads the configuration again and swaps it in; a rejected one changes nothing but a metric.
  void reload();
  // Begins to drain; `on_drained` gets the exit code once. Again: ends at once what is left.
  void drain();
  std::function<void(exit_code)> on_drained;

  // The fleet as the workers see it, now.
  std::shared_ptr<const fleet_view> fleet() const { return view_; }
  // All workers' cells added up, delivered on the control thread. A worker that does not answer within a
  // second is left out, and `complete` is false.
  void collect(std::function<void(worker::worker_metrics, bool complete)> done);

  struct reload_state {
    std::uint64_t good = 0, rejected = 0;
    bool last_good = true;
    std::string last_error;
  };
  const reload_state& reloads() const { return reloads_; }
  std::uint64_t log_lines_dropped() const { return access_log_ != nullptr ? access_log_->dropped() : 0; }
  std::size_t workers() const { return threads_.size(); }
  const routing::shared_state& routing() const { return *routing_; }
  routing::shared_state& routing() { return *routing_; }
  const config& settings() const { return *settings_; }

 private:
  void take_outcomes(std::vector<worker::endpoint_outcome> outcomes);
  void publish();
  void note_cache_told(const worker::endpoint_outcome& outcome);
  void look_at_counters();
  void tell_cache_news(const endpoint_view& of, health::cache_news news);
  const endpoint_view* view_of(endpoint_id id) const;
  void turn();
  void schedule_turn();
  void tell_events();
  void drain_step();
  void stop_listening();
  void end_what_is_left();
  void finish_drain(exit_code code);
  void arm_signals();
  std::uint64_t live() const;

  boost::asio::io_context& context_;
  std::shared_ptr<const config> written_;   // as the file has it
  std::shared_ptr<const config> settings_;  // with derived limits, as the workers have it
  config_source reread_;
  std::unique_ptr<routing::shared_state> routing_;
  std::unique_ptr<id_claims> ids_;
  std::vector<worker_load> loads_;
  std::unique_ptr<worker_commons> commons_;
  std::unique_ptr<log_writer> access_log_;
  listeners listeners_;
  health::fleet_tracker tracker_;
  fleet_probe probe_;
  std::shared_ptr<const fleet_view> view_;
  instant published_{};
  std::vector<std::unique_ptr<worker_thread>> threads_;
  boost::asio::steady_timer turn_timer_, drain_timer_;
  boost::asio::signal_set signals_;
  reload_state reloads_;
  health::cache_reports cache_reports_;
  bool explained_cache_reports_ = false;

  enum class drain_phase : std::uint8_t { none, settling, finishing, ending, over };
  drain_phase drain_ = drain_phase::none;
  instant drain_began_{}, next_progress_{};
  std::size_t still_listening_ = 0;  // workers that did not yet confirm that they accept no more
  std::size_t still_ending_ = 0;     // workers that did not yet say how many requests they cut
  std::uint64_t cut_ = 0;            // requests that the deadline ended
  bool deadline_passed_ = false;
};

}  // namespace penstock::io
