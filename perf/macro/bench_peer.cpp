// Engine and load of the macro benchmark in one thread. It opens the engine's ports, prints "ready", waits on
// stdin for "go PID" (the proxy's, 0 for none), runs one case, prints "open" and "close" at the ends of its
// window, and one line of JSON at last.
#include <fmt/format.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "engine.hpp"
#include "load.hpp"
#include "loop.hpp"
#include "probe.hpp"

namespace penstock::perf {
namespace {

enum class run_mode : std::uint8_t { requests, streams, first_token };

struct options {
  run_mode mode = run_mode::requests;
  std::vector<std::uint16_t> engine_ports, prefill_ports;
  std::uint32_t prefill_blocks = 32;
  std::uint16_t target = 0;
  std::string bodies;
  std::uint32_t connections = 32;  // streams: how many
  double rate = 1000;              // requests a second
  double event_rate = 50;          // events a second and stream
  nanos warmup = second / 2;       // after the last start of a stream
  nanos spread = 2 * second;       // of the streams' starts
  nanos window = 2 * second;
  nanos tick = 0;  // of the engine's events and the clients' requests; 0: none
  bool count_syscalls = false;
};

[[noreturn]] void usage(std::string_view problem) {
  fmt::print(
      stderr,
      "bench_peer: {}\nusage: bench_peer --mode requests|streams|first_token --engine-port P... --target P\n"
      "  --bodies FILE [--connections N] [--rate R] [--event-rate R] [--warmup S] [--spread S]\n"
      "  [--window S] [--tick S] [--count-syscalls]\n  [--prefill-port P... --prefill-blocks N]\n",
      problem);
  std::exit(2);
}

double number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) usage(text);
  return value;
}

run_mode mode_of(std::string_view text) {
  if (text == "requests") return run_mode::requests;
  if (text == "streams") return run_mode::streams;
  if (text == "first_token") return run_mode::first_token;
  usage(text);
}

nanos seconds(std::string_view text) { return static_cast<nanos>(number(text) * double{second}); }
std::uint16_t port(std::string_view text) { return static_cast<std::uint16_t>(number(text)); }

void set_option(options& o, std::string_view key, std::string_view value) {
  if (key == "--mode") {
    o.mode = mode_of(value);
  } else if (key == "--engine-port") {
    o.engine_ports.push_back(port(value));
  } else if (key == "--prefill-port") {
    o.prefill_ports.push_back(port(value));
  } else if (key == "--prefill-blocks") {
    o.prefill_blocks = static_cast<std::uint32_t>(number(value));
  } else if (key == "--target") {
    o.target = port(value);
  } else if (key == "--bodies") {
    o.bodies = value;
  } else if (key == "--connections") {
    o.connections = static_cast<std::uint32_t>(number(value));
  } else if (key == "--rate") {
    o.rate = number(value);
  } else if (key == "--event-rate") {
    o.event_rate = number(value);
  } else if (key == "--warmup") {
    o.warmup = seconds(value);
  } else if (key == "--spread") {
    o.spread = seconds(value);
  } else if (key == "--tick") {
    o.tick = seconds(value);
  } else if (key == "--window") {
    o.window = seconds(value);
  } else {
    usage(key);
  }
}

options parse(int argc, char** argv) {
  options o;
  for (int i = 1; i < argc; ++i) {
    const std::string_view key = argv[i];
    if (key == "--count-syscalls") {
      o.count_syscalls = true;
    } else if (++i < argc) {
      set_option(o, key, argv[i]);
    } else {
      usage(key);
    }
  }
  if (o.engine_ports.empty() || o.target == 0 || o.connections == 0 || o.rate <= 0 || o.event_rate <= 0) {
    usage("a needed option is missing or 0");
  }
  return o;
}

// "go PID" on stdin, while the engine already answers the proxy's probes.
class starter final : public handler {
 public:
  explicit starter(poller& p) { p.add(STDIN_FILENO, *this); }
  void on_ready(std::uint32_t) override {
    char bytes[64];
    const auto n = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (n <= 0) std::exit(3);  // the harness is gone
    line_.append(bytes, static_cast<std::size_t>(n));
    if (line_.find('\n') != std::string::npos && line_.starts_with("go "))
      pid_ = std::atoi(line_.c_str() + 3);
  }
  std::optional<pid_t> pid() const { return pid_; }

 private:
  std::string line_;
  std::optional<pid_t> pid_;
};

// What the counters stood at, at one end of the window.
struct reading {
  nanos at = 0, proxy_cpu = 0, own_cpu = 0;
  std::uint64_t requests = 0, events = 0, engine_events = 0, prefills = 0, system_calls = 0;
  thread_times proxy_threads, own_threads;
};

engine_options engine_of(const options& o) {
  engine_options e;
  e.ports = o.engine_ports;
  e.prefill_ports = o.prefill_ports;
  e.prefill_blocks = o.prefill_blocks;
  e.stream = o.mode != run_mode::requests;
  e.event_interval = static_cast<nanos>(double{second} / o.event_rate);
  e.tick = o.tick;
  // The time to the first token is about single, short answers.
  if (o.mode == run_mode::first_token) {
    e.event_interval = second / 1000;
    e.tick = 0;
    e.events_max = 3;
  }
  return e;
}

load_options load_of(const options& o) {
  load_options l;
  l.port = o.target;
  l.stream = o.mode != run_mode::requests;
  l.connections = o.connections;
  if (o.mode == run_mode::streams) {
    l.interval = o.spread / o.connections;
    l.starts_max = o.connections;
  } else {
    l.interval = static_cast<nanos>(double{second} / o.rate);
    l.tick = o.tick;
  }
  return l;
}

nanos quantile(std::vector<nanos>& values, double q) {
  if (values.empty()) return 0;
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

// One word a line tells the harness where the run is.
void announce(std::string_view word) {
  fmt::print("{}\n", word);
  std::fflush(stdout);
}

class run {
 public:
  explicit run(const options& o) : options_(o), engine_(poller_, engine_of(o)), starter_(poller_) {}
  // 0: the run was made; whether it is void is for the reader of the JSON to say.
  int operator()();

 private:
  void wait_for_start();
  void serve_until(nanos time);
  void drain();
  reading read_counters() const;
  void print(const reading& open, const reading& close);

  options options_;
  poller poller_;
  engine engine_;
  starter starter_;
  pid_t pid_ = 0;
  std::optional<load> load_;
  std::optional<syscall_counter> system_calls_;
  std::uint64_t idle_memory_ = 0, loaded_memory_ = 0, live_ = 0;
  bool unfinished_ = false;
};

void run::wait_for_start() {
  while (!starter_.pid()) poller_.run_once(engine_.tick(now()));
  pid_ = *starter_.pid();
  idle_memory_ = pid_ != 0 ? anonymous_memory(pid_) : 0;
}

void run::serve_until(nanos time) {
  for (nanos at = now(); at < time; at = now()) {
    const auto next = std::min(engine_.tick(at), load_->tick(at));
    poller_.run_once(std::min(next, time));
  }
}

reading run::read_counters() const {
  reading r;
  r.requests = load_->counters().requests;
  r.events = load_->counters().events;
  r.engine_events = engine_.counters().events;
  r.prefills = engine_.counters().prefills;
  r.own_cpu = cpu_time(0);
  r.proxy_cpu = pid_ != 0 ? cpu_time(pid_) : 0;
  r.own_threads = read_threads(getpid());
  if (pid_ != 0) r.proxy_threads = read_threads(pid_);
  if (system_calls_) r.system_calls = system_calls_->read().value_or(0);
  r.at = now();
  return r;
}

// Every stream must come to its proper end, or the run has errors.
void run::drain() {
  load_->stop();
  engine_.end_streams();
  const auto deadline = now() + 3 * second;
  while (!load_->idle() && now() < deadline) serve_until(now() + second / 100);
  unfinished_ = !load_->idle();
}

int run::operator()() {
  // Sleeps end when they are due and not 50 us later.
  prctl(PR_SET_TIMERSLACK, 1UL);
  auto requests = read_requests(options_.bodies, options_.target);
  announce("ready");
  wait_for_start();
  const auto start = now();
  load_.emplace(poller_, load_of(options_), std::move(requests), start);
  const bool streams = options_.mode == run_mode::streams;
  const auto open_at = start + options_.warmup + (streams ? options_.spread : 0);
  if (streams) load_->sample(true);
  serve_until(open_at);
  if (options_.count_syscalls && pid_ != 0) system_calls_.emplace(pid_);
  load_->sample(!streams);
  announce("open");
  const auto open = read_counters();
  serve_until(open_at + options_.window);
  const auto close = read_counters();
  announce("close");
  load_->sample(false);
  live_ = load_->counters().live;
  loaded_memory_ = pid_ != 0 ? anonymous_memory(pid_) : 0;
  drain();
  print(open, close);
  return 0;
}

void run::print(const reading& open, const reading& close) {
  const auto elapsed = static_cast<double>(close.at - open.at) / double{second};
  const bool streams = options_.mode == run_mode::streams;
  const auto units = streams ? close.events - open.events : close.requests - open.requests;
  const auto nominal = streams ? options_.connections * options_.event_rate : options_.rate;
  auto& taken = load_->taken();
  // Each event that the engine sent must have arrived once, less the usage event that only a proxy asked for.
  const bool lost =
      options_.mode != run_mode::requests && load_->counters().events != engine_.counters().events;
  const auto per_unit = [&](nanos cpu) {
    return units == 0 ? 0.0 : static_cast<double>(cpu) / 1e3 / static_cast<double>(units);
  };
  fmt::print(R"({{"units":{},"nominal":{:.1f},"rate":{:.1f},"engine_events":{},"window_s":{:.4f},)", units,
             nominal, static_cast<double>(units) / elapsed, close.engine_events - open.engine_events,
             elapsed);
  fmt::print(R"("proxy_us":{:.4f},"proxy_busy":{:.4f},"peer_us":{:.4f},"peer_busy":{:.4f},)",
             per_unit(close.proxy_cpu - open.proxy_cpu),
             static_cast<double>(close.proxy_cpu - open.proxy_cpu) / 1e9 / elapsed,
             per_unit(close.own_cpu - open.own_cpu),
             static_cast<double>(close.own_cpu - open.own_cpu) / 1e9 / elapsed);
  // Waiting for a core that somebody else had: such a run says little.
  fmt::print(R"("proxy_waited":{:.4f},"peer_waited":{:.4f},)",
             static_cast<double>(busiest_waited(open.proxy_threads, close.proxy_threads)) / 1e9 / elapsed,
             static_cast<double>(busiest_waited(open.own_threads, close.own_threads)) / 1e9 / elapsed);
  fmt::print(R"("total_p50_us":{:.1f},"total_p99_us":{:.1f},"first_byte_p50_us":{:.1f},)",
             static_cast<double>(quantile(taken.total, 0.5)) / 1e3,
             static_cast<double>(quantile(taken.total, 0.99)) / 1e3,
             static_cast<double>(quantile(taken.first_byte, 0.5)) / 1e3);
  fmt::print(R"("first_content_p50_us":{:.1f},"first_content_p99_us":{:.1f},)",
             static_cast<double>(quantile(taken.first_content, 0.5)) / 1e3,
             static_cast<double>(quantile(taken.first_content, 0.99)) / 1e3);
  fmt::print(R"("idle_bytes":{},"loaded_bytes":{},"live":{},)", idle_memory_, loaded_memory_, live_);
  fmt::print(R"("prefills":{},)", close.prefills - open.prefills);
  fmt::print(R"("errors":{},"broken":{},"lost_events":{},"unfinished":{},)", load_->counters().errors,
             engine_.counters().broken, lost, unfinished_);
  const bool counted = system_calls_ && system_calls_->read();
  fmt::print("\"system_calls\":{}}}\n",
             counted ? fmt::to_string(close.system_calls - open.system_calls) : std::string("null"));
}

}  // namespace
}  // namespace penstock::perf

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  penstock::perf::run run(penstock::perf::parse(argc, argv));
  return run();
}
