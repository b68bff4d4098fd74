// The life of one endpoint as a state machine: probes and traffic go in, life and the time of the next
// probe come out.
#pragma once

#include <cstdint>
#include <string_view>

#include "penstock/config.hpp"
#include "penstock/fleet_view.hpp"
#include "penstock/random.hpp"
#include "penstock/time.hpp"

namespace penstock::health {

// How a probe ended. The first three mean that no connection was accepted.
enum class probe_outcome : std::uint8_t {
  ok,              // a 2xx answer
  resolve_failed,  // no address is known
  connect_failed,  // refused, unreachable
  connect_timeout,
  timeout,     // connected, but no whole answer in time
  reset,       // closed or reset before the answer was whole
  garbage,     // not HTTP
  bad_status,  // any other status
};
constexpr std::string_view name(probe_outcome v) {
  constexpr std::string_view names[] = {"ok",      "resolve_failed", "connect_failed", "connect_timeout",
                                        "timeout", "reset",          "garbage",        "bad_status"};
  return names[static_cast<std::size_t>(v)];
}

struct probe_result {
  probe_outcome outcome = probe_outcome::ok;
  instant started{};  // a good probe that started before a suspicion does not lift it; epoch: the last
                      // probe_started()
};

// What a request told about its endpoint. Refusals for want of room (429, 503) are not failures and are
// not told here.
enum class traffic_outcome : std::uint8_t {
  ok,              // the answer ended well
  token_seen,      // generated content arrived; one a second and endpoint is enough
  connect_failed,  // refused, unreachable or not connected in time
  reset,           // cut before its end
  garbage,         // an answer that is not HTTP or not the API's
  timeout,         // a deadline for the engine passed
  server_error,    // 500, or an error event in a stream
};
constexpr std::string_view name(traffic_outcome v) {
  constexpr std::string_view names[] = {"ok",      "token_seen", "connect_failed", "reset",
                                        "garbage", "timeout",    "server_error"};
  return names[static_cast<std::size_t>(v)];
}

// Not thread safe. Holds a copy of the settings; rise, fall of 0 count as 1; passive_failures of 0 and an
// interval of 0 mean "never".
class endpoint_health {
 public:
  // Starts in `starting` with its first probe due within `first_probe_spread`.
  endpoint_health(const health_config& settings, instant now, prng& rng);

  // New settings of the same endpoint: the state stays, the next probe is not later than before.
  void configure(const health_config& settings, instant now, prng& rng);

  // A probe was sent: none is due until its result, or until one that got lost must be long over.
  void probe_started(instant now);
  void on_probe(const probe_result& result, instant now, prng& rng);

  // `began` is when the request was sent to the endpoint: what began before a suspicion cannot lift it.
  void on_traffic(traffic_outcome outcome, instant began, instant now);

  // The next probe is due at once, or right after the one under way; not within least_probe_gap of the last.
  void hurry_probe(instant now);

  // Ends a suspicion whose time has passed.
  void tick(instant now);

  life state() const { return state_; }
  bool accepts_connections() const { return accepts_; }
  bool proven() const { return proven_; }           // was `up` at some time
  instant last_good() const { return last_good_; }  // last good probe, answer or token; epoch: never
  instant changed_at() const { return changed_at_; }
  instant suspect_until() const { return suspect_until_; }  // of traffic's suspicion; epoch: none
  instant next_probe_at() const { return next_probe_at_; }  // `never` without probes
  instant next_tick_at() const;                             // when tick() has something to do

 private:
  enum class doubt : std::uint8_t { none, probe, connection, answers };

  bool token_outranks(instant now) const;
  void probe_succeeded(const probe_result& result, instant now);
  void probe_failed(probe_outcome outcome, instant now);
  bool suspicion_may_end() const;
  void good_traffic(bool token, instant began, instant now);
  void failed_traffic(traffic_outcome outcome, instant now);
  void suspect(doubt why, instant now);
  void recover(instant now);
  void enter(life next, instant now);
  duration probe_delay() const;
  void schedule(instant now, prng& rng);

  health_config settings_;
  life state_ = life::starting;
  doubt doubt_ = doubt::none;
  bool accepts_ = true;
  bool proven_ = false;
  bool probing_ = false;
  bool probe_again_ = false;
  std::uint32_t good_probes_ = 0, bad_probes_ = 0;  // in a row
  std::uint32_t bad_answers_ = 0;                   // in a row, from traffic
  std::uint32_t attempts_ = 0;                      // probes since the state was entered, for the backoff
  instant changed_at_{}, doubted_at_{}, suspect_until_{}, last_good_{};
  instant last_token_{}, last_bad_answer_{}, last_cut_{}, refused_at_{}, last_probe_{};
  instant next_probe_at_{};
};

// Probes of an endpoint in doubt come this fast: interval / 8 within 100 ms and 1 s.
duration fast_probe_interval(duration interval);

// 0..1: how far to trust an endpoint by its life alone.
double life_confidence(life state);

// Every delay is spread over [0.8, 1.2) of itself, so that replicas and endpoints do not beat together.
duration jittered(duration delay, prng& rng);

inline constexpr duration first_probe_spread = std::chrono::milliseconds(100);
// Suspicions ask for a probe at once, but not more often than this.
inline constexpr duration least_probe_gap = std::chrono::milliseconds(100);

}  // namespace penstock::health
