#include "proxy/worker/metrics.hpp"

#include <algorithm>
#include <cmath>

namespace penstock::worker {

void pool_metrics::add(const pool_metrics& other) {
  for (std::size_t a = 0; a < api_count; ++a)
    for (std::size_t i = 0; i < reason_count; ++i) requests[a][i] += other.requests[a][i];
  ttft.add(other.ttft);
  ttft_ours.add(other.ttft_ours);
  ttft_held.add(other.ttft_held);
  ttft_queue.add(other.ttft_queue);
  ttft_engine.add(other.ttft_engine);
  gap.add(other.gap);
  prefill_error.add(other.prefill_error);
  cached_error.add(other.cached_error);
  prompt_tokens += other.prompt_tokens;
  completion_tokens += other.completion_tokens;
  cached_tokens += other.cached_tokens;
  predicted_cached_tokens += other.predicted_cached_tokens;
  predicted_prompt_tokens += other.predicted_prompt_tokens;
  usage_unknown += other.usage_unknown;
  attempts += other.attempts;
  events += other.events;
  oversized_events += other.oversized_events;
  for (std::size_t i = 0; i < split_choice_count; ++i) splits[i] += other.splits[i];
  prefill_leg.add(other.prefill_leg);
  handoff_leg.add(other.handoff_leg);
  transfer_estimate.add(other.transfer_estimate);
  transfer_error.add(other.transfer_error);
}

namespace {

void account_split(pool_metrics& p, const account_record& r) {
  ++p.splits[static_cast<std::size_t>(r.split)];
  if (r.prefill_done == instant{}) return;
  p.prefill_leg.observe(seconds(r.prefill_done - r.sent));
  if (r.first_token == instant{} || r.handoff.empty()) return;
  const double took = seconds(r.first_token - r.prefill_done);
  p.handoff_leg.observe(took);
  p.transfer_estimate.observe(r.transfer_expected);
  p.transfer_error.observe(std::abs(took - r.transfer_expected));
}

}  // namespace

void worker_metrics::account(const account_record& r) {
  pool_metrics& p = pools[r.pool];
  ++p.requests[static_cast<std::size_t>(r.api)][static_cast<std::size_t>(r.why)];
  p.attempts += r.attempts;
  p.events += r.events;
  p.oversized_events += r.oversized_events;
  bytes_in += r.bytes_in;
  bytes_out += r.bytes_out;
  if (r.first_token != instant{}) {
    p.ttft.observe(seconds(r.first_token - r.accepted));
    p.ttft_ours.observe(seconds(r.dispatched - r.body_done - r.held));
    if (r.held > duration{}) p.ttft_held.observe(seconds(r.held));
    if (r.sent != instant{}) {
      p.ttft_queue.observe(seconds(r.sent - r.dispatched));
      p.ttft_engine.observe(seconds(r.first_token - r.sent));
    }
  }
  if (r.split != split_choice::not_asked) account_split(p, r);
  if (r.first_token != instant{} && r.engine_asked != instant{})
    p.prefill_error.observe(std::abs(seconds(r.first_token - r.engine_asked) - seconds(r.predicted_prefill)));
  if (r.usage.known && r.usage.cached_known && r.usage.prompt > 0 && r.predicted_prompt > 0) {
    const double told = static_cast<double>(r.usage.cached) / static_cast<double>(r.usage.prompt);
    const double believed = static_cast<double>(r.predicted_cached) / static_cast<double>(r.predicted_prompt);
    p.cached_error.observe(std::abs(std::min(told, 1.0) - std::min(believed, 1.0)));
  }
  if (r.usage.known) {
    p.prompt_tokens += r.usage.prompt;
    p.completion_tokens += r.usage.completion;
    p.cached_tokens += r.usage.cached;
  } else if (r.why == reason::ok && r.attempts != 0) {
    ++p.usage_unknown;
  }
  if (r.attempts != 0) {
    p.predicted_cached_tokens += r.predicted_cached;
    p.predicted_prompt_tokens += r.predicted_prompt;
  }
}

void worker_metrics::add(const worker_metrics& other) {
  for (const auto& [pool, cells] : other.pools) pools[pool].add(cells);
  accepted += other.accepted;
  client_connections += other.client_connections;
  engine_connections += other.engine_connections;
  idle_engine_connections += other.idle_engine_connections;
  engine_connects += other.engine_connects;
  engine_reuses += other.engine_reuses;
  live_requests += other.live_requests;
  live_streams += other.live_streams;
  body_bytes += other.body_bytes;
  buffer_bytes += other.buffer_bytes;
  bytes_in += other.bytes_in;
  bytes_out += other.bytes_out;
  memory_waits += other.memory_waits;
  handoffs_opened += other.handoffs_opened;
  handoffs_open += other.handoffs_open;
  for (std::size_t i = 0; i < handoff::closing_count; ++i) handoffs_closed[i] += other.handoffs_closed[i];
  leases.insert(leases.end(), other.leases.begin(), other.leases.end());
  pairs.add(other.pairs);
}

}  // namespace penstock::worker
