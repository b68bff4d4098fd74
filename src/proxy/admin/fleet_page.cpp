#include "proxy/admin/fleet_page.hpp"

#include <fmt/format.h>

#include <iterator>

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
                 "{{\"url\":{},\"slot\":{},\"generation\":{},\"role\":{},\"state\":{},\"confidence\":{:.3f},"
                 "\"addresses\":{},\"models\":{}",
                 in_quotes(e.settings.url), e.id.slot, e.id.generation, in_quotes(name(e.settings.role)),
                 in_quotes(name(e.state)), e.confidence, e.addresses.size(), models_of(e));
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

}  // namespace

std::string fleet_page(const fleet_view& fleet, const routing::endpoint_board& board, instant now) {
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
    out += "]}";
  }
  return out + "]}\n";
}

}  // namespace penstock::admin
