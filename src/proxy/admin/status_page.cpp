#include "proxy/admin/status_page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "proxy/admin/version.hpp"

namespace penstock::admin {
namespace {

constexpr std::string_view head =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Penstock</title>\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta http-equiv=\"refresh\" content=\"5\">\n"
    "<style>\nbody{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 "
    "1em;color:#222}\n"
    "table{border-collapse:collapse;width:100%;margin-bottom:2em}\n"
    "th,td{text-align:left;padding:.3em .8em;border-bottom:1px solid #ddd}\n"
    ".n{text-align:right;font-variant-numeric:tabular-nums}\n"
    ".up{color:#176f2c}.starting,.suspect{color:#8a5a00}.down,.draining{color:#b3261e}\n"
    "small{color:#666}\n</style></head>\n";
constexpr std::size_t shown_models = 8;
constexpr std::string_view nothing = "-";

std::string escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f} %", 100 * part / whole) : std::string(nothing);
}

// Figures that an engine did not tell are negative.
std::string figure(double value) { return value < 0 ? std::string(nothing) : fmt::format("{:.0f}", value); }

std::string models_of(const endpoint_view& e) {
  if (!e.models_known) return std::string(nothing);
  std::string out;
  for (std::size_t i = 0; i < std::min(e.models.size(), shown_models); ++i)
    out += (i == 0 ? "" : ", ") + escaped(e.models[i].id);
  if (e.models.size() > shown_models) out += fmt::format(" and {} more", e.models.size() - shown_models);
  return out;
}

void append_endpoint(std::string& out, const endpoint_view& e, const routing::endpoint_board& board,
                     instant now) {
  const routing::endpoint_load load = board.read(e.id);
  const double behind = load.finish > now ? seconds(load.finish - now) : 0;
  const std::string rank =
      e.settings.data_parallel_rank >= 0 ? fmt::format(" rank {}", e.settings.data_parallel_rank) : "";
  const std::string_view state = name(e.state);
  fmt::format_to(std::back_inserter(out),
                 "<tr><td>{}{}</td><td class=\"{}\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>"
                 "<td class=\"n\">{:.2f} s</td>",
                 escaped(e.settings.url), rank, state, state, load.sequences, load.prefill_tokens, behind);
  fmt::format_to(
      std::back_inserter(out),
      "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>"
      "<td>{}</td></tr>\n",
      figure(e.engine.running), figure(e.engine.waiting),
      e.engine.kv_use < 0 ? std::string(nothing) : percent(e.engine.kv_use, 1),
      percent(e.engine.prefix_hits, e.engine.prefix_queries), models_of(e));
}

void append_pool(std::string& out, const pool_view& pool, const worker::pool_metrics& cells,
                 const fleet_view& fleet, const routing::endpoint_board& board, instant now) {
  std::uint64_t good = 0, all = 0;
  for (const auto& by_reason : cells.requests) {
    good += by_reason[static_cast<std::size_t>(reason::ok)];
    for (const std::uint64_t n : by_reason) all += n;
  }
  fmt::format_to(
      std::back_inserter(out),
      "<h2>{} <small>policy {}; {} requests ended, {} of them well; cached prompt tokens {}</small>"
      "</h2>\n",
      escaped(pool.name), name(pool.route), all, good,
      percent(static_cast<double>(cells.cached_tokens), static_cast<double>(cells.prompt_tokens)));
  out +=
      "<table><tr><th>endpoint</th><th>state</th><th class=\"n\">in flight</th><th class=\"n\">uncached "
      "tokens</th><th class=\"n\">queue</th><th class=\"n\">running</th><th class=\"n\">waiting</th>"
      "<th class=\"n\">KV use</th><th class=\"n\">hit ratio</th><th>models</th></tr>\n";
  for (const std::uint32_t i : pool.endpoints) append_endpoint(out, fleet.endpoints[i], board, now);
  out += "</table>\n";
}

}  // namespace

std::string status_page(const worker::worker_metrics& cells, const fleet_view& fleet,
                        const routing::endpoint_board& board, instant now) {
  std::string out(head);
  const std::string_view state = fleet.draining ? "draining" : fleet.ready ? "ready" : "not ready";
  fmt::format_to(std::back_inserter(out),
                 "<body><h1>Penstock {} <small class=\"{}\">{}</small></h1>\n"
                 "<p>{} requests in flight, {} of them streams; {} client connections.</p>\n",
                 version, fleet.ready ? "up" : "down", state, cells.live_requests, cells.live_streams,
                 cells.client_connections);
  static const worker::pool_metrics none;
  for (const pool_view& pool : fleet.pools) {
    const auto found = cells.pools.find(pool.name);
    append_pool(out, pool, found == cells.pools.end() ? none : found->second, fleet, board, now);
  }
  out +=
      "<p><small>In flight, uncached tokens and queue are this proxy's own work; running, waiting, KV use "
      "and "
      "hit ratio (since its start) are what the engine told last.</small></p>\n"
      "<p><a href=\"/metrics\">metrics</a> <a href=\"/debug/fleet\">fleet as JSON</a> <a "
      "href=\"/readyz\">readyz</a> <a href=\"/livez\">livez</a></p>\n</body></html>\n";
  return out;
}

}  // namespace penstock::admin
