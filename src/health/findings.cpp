#include "health/findings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>

namespace penstock::health {
namespace {

bool serves(const endpoint_view& e, const std::string& model) {
  return std::any_of(e.models.begin(), e.models.end(), [&](const served_model& m) { return m.id == model; });
}

std::string names_of(const std::vector<served_model>& models) {
  constexpr std::size_t most = 5;
  std::string out;
  for (std::size_t i = 0; i < std::min(models.size(), most); ++i)
    out += fmt::format("{}`{}`", i > 0 ? ", " : "", models[i].id);
  return models.empty() ? "none" : models.size() > most ? out + ", …" : out;
}

// The block size that most of a pool's endpoints have; 0: nobody tells.
std::uint32_t usual_block(const fleet_view& fleet, const pool_view& pool) {
  std::map<std::uint32_t, std::size_t> times;
  for (const std::uint32_t i : pool.endpoints) ++times[fleet.endpoints[i].engine.block_tokens];
  times.erase(0);
  const auto most = std::max_element(times.begin(), times.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == times.end() ? 0 : most->first;
}

void judge(const endpoint_view& e, const pool_view& pool, std::uint32_t block, bool without_ranks,
           std::vector<finding>& out) {
  const std::string& url = e.settings.url;
  if (e.addresses.empty())
    return out.push_back({url, "its name does not resolve; correct the url or the name service"});
  if (e.state == life::down || e.state == life::starting)
    return out.push_back(
        {url, "it does not answer its health path; start the engine, or correct url and health.path"});
  for (const std::string& model : pool.models) {
    if (model == "*" || !e.models_known || serves(e, model)) continue;
    out.push_back({url, fmt::format("it does not serve `{}`, which pool `{}` lists; it serves {}", model,
                                    pool.name, names_of(e.models))});
  }
  if (without_ranks)
    out.push_back(
        {url, fmt::format("its bootstrap server {}:{} does not tell who its ranks are, so no request "
                          "is split over it; correct bootstrap, or start the engine with its connector",
                          e.settings.bootstrap_host, e.settings.bootstrap_port)});
  const engine_state& g = e.engine;
  if (g.scraped_at == instant{}) {
    out.push_back(
        {url, "it has no metrics of a known engine; check health.metrics_path, and set kv_tokens", false});
  } else if (e.settings.kv_tokens == 0 && g.kv_tokens == 0 && (g.kv_blocks == 0 || g.block_tokens == 0)) {
    out.push_back({url, "its metrics do not tell its KV capacity; set kv_tokens", false});
  }
  if (block != 0 && g.block_tokens != 0 && g.block_tokens != block)
    out.push_back({url,
                   fmt::format("its KV blocks have {} tokens, those of most of pool `{}` {}; is it the same "
                               "engine build?",
                               g.block_tokens, pool.name, block),
                   false});
}

}  // namespace

std::vector<finding> live_findings(const fleet_view& fleet) {
  std::vector<finding> out;
  for (const pool_view& pool : fleet.pools) {
    const std::uint32_t block = usual_block(fleet, pool);
    for (const std::uint32_t i : pool.endpoints) {
      const endpoint_view& e = fleet.endpoints[i];
      judge(e, pool, block, asks_bootstrap(fleet, e) && e.rank_ids.empty(), out);
    }
  }
  return out;
}

bool is_engine(const std::vector<served_model>& models, std::string_view engine) {
  return std::any_of(models.begin(), models.end(),
                     [engine](const served_model& m) { return m.owned_by == engine; });
}

std::string_view cached_tokens_switch(const endpoint_view& endpoint) {
  if (is_engine(endpoint.models, "vllm")) return "--enable-prompt-tokens-details";
  if (is_engine(endpoint.models, "sglang")) return "--enable-cache-report";
  return "--enable-prompt-tokens-details (vLLM) or --enable-cache-report (SGLang)";
}

}  // namespace penstock::health
