#include "proxy/admin/metrics_page.hpp"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>
#include <vector>

#include "proxy/admin/version.hpp"

namespace penstock::admin {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using labels = std::vector<std::pair<std::string, std::string>>;

// Collects families in the order they are asked for.
class page {
 public:
  MetricFamily& family(const std::string& name, const std::string& help, MetricType type) {
    MetricFamily& f = families_.emplace_back();
    f.name = "penstock_" + name;
    f.help = help;
    f.type = type;
    return f;
  }
  static ClientMetric& add(MetricFamily& f, const labels& l) {
    ClientMetric& m = f.metric.emplace_back();
    for (const auto& [name, value] : l) {
      ClientMetric::Label label;
      label.name = name;
      label.value = value;
      m.label.push_back(std::move(label));
    }
    return m;
  }
  static void counter(MetricFamily& f, const labels& l, double value) { add(f, l).counter.value = value; }
  static void gauge(MetricFamily& f, const labels& l, double value) { add(f, l).gauge.value = value; }
  void counter(const std::string& name, const std::string& help, std::uint64_t value) {
    counter(family(name, help, MetricType::Counter), {}, static_cast<double>(value));
  }
  void gauge(const std::string& name, const std::string& help, double value) {
    gauge(family(name, help, MetricType::Gauge), {}, value);
  }
  static void histogram(MetricFamily& f, const labels& l, const worker::histogram& h) {
    ClientMetric& m = add(f, l);
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < h.counts.size(); ++i) {
      sum += h.counts[i];
      ClientMetric::Bucket bucket;
      bucket.cumulative_count = sum;
      bucket.upper_bound =
          i < worker::time_bounds.size() ? worker::time_bounds[i] : std::numeric_limits<double>::infinity();
      m.histogram.bucket.push_back(bucket);
    }
    m.histogram.sample_count = sum;
    m.histogram.sample_sum = h.sum;
  }
  std::string text() const {
    return prometheus::TextSerializer().Serialize({families_.begin(), families_.end()});
  }

 private:
  std::deque<MetricFamily> families_;  // callers hold references to several at a time
};

using cells = worker::pool_metrics;

void requests(page& p, const worker::worker_metrics& m) {
  auto& f = p.family("requests_total", "Requests that ended, by pool, API and reason.", MetricType::Counter);
  for (const auto& [pool, c] : m.pools)
    for (std::size_t a = 0; a < api_count; ++a)
      for (std::size_t i = 0; i < reason_count; ++i)
        if (c.requests[a][i] != 0)
          page::counter(f,
                        {{"pool", pool},
                         {"api", std::string(name(static_cast<api_kind>(a)))},
                         {"reason", std::string(name(static_cast<reason>(i)))}},
                        static_cast<double>(c.requests[a][i]));
}

void times(page& p, const worker::worker_metrics& m) {
  const std::pair<const char*, std::pair<const char*, worker::histogram cells::*>> all[] = {
      {"ttft_seconds", {"From the head of a streamed request to its first token.", &cells::ttft}},
      {"ttft_ours_seconds",
       {"Part of TTFT: from the last body byte to the dispatch, without the time held.", &cells::ttft_ours}},
      {"ttft_held_seconds",
       {"Part of TTFT of requests that waited here for their turn at an engine.", &cells::ttft_held}},
      {"ttft_queue_seconds",
       {"Part of TTFT: from the dispatch until the request was handed to the engine.", &cells::ttft_queue}},
      {"ttft_engine_seconds", {"Part of TTFT: from there to the first token.", &cells::ttft_engine}},
      {"prefill_prediction_error_seconds",
       {"Difference of predicted and seen time from the dispatch to the first token.",
        &cells::prefill_error}},
      {"hit_ratio_prediction_error",
       {"Difference of the share of a prompt that was believed to be cached and that the engine told.",
        &cells::cached_error}},
      {"inter_token_seconds", {"Gaps between events with generated content.", &cells::gap}},
  };
  for (const auto& [name, what] : all) {
    auto& f = p.family(name, what.first, MetricType::Histogram);
    for (const auto& [pool, c] : m.pools)
      if (!pool.empty()) page::histogram(f, {{"pool", pool}}, c.*what.second);
  }
}

void counters(page& p, const worker::worker_metrics& m) {
  const std::pair<const char*, std::pair<const char*, std::uint64_t cells::*>> all[] = {
      {"prompt_tokens_total", {"Prompt tokens, as engines count them.", &cells::prompt_tokens}},
      {"completion_tokens_total", {"Generated tokens, as engines count them.", &cells::completion_tokens}},
      {"cached_tokens_total",
       {"Prompt tokens that engines took from their prefix cache; over prompt_tokens_total: the hit ratio.",
        &cells::cached_tokens}},
      {"predicted_prompt_tokens_total", {"Prompt tokens as estimated.", &cells::predicted_prompt_tokens}},
      {"predicted_cached_tokens_total",
       {"Prompt tokens that were believed to be cached.", &cells::predicted_cached_tokens}},
      {"answers_without_usage_total", {"Answers that ended well without usage.", &cells::usage_unknown}},
      {"attempts_total", {"Engines asked, retries included.", &cells::attempts}},
      {"events_total", {"SSE events that were read.", &cells::events}},
      {"oversized_events_total", {"SSE events above limits.event_bytes.", &cells::oversized_events}},
  };
  for (const auto& [name, what] : all) {
    auto& f = p.family(name, what.first, MetricType::Counter);
    for (const auto& [pool, c] : m.pools)
      if (!pool.empty()) page::counter(f, {{"pool", pool}}, static_cast<double>(c.*what.second));
  }
}

void connections(page& p, const worker::worker_metrics& m) {
  p.counter("client_connections_accepted_total", "Client connections accepted.", m.accepted);
  p.gauge("client_connections", "Client connections open.", static_cast<double>(m.client_connections));
  auto& f = p.family("engine_connections", "Connections to engines, by state.", MetricType::Gauge);
  page::gauge(f, {{"state", "idle"}}, static_cast<double>(m.idle_engine_connections));
  page::gauge(f, {{"state", "busy"}}, static_cast<double>(m.engine_connections - m.idle_engine_connections));
  p.counter("engine_connects_total", "Connections made to engines.", m.engine_connects);
  p.counter("engine_connection_reuses_total", "Requests sent on a pooled connection.", m.engine_reuses);
  p.gauge("requests_in_flight", "Requests that began and did not end.", static_cast<double>(m.live_requests));
  p.gauge("streams_in_flight", "Streamed requests in flight.", static_cast<double>(m.live_streams));
  auto& b = p.family("buffer_bytes", "Bytes held, by purpose.", MetricType::Gauge);
  page::gauge(b, {{"purpose", "request_bodies"}}, static_cast<double>(m.body_bytes));
  page::gauge(b, {{"purpose", "unsent_answers"}}, static_cast<double>(m.buffer_bytes));
  p.counter("memory_waits_total", "Bodies that had to wait for memory.", m.memory_waits);
  p.counter("received_body_bytes_total", "Request body bytes.", m.bytes_in);
  p.counter("sent_bytes_total", "Answer bytes to clients.", m.bytes_out);
}

// Nothing where no pool splits requests.
void handoffs(page& p, const worker::worker_metrics& m, const fleet_view& fleet) {
  const bool any = std::any_of(fleet.pools.begin(), fleet.pools.end(),
                               [](const pool_view& v) { return v.disaggregation.enabled; });
  if (!any && m.handoffs_opened == 0) return;
  auto& splits = p.family("split_decisions_total", "Requests to pools that split, by whether and why.",
                          MetricType::Counter);
  for (const auto& [pool, c] : m.pools)
    for (std::size_t i = 1; i < split_choice_count; ++i) {
      const auto why = static_cast<split_choice>(i);
      if (c.splits[i] != 0)
        page::counter(
            splits,
            {{"pool", pool}, {"split", is_split(why) ? "yes" : "no"}, {"reason", std::string(name(why))}},
            static_cast<double>(c.splits[i]));
    }
  const std::pair<const char*, std::pair<const char*, worker::histogram cells::*>> legs[] = {
      {"prefill_leg_seconds",
       {"From the request to a prefill engine to its whole answer.", &cells::prefill_leg}},
      {"handoff_leg_seconds", {"From there to the first token of the decode engine.", &cells::handoff_leg}},
      {"handoff_estimate_seconds", {"What the decision expected of that.", &cells::transfer_estimate}},
      {"handoff_estimate_error_seconds",
       {"By how much the decision misjudged that.", &cells::transfer_error}},
  };
  for (const auto& [name, what] : legs) {
    auto& f = p.family(name, what.first, MetricType::Histogram);
    for (const auto& [pool, c] : m.pools)
      if (!pool.empty()) page::histogram(f, {{"pool", pool}}, c.*what.second);
  }
  p.counter("handoffs_opened_total", "Prefills whose blocks an engine held for us.", m.handoffs_opened);
  p.gauge("handoffs_open", "Prefills whose blocks nobody has fetched yet.",
          static_cast<double>(m.handoffs_open));
  auto& closed = p.family("handoffs_closed_total", "Hand-offs by how they ended.", MetricType::Counter);
  for (std::size_t i = 0; i < handoff::closing_count; ++i)
    page::counter(closed, {{"how", std::string(name(static_cast<handoff::closing>(i)))}},
                  static_cast<double>(m.handoffs_closed[i]));
  auto& late =
      p.family("handoff_unsafe_total",
               "Blocks that an engine saw read after their lease: answers made of them may be wrong.",
               MetricType::Counter);
  auto& expired =
      p.family("handoff_expired_total", "Leases that an engine saw run out.", MetricType::Counter);
  for (const endpoint_view& e : fleet.endpoints) {
    const labels base = {{"pool", fleet.pools[e.pool].name}, {"endpoint", e.settings.url}};
    if (e.engine.handoffs_late >= 0) page::counter(late, base, e.engine.handoffs_late);
    if (e.engine.handoffs_expired >= 0) page::counter(expired, base, e.engine.handoffs_expired);
  }
}

void endpoints(page& p, const fleet_view& fleet, instant now) {
  auto& state = p.family("endpoint_state", "1 for the state an endpoint is in.", MetricType::Gauge);
  auto& confidence =
      p.family("endpoint_confidence", "Trust in what is known of an endpoint.", MetricType::Gauge);
  auto& age = p.family("endpoint_scrape_age_seconds", "Age of the last good scrape.", MetricType::Gauge);
  auto& running = p.family("endpoint_running_requests", "As the engine told.", MetricType::Gauge);
  auto& waiting = p.family("endpoint_waiting_requests", "As the engine told.", MetricType::Gauge);
  auto& kv = p.family("endpoint_kv_use_ratio", "As the engine told.", MetricType::Gauge);
  auto& found = p.family("endpoint_bootstrap_known",
                         "Whether the bootstrap server of a Mooncake prefill engine told who its ranks are: "
                         "else no request is split over it.",
                         MetricType::Gauge);
  for (const endpoint_view& e : fleet.endpoints) {
    labels base = {{"pool", fleet.pools[e.pool].name}, {"endpoint", e.settings.url}};
    // Data-parallel ranks of one server share its url.
    if (e.settings.data_parallel_rank >= 0)
      base.emplace_back("rank", std::to_string(e.settings.data_parallel_rank));
    for (const life s : {life::starting, life::up, life::suspect, life::down, life::draining}) {
      labels l = base;
      l.emplace_back("state", name(s));
      page::gauge(state, l, e.state == s ? 1 : 0);
    }
    page::gauge(confidence, base, e.confidence);
    if (asks_bootstrap(fleet, e)) page::gauge(found, base, e.rank_ids.empty() ? 0 : 1);
    if (e.engine.scraped_at != instant{}) page::gauge(age, base, seconds(now - e.engine.scraped_at));
    if (e.engine.running >= 0) page::gauge(running, base, e.engine.running);
    if (e.engine.waiting >= 0) page::gauge(waiting, base, e.engine.waiting);
    if (e.engine.kv_use >= 0) page::gauge(kv, base, e.engine.kv_use);
  }
}

void process(page& p, const fleet_view& fleet, const process_figures& f) {
  auto& build = p.family("build_info", "The version of this binary.", MetricType::Gauge);
  page::gauge(build, {{"version", std::string(version)}, {"compiler", __VERSION__}}, 1);
  p.gauge("workers", "Worker threads.", static_cast<double>(f.workers));
  p.gauge("ready", "Whether /readyz says yes.", fleet.ready ? 1 : 0);
  p.gauge("config_last_reload_successful", "Whether the last reload was accepted.",
          f.last_reload_good ? 1 : 0);
  auto& reloads = p.family("config_reloads_total", "Reloads by result.", MetricType::Counter);
  page::counter(reloads, {{"result", "accepted"}}, static_cast<double>(f.reloads_good));
  page::counter(reloads, {{"result", "rejected"}}, static_cast<double>(f.reloads_rejected));
  p.counter("log_lines_dropped_total", "Access log lines that were not written.", f.log_lines_dropped);
}

}  // namespace

std::string metrics_page(const worker::worker_metrics& m, const fleet_view& fleet, const process_figures& f) {
  page p;
  requests(p, m);
  times(p, m);
  counters(p, m);
  connections(p, m);
  handoffs(p, m, fleet);
  endpoints(p, fleet, f.now);
  process(p, fleet, f);
  return p.text();
}

}  // namespace penstock::admin
