#include "proxy/admin/fleet_page.hpp"

#include <fmt/format.h>

#include <iterator>

#include "proxy/handoff/connector.hpp"
#include "proxy/http/shapes.hpp"

namespace penstock::admin {
namespace {

std::string in_quotes(std::string_view text) {
  std::string out = "\"";
  http::append_json_escaped(out, text);
  return out + '"';
}

// Absent figures are null.
std::string figure(double value) { return value < 0 ? "null" : fmt::format("{:.6g}", value); }

std::string models_of(const endpoint_view& e) {
  if (!e.models_known) return "null";
  std::string out = "[";
  for (const served_model& m : e.models) {
    if (out.size() > 1) out += ',';
    out += in_quotes(m.id);
  }
  return out + ']';
}

void append_endpoint(std::string& out, const endpoint_view& e, const routing::endpoint_board& board,
                     instant now) {
  const routing::endpoint_load load = board.read(e.id);
  const double behind = load.finish > now ? seconds(load.finish - now) : 0;
  fmt::format_to(std::back_inserter(out),
                 "{{\"url\":{},\"slot\":{},\"generation\":{},\"role\":{},\"group\":{},\"state\":{},"
                 "\"confidence\":{:.3f},"
                 "\"addresses\":{},\"models\":{}",
                 in_quotes(e.settings.url), e.id.slot, e.id.generation, in_quotes(name(e.settings.role)),
                 e.settings.group.empty() ? "null" : in_quotes(e.settings.group), in_quotes(name(e.state)),
                 e.confidence, e.addresses.size(), models_of(e));
  fmt::format_to(std::back_inserter(out),
                 ",\"outstanding\":{{\"requests\":{},\"prefill_tokens\":{},\"decode_tokens\":{},"
                 "\"queue_seconds\":{:.3f}}},\"prefill_tokens_per_second\":{}",
                 load.sequences, load.prefill_tokens, load.decode_tokens, behind,
                 load.speed > 0 ? fmt::format("{:.0f}", load.speed) : "null");
  const bool scraped = e.engine.scraped_at != instant{};
  fmt::format_to(
      std::back_inserter(out),
      ",\"engine\":{{\"running\":{},\"waiting\":{},\"kv_use\":{},\"block_tokens\":{},\"kv_blocks\":{},"
      "\"kv_tokens\":{},\"scrape_age_seconds\":{}}}}}",
      figure(e.engine.running), figure(e.engine.waiting), figure(e.engine.kv_use), e.engine.block_tokens,
      e.engine.kv_blocks, e.engine.kv_tokens,
      scraped ? fmt::format("{:.1f}", seconds(now - e.engine.scraped_at)) : "null");
}

// Hand-offs that are written out; the rest is in the count.
constexpr std::size_t most_leases = 256;

// The endpoints of one pool by their ids.
class members {
 public:
  members(const fleet_view& fleet, const pool_view& pool) : fleet_(fleet), pool_(pool) {}

  // In quotes; empty: it is not of this pool (any more).
  std::string url(endpoint_id id) const {
    for (const std::uint32_t i : pool_.endpoints)
      if (fleet_.endpoints[i].id == id) return in_quotes(fleet_.endpoints[i].settings.url);
    return {};
  }

 private:
  const fleet_view& fleet_;
  const pool_view& pool_;
};

std::string split_of(const disaggregation_config& how) {
  if (how.split >= 0) return fmt::format("{}", how.split);
  return how.split == split_always ? "\"always\"" : how.split == split_never ? "\"never\"" : "\"cost\"";
}

double left(instant until, instant now) { return until > now ? seconds(until - now) : 0; }

void append_leases(std::string& out, const worker::worker_metrics& cells, const members& of, instant now) {
  std::size_t open = 0;
  std::string listed;
  for (const handoff::ledger::entry& e : cells.leases) {
    const std::string holder = of.url(e.holder), reader = of.url(e.reader);
    if (holder.empty() || ++open > most_leases) continue;
    fmt::format_to(std::back_inserter(listed),
                   "{}{{\"prefill\":{},\"decode\":{},\"held_seconds\":{:.3f},\"left_seconds\":{:.3f}}}",
                   listed.empty() ? "" : ",", holder, reader.empty() ? "null" : reader,
                   seconds(now - e.since), left(e.until, now));
  }
  fmt::format_to(std::back_inserter(out), "\"leases_open\":{},\"leases\":[{}]", open, listed);
}

void append_pairs(std::string& out, const worker::worker_metrics& cells, const members& of, instant now) {
  out += ",\"pairs\":[";
  bool first = true;
  for (const routing::pair_book::standing& p : cells.pairs.standings()) {
    const std::string prefill = of.url(p.prefill), decode = of.url(p.decode);
    if (prefill.empty() || decode.empty()) continue;
    fmt::format_to(std::back_inserter(out),
                   "{}{{\"prefill\":{},\"decode\":{},\"connected\":{},\"avoided_seconds\":{:.1f},"
                   "\"transfer\":{{\"learned\":{},\"seconds\":{:.6f},\"seconds_per_1000_tokens\":{:.6f}}}}}",
                   first ? "" : ",", prefill, decode, p.connected, left(p.avoided_until, now), p.learned,
                   p.base, p.slope * 1000);
    first = false;
  }
  out += ']';
}

void append_disaggregation(std::string& out, const worker::worker_metrics& cells, const fleet_view& fleet,
                           const pool_view& pool, instant now) {
  const disaggregation_config& how = pool.disaggregation;
  if (!how.enabled) return;
  const members of(fleet, pool);
  const duration lease = how.lease.count() != 0 ? how.lease : handoff::row(how.connector).lease;
  fmt::format_to(std::back_inserter(out),
                 ",\"disaggregation\":{{\"connector\":{},\"split\":{},\"lease_seconds\":{:.0f},",
                 in_quotes(name(how.connector)), split_of(how), seconds(lease));
  append_leases(out, cells, of, now);
  append_pairs(out, cells, of, now);
  out += '}';
}

}  // namespace

std::string fleet_page(const worker::worker_metrics& cells, const fleet_view& fleet,
                       const routing::endpoint_board& board, instant now) {
  std::string out = fmt::format("{{\"version\":{},\"ready\":{},\"draining\":{},\"pools\":[", fleet.version,
                                fleet.ready, fleet.draining);
  for (std::size_t i = 0; i < fleet.pools.size(); ++i) {
    const pool_view& pool = fleet.pools[i];
    if (i != 0) out += ',';
    out += fmt::format("{{\"name\":{},\"policy\":{},\"models\":[", in_quotes(pool.name),
                       in_quotes(name(pool.route)));
    for (std::size_t m = 0; m < pool.models.size(); ++m)
      out += (m != 0 ? "," : "") + in_quotes(pool.models[m]);
    out += "],\"endpoints\":[";
    for (std::size_t e = 0; e < pool.endpoints.size(); ++e) {
      if (e != 0) out += ',';
      append_endpoint(out, fleet.endpoints[pool.endpoints[e]], board, now);
    }
    out += ']';
    append_disaggregation(out, cells, fleet, pool, now);
    out += '}';
  }
  return out + "]}\n";
}

}  // namespace penstock::admin
