#include "emulator/server/kv_agent.hpp"

#include <fmt/format.h>

#include <chrono>
#include <iterator>
#include <utility>

#include "emulator/server/json_text.hpp"

namespace penstock::emulator {

void kv_agent::start(const std::string& host, std::string engine_id) {
  loader_.call_me(engine_id);
  source_.listen(host, std::move(engine_id));
  options_.side_port = source_.port();
}

void kv_agent::stop() {
  source_.stop();
  loader_.stop();
}

std::string kv_agent::grant(const prefilled& p) {
  const kv_lease& lease = source_.grant(p.id, p.sequence, p.content, p.tokens);
  std::string told =
      to_json(options_.connector, {source_.engine_id(), lease.id, source_.host(), source_.port(),
                                   lease.blocks, p.tokens, p.cached, p.number, p.first_token});
  source_.free_declined(p.id);
  return told;
}

std::string kv_agent::leases_json(const engine_counters& engine, instant now) const {
  const lease_counters& c = source_.leases().counters();
  const load_counters& l = loader_.counters();
  std::string text = fmt::format(
      R"({{"engine_id":{},"connector":"{}","role":"{}","side_channel":"{}:{}","granted":{},"fetched":{},)"
      R"("aborted":{},"expired":{},"late":{},"wrong_reads":{},"pinned_blocks":{},"loading":{},"loaded":{},)"
      R"("failed":{},"peers":{},"open":[)",
      quote(source_.engine_id()), name(options_.connector), name(options_.role), source_.host(),
      source_.port(), c.granted, c.fetched, c.aborted, c.expired, c.late, c.wrong_reads,
      engine.kv_blocks_pinned, engine.loading, l.transfers, l.failed, loader_.peers());
  for (const auto& [id, lease] : source_.leases().open()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(lease.expires - now);
    fmt::format_to(std::back_inserter(text),
                   R"({}{{"id":{},"blocks":{},"tokens":{},"expires_in_ms":{},"read":{}}})",
                   text.back() == '[' ? "" : ",", quote(id), lease.blocks.size(), lease.tokens, left.count(),
                   lease.read);
  }
  return text + "]}";
}

std::string kv_agent::metrics_text(const engine_counters& engine, std::string_view labels) const {
  std::string text;
  const auto counter = [&](std::string_view name, std::string_view help, auto value) {
    fmt::format_to(std::back_inserter(text), "# HELP {0} {1}\n# TYPE {0} counter\n{0}{2} {3}\n", name, help,
                   labels, static_cast<double>(value));
  };
  const auto with = [&](std::string_view more) {
    return fmt::format("{},{}}}", labels.substr(0, labels.size() - 1), more);
  };
  const auto histogram = [&](std::string_view name, std::string_view help, std::uint64_t count, double sum) {
    fmt::format_to(
        std::back_inserter(text),
        "# HELP {0} {1}\n# TYPE {0} histogram\n{0}_bucket{2} {4}\n{0}_count{3} {4}\n{0}_sum{3} {5}\n", name,
        help, with("le=\"+Inf\""), labels, static_cast<double>(count), sum);
  };
  if (options_.connector == connector_kind::nixl) {
    const load_counters& l = loader_.counters();
    const lease_counters& c = source_.leases().counters();
    histogram("vllm:nixl_xfer_time_seconds", "Time of KV transfers.", l.transfers, l.transfer_seconds);
    histogram("vllm:nixl_post_time_seconds", "Time to post KV transfers.", l.transfers, l.post_seconds);
    histogram("vllm:nixl_bytes_transferred", "Bytes of KV transfers.", l.transfers,
              static_cast<double>(l.bytes));
    counter("vllm:nixl_num_failed_transfers_total", "KV transfers that failed.", l.failed);
    counter("vllm:nixl_num_kv_expired_reqs_total", "Leases that expired before anybody fetched.", c.expired);
    counter("vllm:nixl_num_notifications_after_expiry_total", "Notifications for what was no longer held.",
            c.late);
  }
  counter("vllm:external_prefix_cache_queries_total", "Prompt tokens that are not cached here.",
          engine.load_queries);
  counter("vllm:external_prefix_cache_hits_total", "Of these, those that other engines promised.",
          engine.load_hits);
  constexpr std::string_view by_source = "vllm:prompt_tokens_by_source_total";
  fmt::format_to(std::back_inserter(text),
                 "# HELP {0} Prompt tokens by where they came from.\n# TYPE {0} counter\n", by_source);
  const std::uint64_t elsewhere = engine.loaded_tokens + engine.cached_tokens;
  const std::pair<std::string_view, std::uint64_t> sources[] = {
      {"local_compute", engine.prompt_tokens - elsewhere},
      {"local_cache_hit", engine.cached_tokens},
      {"external_kv_transfer", engine.loaded_tokens}};
  for (const auto& [source, tokens] : sources) {
    fmt::format_to(std::back_inserter(text), "{}{} {}\n", by_source,
                   with(fmt::format("source=\"{}\"", source)), static_cast<double>(tokens));
  }
  return text;
}

}  // namespace penstock::emulator
