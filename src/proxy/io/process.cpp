#include "proxy/io/process.hpp"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <csignal>
#include <utility>

#include "health/findings.hpp"
#include "proxy/config/reference.hpp"
#include "proxy/io/clock.hpp"
#include "proxy/io/cpu_quota.hpp"
#include "proxy/io/huge_pages.hpp"
#include "proxy/io/log.hpp"
#include "proxy/io/service_manager.hpp"
#include "proxy/io/warm_memory.hpp"

namespace penstock::io {
namespace {

// Figures that changed a little are worth a new view this often.
constexpr duration figures_interval = std::chrono::milliseconds(100);
constexpr duration drain_check = std::chrono::milliseconds(20);
constexpr duration progress_interval = std::chrono::seconds(5);
constexpr duration collect_timeout = std::chrono::seconds(1);

std::uint64_t kernel_random() {
  std::uint64_t seed = 0;
  if (::getrandom(&seed, sizeof seed, 0) != static_cast<ssize_t>(sizeof seed))
    seed = static_cast<std::uint64_t>(read_clock().time_since_epoch().count());
  return seed;
}

std::chrono::steady_clock::time_point asio_time(instant t) {
  return std::chrono::steady_clock::time_point(t.time_since_epoch());
}

health::traffic_outcome outcome_of(const worker::endpoint_outcome& o) {
  using to = health::traffic_outcome;
  switch (o.fault) {
    case flow::fault::none: return o.token ? to::token_seen : to::ok;
    case flow::fault::unreachable: return to::connect_failed;
    case flow::fault::reset: return to::reset;
    case flow::fault::garbage: return to::garbage;
    case flow::fault::timeout: return to::timeout;
    case flow::fault::overloaded:
    case flow::fault::server_error: break;
  }
  return to::server_error;
}

// Connections of clients that the descriptor limit leaves room for: each may need one to an engine.
std::uint32_t clients_for_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1000;
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    ::getrlimit(RLIMIT_NOFILE, &limit);
  }
  constexpr rlim_t reserve = 64;
  const rlim_t usable = limit.rlim_cur > 2 * reserve ? limit.rlim_cur - reserve : limit.rlim_cur / 2;
  return static_cast<std::uint32_t>(std::min<rlim_t>(usable / 2, 500'000));
}

std::shared_ptr<const config> with_derived_limits(std::shared_ptr<const config> settings) {
  const std::uint32_t possible = clients_for_descriptors();
  if (settings->limits.connections != 0 && settings->limits.connections <= possible) return settings;
  if (settings->limits.connections > possible)
    log(log_level::warn,
        fmt::format("limits.connections is {}, but the descriptor limit allows {}; using that. "
                    "Raise it with `ulimit -n` or LimitNOFILE=",
                    settings->limits.connections, possible));
  auto derived = std::make_shared<config>(*settings);
  derived->limits.connections = possible;
  return derived;
}

}  // namespace

process::process(boost::asio::io_context& context, std::shared_ptr<const config> settings,
                 config_source reread)
    : context_(context),
      written_(settings),
      settings_(with_derived_limits(std::move(settings))),
      reread_(std::move(reread)),
      routing_(std::make_unique<routing::shared_state>(settings_->routing, kernel_random())),
      ids_(std::make_unique<id_claims>()),
      tracker_(kernel_random()),
      probe_(context, tracker_, [this] { publish(); }),
      turn_timer_(context),
      drain_timer_(context),
      signals_(context) {
  if (!advise_huge_pages(routing_->prefixes.memory()))
    log(log_level::debug, "no huge pages for the prefix table: a decision costs some microseconds more");
}

process::~process() {
  probe_.stop();
  for (const auto& thread : threads_) thread->stop();
  threads_.clear();
}

std::string process::start() {
  set_log_level(settings_->log.level);
  for (const std::string& address : settings_->server.listen)
    if (std::string error = listeners_.open(address); !error.empty()) return error;
  for (const std::string& address : listeners_.passed_for_nothing())
    log(log_level::warn, "the service manager passed a socket at " + address +
                             " that server.listen does not name: nobody serves it");
  warm_memory(routing_->prefixes.memory());
  tracker_.apply(settings_, read_clock());
  probe_.resolve_literals();
  view_ = tracker_.build_view(read_clock());

  const worker_count count = count_workers(settings_->server.workers);
  loads_ = std::vector<worker_load>(count.workers);
  commons_ = std::make_unique<worker_commons>(worker_commons{
      .routing = *routing_, .ids = *ids_, .loads = loads_, .on_outcomes = [this](auto outcomes) {
        boost::asio::post(context_,
                          [this, o = std::move(outcomes)]() mutable { take_outcomes(std::move(o)); });
      }});
  try {
    access_log_ = std::make_unique<log_writer>(settings_->log.access);
  } catch (const std::system_error& e) {
    return e.what();
  }
  // SIGPIPE: a peer that left is an error code, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  for (std::uint32_t i = 0; i < count.workers; ++i)
    threads_.push_back(std::make_unique<worker_thread>(
        i, *commons_, listeners_.descriptors(), access_log_->off() ? nullptr : &access_log_->add_ring(),
        view_, kernel_random()));
  access_log_->start();
  for (const auto& thread : threads_) thread->start();
  log(log_level::info,
      fmt::format("workers: {}; at most {} client connections", count.reason, settings_->limits.connections));
  arm_signals();
  probe_.on_cache_report([this](endpoint_id id, bool told) {
    if (const endpoint_view* of = view_of(id)) tell_cache_news(*of, cache_reports_.declared(id, told));
  });
  turn();
  notify_service_manager("READY=1");
  return {};
}

std::vector<std::string> process::addresses() const {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < listeners_.descriptors().size(); ++i) out.push_back(listeners_.local(i));
  return out;
}

// --- fleet ------------------------------------------------------------------------------------------

void process::take_outcomes(std::vector<worker::endpoint_outcome> outcomes) {
  for (const worker::endpoint_outcome& o : outcomes) note_cache_told(o);
  for (const worker::endpoint_outcome& o : outcomes)
    if (o.fault != flow::fault::overloaded) tracker_.traffic(o.endpoint, outcome_of(o), o.began, o.at);
  publish();
}

// Engines leave `cached_tokens` out of usage unless told otherwise when they start.
void process::note_cache_told(const worker::endpoint_outcome& o) {
  using told = worker::cache_told;
  const endpoint_view* const of = o.cache == told::unknown ? nullptr : view_of(o.endpoint);
  if (of == nullptr) return;
  tell_cache_news(*of, cache_reports_.answered(o.endpoint, o.cache == told::yes, of->engine.prefix_hits));
}

// The figures of a new view may be what a suspicion waits for; and the first view with a vLLM engine is the
// earliest time at which its switch can be named.
void process::look_at_counters() {
  for (const endpoint_view& e : view_->endpoints) {
    if (cache_reports_.waiting()) tell_cache_news(e, cache_reports_.scraped(e.id, e.engine.prefix_hits));
    if (explained_cache_reports_ || !health::is_engine(e.models, "vllm")) continue;
    explained_cache_reports_ = true;
    log(log_level::info,
        fmt::format(
            "endpoint {} is vLLM, which does not show whether it has {}; `penstock check --live` asks it",
            e.settings.url, health::cached_tokens_switch(e)));
  }
}

const endpoint_view* process::view_of(endpoint_id id) const {
  const auto of = std::find_if(view_->endpoints.begin(), view_->endpoints.end(),
                               [id](const endpoint_view& e) { return e.id == id; });
  return of == view_->endpoints.end() ? nullptr : &*of;
}

void process::tell_cache_news(const endpoint_view& of, health::cache_news news) {
  if (news == health::cache_news::none) return;
  if (news == health::cache_news::tells_after_all)
    return log(log_level::info, fmt::format("endpoint {} tells cached_tokens after all", of.settings.url));
  log(log_level::warn,
      fmt::format("endpoint {}: its answers do not tell cached_tokens; start the engine with {}, so "
                  "that what is believed of its cache can be checked",
                  of.settings.url, health::cached_tokens_switch(of)));
}

void process::turn() {
  const instant now = read_clock();
  for (const health::task& task : tracker_.due(now)) probe_.carry_out(task, settings_->health);
  publish();
}

void process::publish() {
  const instant now = read_clock();
  const health::view_change change = tracker_.changed(now);
  const bool due = change == health::view_change::urgent ||
                   (change == health::view_change::figures && now - published_ >= figures_interval);
  if (due) {
    view_ = tracker_.build_view(now);
    published_ = now;
    for (const auto& thread : threads_)
      thread->post([view = view_](worker::worker& w, epoll_driver&) { w.fleet_changed(view); });
    look_at_counters();
  }
  tell_events();
  schedule_turn();
}

void process::schedule_turn() {
  if (drain_ == drain_phase::over) return;
  instant next = tracker_.next_due();
  // Figures that wait for their turn are published when it comes.
  if (tracker_.changed(read_clock()) == health::view_change::figures)
    next = std::min(next, published_ + figures_interval);
  if (next == never) return;
  turn_timer_.expires_at(asio_time(next));
  turn_timer_.async_wait([this](boost::system::error_code ec) {
    if (!ec) turn();
  });
}

void process::tell_events() {
  using kind = health::fleet_event::kind;
  for (const health::fleet_event& e : tracker_.take_events()) {
    switch (e.what) {
      case kind::added: log(log_level::info, "endpoint " + e.url + " added"); break;
      case kind::removed:
        routing_->prefixes.drop(e.endpoint);
        log(log_level::info, "endpoint " + e.url + " removed");
        break;
      case kind::restarted:
        routing_->prefixes.drop(e.endpoint);
        cache_reports_.restarted(e.endpoint);
        log(log_level::warn, "endpoint " + e.url + " restarted: its cache is taken to be empty");
        break;
      case kind::read_late:
        log(log_level::warn,
            fmt::format("endpoint {}: {} hand-off{} lease, and what came of it may be wrong; compare "
                        "pool.disaggregation.lease with the engine's",
                        e.url, e.count, e.count == 1 ? " was read after its" : "s were read after their"));
        break;
      case kind::life_changed:
        log(e.after == life::up || e.after == life::starting ? log_level::info : log_level::warn,
            fmt::format("endpoint {}: {} -> {}", e.url, name(e.before), name(e.after)));
        break;
    }
  }
}

// --- metrics ----------------------------------------------------------------------------------------

void process::collect(std::function<void(worker::worker_metrics, bool)> done) {
  struct gathering {
    worker::worker_metrics sum;
    std::size_t missing = 0;
    std::function<void(worker::worker_metrics, bool)> done;
    boost::asio::steady_timer timer;
    void finish() {
      if (done) std::exchange(done, nullptr)(std::move(sum), missing == 0);
      timer.cancel();
    }
  };
  auto all = std::make_shared<gathering>(gathering{
      .missing = threads_.size(), .done = std::move(done), .timer = boost::asio::steady_timer(context_)});
  all->timer.expires_after(collect_timeout);
  all->timer.async_wait([all](boost::system::error_code ec) {
    if (!ec) all->finish();
  });
  for (const auto& thread : threads_)
    thread->post([this, all](worker::worker& w, epoll_driver&) {
      boost::asio::post(context_, [all, cells = w.metrics()] {
        if (!all->done) return;
        all->sum.add(cells);
        if (--all->missing == 0) all->finish();
      });
    });
}

// --- reload -----------------------------------------------------------------------------------------

void process::arm_signals() {
  for (const int number : {SIGHUP, SIGTERM, SIGINT, SIGUSR1}) signals_.add(number);
  signals_.async_wait([this](boost::system::error_code ec, int number) {
    if (ec) return;
    signals_.clear();
    if (number == SIGHUP) reload();
    if (number == SIGUSR1 && access_log_ != nullptr) access_log_->reopen();
    if (number == SIGTERM || number == SIGINT) drain();
    arm_signals();
  });
}

void process::reload() {
  notify_service_manager(
      fmt::format("RELOADING=1\nMONOTONIC_USEC={}", read_clock().time_since_epoch().count() / 1000));
  std::shared_ptr<const config> next = reread_ ? reread_() : nullptr;
  std::string error;
  if (next == nullptr) {
    error = "the file was not accepted";
  } else if (const std::string keys = conf::reload_conflict(*written_, *next); !keys.empty()) {
    error = "these keys change only with a restart: " + keys;
  } else {
    const std::shared_ptr<const config> written = next;
    next = with_derived_limits(std::move(next));
    if (tracker_.apply(next, read_clock())) {
      written_ = written;
    } else {
      error = "there are more endpoints than one process can know";
    }
  }
  reloads_.last_good = error.empty();
  reloads_.last_error = error;
  if (error.empty()) {
    ++reloads_.good;
    settings_ = next;
    set_log_level(settings_->log.level);
    log(log_level::info, "the new configuration is in force");
  } else {
    ++reloads_.rejected;
    log(log_level::error, "reload rejected, the old configuration stays: " + error);
  }
  if (access_log_ != nullptr) access_log_->reopen();
  probe_.resolve_literals();
  turn();
  notify_service_manager("READY=1");
}

// --- drain ------------------------------------------------------------------------------------------

std::uint64_t process::live() const {
  std::uint64_t sum = 0;
  for (const auto& thread : threads_) sum += thread->live();
  return sum;
}

void process::drain() {
  if (drain_ == drain_phase::over) return;
  if (drain_ != drain_phase::none) {
    log(log_level::warn, "second signal: ending what is left");
    deadline_passed_ = true;
    return drain_step();
  }
  notify_service_manager("STOPPING=1");
  drain_ = drain_phase::settling;
  drain_began_ = next_progress_ = read_clock();
  log(log_level::info,
      fmt::format("draining: new connections for {:.1f} s more, streams for at most {:.0f} s",
                  seconds(settings_->timeouts.drain_settle), seconds(settings_->timeouts.drain)));
  tracker_.drain_all(true);
  publish();
  drain_step();
}

// Once every worker confirmed, the sockets are closed and new clients are refused; what was accepted until
// then shows in live().
void process::stop_listening() {
  still_listening_ = threads_.size();
  for (const auto& thread : threads_)
    thread->post([this](worker::worker&, epoll_driver& d) {
      d.stop_listening();
      boost::asio::post(context_, [this] {
        if (--still_listening_ == 0) listeners_.close();
      });
    });
}

// Connections without a request in hand are no loss: only requests that were cut make the exit code.
void process::end_what_is_left() {
  still_ending_ = threads_.size();
  for (const auto& thread : threads_)
    thread->post([this](worker::worker& w, epoll_driver&) {
      boost::asio::post(context_, [this, cut = w.end_all()] {
        cut_ += cut;
        --still_ending_;
      });
    });
}

void process::drain_step() {
  const instant now = read_clock();
  if (drain_ == drain_phase::settling &&
      (deadline_passed_ || now >= drain_began_ + settings_->timeouts.drain_settle)) {
    drain_ = drain_phase::finishing;
    stop_listening();
  }
  if (drain_ == drain_phase::finishing) {
    for (const auto& thread : threads_)
      thread->post([](worker::worker& w, epoll_driver&) { w.close_idle(); });
    if (now >= drain_began_ + std::max(settings_->timeouts.drain, settings_->timeouts.drain_settle))
      deadline_passed_ = true;
    if (deadline_passed_ && live() != 0) {
      drain_ = drain_phase::ending;
      log(log_level::warn, fmt::format("drain deadline: {} connections and requests are ended", live()));
      end_what_is_left();
      drain_began_ = now;
    }
  }
  const bool ended = drain_ == drain_phase::ending && now >= drain_began_ + std::chrono::seconds(2);
  const bool settled = drain_ != drain_phase::settling && still_listening_ == 0 && still_ending_ == 0;
  if (settled && (live() == 0 || ended))
    return finish_drain(cut_ != 0 ? exit_code::drain_deadline : exit_code::drained);
  if (now >= next_progress_) {
    next_progress_ = now + progress_interval;
    log(log_level::info, fmt::format("draining: {} connections and requests left", live()));
  }
  drain_timer_.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(drain_check));
  drain_timer_.async_wait([this](boost::system::error_code ec) {
    if (!ec) drain_step();
  });
}

void process::finish_drain(exit_code code) {
  drain_ = drain_phase::over;
  probe_.stop();
  turn_timer_.cancel();
  for (const auto& thread : threads_) thread->stop();
  threads_.clear();
  listeners_.close();
  access_log_.reset();
  signals_.cancel();
  if (on_drained) on_drained(code);
}

}  // namespace penstock::io
