#include "health/endpoint_health.hpp"

#include <algorithm>

namespace penstock::health {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint32_t counter_limit = 1u << 20;

bool not_accepted(probe_outcome o) {
  return o == probe_outcome::resolve_failed || o == probe_outcome::connect_failed ||
         o == probe_outcome::connect_timeout;
}

void count(std::uint32_t& counter) { counter = std::min(counter + 1, counter_limit); }

}  // namespace

duration fast_probe_interval(duration interval) {
  const duration least = milliseconds(100), most = seconds(1);
  return std::min(interval, std::clamp(interval / 8, least, most));
}

double life_confidence(life state) {
  switch (state) {
    case life::up: return 1;
    case life::starting: return 0.8;
    case life::suspect: return 0.5;
    case life::down:
    case life::draining: break;
  }
  return 0;
}

duration jittered(duration delay, prng& rng) {
  const auto fifth = static_cast<std::uint64_t>(std::max(delay, duration::zero()).count()) / 5;
  return delay - duration(fifth) + duration(rng.below(2 * fifth));
}

endpoint_health::endpoint_health(const health_config& settings, instant now, prng& rng)
    : settings_(settings), changed_at_(now) {
  const auto wait = rng.below(static_cast<std::uint64_t>(first_probe_spread.count()));
  next_probe_at_ = settings_.interval > duration::zero() ? now + duration(wait) : never;
}

void endpoint_health::configure(const health_config& settings, instant now, prng& rng) {
  settings_ = settings;
  if (settings_.interval <= duration::zero()) {
    next_probe_at_ = never;
  } else if (!probing_) {
    next_probe_at_ = std::min(next_probe_at_, now + jittered(probe_delay(), rng));
  }
}

void endpoint_health::probe_started(instant now) {
  probing_ = true;
  last_probe_ = now;
  next_probe_at_ = now + 2 * settings_.timeout + seconds(1);
}

void endpoint_health::on_probe(const probe_result& result, instant now, prng& rng) {
  probing_ = false;
  count(attempts_);
  if (result.outcome == probe_outcome::ok) {
    probe_succeeded(result, now);
  } else {
    probe_failed(result.outcome, now);
  }
  schedule(now, rng);
}

void endpoint_health::probe_succeeded(const probe_result& result, instant now) {
  accepts_ = true;
  last_good_ = now;
  bad_probes_ = 0;
  count(good_probes_);
  const auto started = result.started == instant{} ? last_probe_ : result.started;
  switch (state_) {
    case life::starting: return recover(now);
    case life::suspect:
      if (started < doubted_at_) {
        probe_again_ = true;
      } else if (doubt_ != doubt::answers || now >= suspect_until_) {
        // An engine whose answers are bad may still have a fine health page.
        recover(now);
      }
      return;
    case life::down:
      if (good_probes_ >= settings_.rise) recover(now);
      return;
    case life::up:
    case life::draining: return;
  }
}

bool endpoint_health::token_outranks(instant now) const {
  return last_token_ != instant{} && now - last_token_ <= settings_.token_grace && last_token_ >= last_cut_;
}

void endpoint_health::probe_failed(probe_outcome outcome, instant now) {
  const bool refused = not_accepted(outcome);
  accepts_ = !refused;
  if (refused) refused_at_ = now;
  good_probes_ = 0;
  if (token_outranks(now)) {
    // Streams go on, so the engine lives; but new connections would fail.
    if (refused) suspect(doubt::connection, now);
    return;
  }
  count(bad_probes_);
  const bool fell = bad_probes_ >= settings_.fall;
  switch (state_) {
    case life::starting:
      // Nobody listens yet: an engine that still loads its weights.
      if (refused || fell) enter(life::down, now);
      return;
    case life::up:
    case life::suspect:
      if (fell || (refused && !proven_)) {
        enter(life::down, now);
      } else {
        suspect(doubt::probe, now);
      }
      return;
    case life::down:
    case life::draining: return;
  }
}

void endpoint_health::on_traffic(traffic_outcome outcome, instant began, instant now) {
  switch (outcome) {
    case traffic_outcome::ok: return good_traffic(false, began, now);
    case traffic_outcome::token_seen: return good_traffic(true, began, now);
    case traffic_outcome::connect_failed:
    case traffic_outcome::reset:
    case traffic_outcome::garbage:
    case traffic_outcome::timeout:
    case traffic_outcome::server_error: return failed_traffic(outcome, now);
  }
}

void endpoint_health::good_traffic(bool token, instant began, instant now) {
  last_good_ = now;
  if (token) last_token_ = now;
  if (began >= refused_at_) accepts_ = true;
  // Tokens of an old stream say nothing of the requests that failed since it began.
  if (!token || began >= last_bad_answer_) bad_answers_ = 0;
  switch (state_) {
    case life::starting: return recover(now);
    case life::suspect:
      if (began >= doubted_at_ || (doubt_ == doubt::probe && accepts_)) recover(now);
      return;
    case life::down:
      if (token && accepts_) {
        doubt_ = doubt::probe;
        doubted_at_ = now;
        enter(life::suspect, now);
      } else if (began >= changed_at_) {
        count(good_probes_);
        if (good_probes_ >= settings_.rise) recover(now);
      }
      return;
    case life::up:
    case life::draining: return;
  }
}

void endpoint_health::failed_traffic(traffic_outcome outcome, instant now) {
  if (outcome == traffic_outcome::connect_failed) {
    accepts_ = false;
    refused_at_ = last_cut_ = now;
    suspect(doubt::connection, now);
    return hurry_probe(now);
  }
  last_bad_answer_ = now;
  count(bad_answers_);
  const bool cut = outcome == traffic_outcome::reset;
  if (cut) {
    last_cut_ = now;
    hurry_probe(now);
  }
  if (settings_.passive_failures == 0 || bad_answers_ < settings_.passive_failures) return;
  suspect(cut ? doubt::connection : doubt::answers, now);
  hurry_probe(now);
}

// Never takes an endpoint out: only probes do.
void endpoint_health::suspect(doubt why, instant now) {
  if (state_ == life::down) return;
  doubted_at_ = now;
  if (why != doubt::probe) suspect_until_ = std::max(suspect_until_, now + settings_.suspect_for);
  if (state_ != life::suspect || doubt_ != doubt::answers) doubt_ = why;
  enter(life::suspect, now);
}

bool endpoint_health::suspicion_may_end() const {
  return state_ == life::suspect && doubt_ != doubt::probe && bad_probes_ == 0;
}

void endpoint_health::tick(instant now) {
  if (!suspicion_may_end() || now < suspect_until_) return;
  if (proven_) return recover(now);
  suspect_until_ = {};
  bad_answers_ = 0;
  doubt_ = doubt::none;
  enter(life::starting, now);
}

instant endpoint_health::next_tick_at() const { return suspicion_may_end() ? suspect_until_ : never; }

void endpoint_health::recover(instant now) {
  doubt_ = doubt::none;
  suspect_until_ = {};
  bad_probes_ = 0;
  bad_answers_ = 0;
  proven_ = true;
  enter(life::up, now);
}

void endpoint_health::enter(life next, instant now) {
  if (state_ == next) return;
  state_ = next;
  changed_at_ = now;
  attempts_ = 0;
  if (next == life::down) {
    good_probes_ = 0;
    doubt_ = doubt::none;
    suspect_until_ = {};
  }
}

void endpoint_health::hurry_probe(instant now) {
  if (settings_.interval <= duration::zero()) return;
  if (probing_) {
    probe_again_ = true;
  } else {
    next_probe_at_ = std::min(next_probe_at_, std::max(now, last_probe_ + least_probe_gap));
  }
}

// In doubt fast and steady, so that `fall` and `rise` are reached soon; where nothing answers, slower
// and slower up to the interval.
duration endpoint_health::probe_delay() const {
  if (state_ == life::up) return settings_.interval;
  auto delay = fast_probe_interval(settings_.interval);
  if (state_ == life::suspect || good_probes_ > 0) return delay;
  for (std::uint32_t i = 0; i < attempts_ && delay < settings_.interval; ++i) delay *= 2;
  return std::min(delay, settings_.interval);
}

void endpoint_health::schedule(instant now, prng& rng) {
  if (settings_.interval <= duration::zero()) {
    next_probe_at_ = never;
  } else if (probe_again_) {
    next_probe_at_ = std::max(now, last_probe_ + least_probe_gap);
  } else {
    next_probe_at_ = now + jittered(probe_delay(), rng);
  }
  probe_again_ = false;
}

}  // namespace penstock::health
