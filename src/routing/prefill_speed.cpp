#include "routing/prefill_speed.hpp"

#include <algorithm>

namespace penstock::routing {
namespace {

constexpr float decay = 0.9F;       // for each request: a change is believed to 88 % after 20
constexpr float least_kept = 0.5F;  // ... but no single step replaces more than half of what is known
constexpr std::uint64_t least_tokens = 256;
constexpr std::uint32_t trusted = 4;  // steps from which on one is drawn in
constexpr double clamp = 8;           // ... to this factor of what is known
// First tokens this near belong to one step. Those of a long one may be further apart; to take the next for a
// part of it does no harm, as its tokens and its time are both counted.
constexpr duration least_together = std::chrono::milliseconds(2);
constexpr duration most_together = std::chrono::milliseconds(50);
constexpr int together_share = 8;

double ratio(double tokens, double secs) { return tokens > 0 && secs > 0 ? tokens / secs : 0; }

bool counts(const prefill_sums& s) { return s.step_keeps < 1; }

bool in_step(const prefill_sums& s, instant now) {
  const duration took = s.opened - s.begun;
  return s.step_tokens > 0 &&
         now - s.opened <= std::clamp(took / together_share, least_together, most_together);
}

}  // namespace

prefill_fit fit_of(const prefill_sums& s) {
  if (!counts(s)) return {s.tokens, s.secs};
  const double tokens = static_cast<double>(s.step_tokens);
  const double known = ratio(static_cast<double>(s.tokens), static_cast<double>(s.secs));
  const bool draw_in = known > 0 && s.steps >= trusted;
  const double fastest = draw_in ? known * clamp : most_prefill_speed;
  const double slowest = draw_in ? known / clamp : least_prefill_speed;
  const double secs = std::clamp(seconds(s.told - s.begun), tokens / fastest, tokens / slowest);
  return {s.tokens * s.step_keeps + s.step_tokens, s.secs * s.step_keeps + static_cast<float>(secs)};
}

void learn_prefill(prefill_sums& s, std::uint64_t tokens, instant dispatched, instant now) {
  if (!in_step(s, now)) {
    const prefill_fit over = fit_of(s);
    s.tokens = over.tokens;
    s.secs = over.secs;
    s.steps = std::min(s.steps + (counts(s) ? 1U : 0U), trusted);
    s.step_tokens = 0;
    s.step_keeps = 1;
    s.before = s.told;
    s.begun = s.opened = now;
  }
  s.begun = std::min(s.begun, std::max(s.before, dispatched));
  s.told = std::max(s.told, now);
  s.step_tokens += static_cast<float>(tokens);
  if (tokens >= least_tokens) s.step_keeps = std::max(s.step_keeps * decay, least_kept);
}

double speed_of(prefill_fit fit) {
  const double speed = ratio(static_cast<double>(fit.tokens), static_cast<double>(fit.secs));
  return speed > 0 ? std::clamp(speed, least_prefill_speed, most_prefill_speed) : 0;
}

}  // namespace penstock::routing
