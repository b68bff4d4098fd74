#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "penstock/ids.hpp"
#include "proxy/config/check.hpp"
#include "proxy/config/check_disaggregation.hpp"
#include "proxy/config/check_endpoint.hpp"
#include "proxy/config/text.hpp"

namespace penstock::conf {
namespace {

constexpr std::size_t longest_pool_name = 64;
constexpr std::size_t longest_model_name = 256;

// "line 12", or what to say about a thing that the file does not write.
std::string seen_at(const report& out, const std::string& key) {
  return out.has(key) ? fmt::format("see line {}", out.where(key).line) : "that is the default";
}

class pool_checker {
 public:
  pool_checker(const config& c, report& out) : c_(c), out_(out) {}

  void run() {
    if (c_.pools.empty() && out_.usable("pool"))
      out_.error("pool", "no [[pool]]: there is nothing to send requests to",
                 "add [[pool]] and, below it, [[pool.endpoint]] with a url");
    for (std::size_t i = 0; i < c_.pools.size(); ++i) {
      const auto path = fmt::format("pool[{}]", i);
      if (!out_.usable(path)) continue;
      check_name(c_.pools[i], path);
      check_models(c_.pools[i], path);
      check_endpoints(c_.pools[i], path);
    }
    check_count();
    warn_about_shared_endpoints();
    warn_about_unused_routing();
  }

 private:
  void check_name(const pool_config& pool, const std::string& path) {
    const auto key = path + ".name";
    if (!out_.usable(key)) return;
    const bool plain = std::all_of(pool.name.begin(), pool.name.end(), [](char ch) {
      return (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
             std::string_view("_-.").find(ch) != std::string_view::npos;
    });
    if (pool.name.empty() || pool.name.size() > longest_pool_name || !plain) {
      out_.error(key, fmt::format("pool.name: {} is no pool name", in_quotes(pool.name)),
                 "1 to 64 letters, digits, \"_\", \"-\" or \".\"");
      return;
    }
    const auto [first, fresh] = names_.try_emplace(pool.name, key);
    if (!fresh)
      out_.error(key, fmt::format("pool.name: two pools are called {}", in_quotes(pool.name)),
                 out_.has(key) ? seen_at(out_, first->second) : "give each pool a name of its own");
  }

  void check_models(const pool_config& pool, const std::string& path) {
    const auto key = path + ".models";
    if (!out_.usable(key)) return;
    if (pool.models.empty())
      out_.error(key, "pool.models: the pool serves no model", "as in [\"*\"], for every model");
    for (std::size_t i = 0; i < pool.models.size(); ++i)
      if (const auto item = fmt::format("{}[{}]", key, i); out_.usable(item))
        check_model(pool.models[i], item);
  }

  void check_model(const std::string& model, const std::string& key) {
    const bool control =
        std::any_of(model.begin(), model.end(), [](char ch) { return (ch >= 0 && ch < ' ') || ch == 0x7f; });
    if (model.empty() || model.size() > longest_model_name || control) {
      out_.error(key, fmt::format("pool.models: {} is no model name", in_quotes(model)),
                 "1 to 256 bytes without control characters");
      return;
    }
    if (model != "*" && model.find('*') != std::string::npos) {
      out_.error(key, fmt::format("pool.models: {}: patterns are not read", in_quotes(model)),
                 "name each model in full, or \"*\" for all others");
      return;
    }
    const auto [first, fresh] = models_.try_emplace(model, key);
    if (fresh) return;
    const bool same_pool = first->second.substr(0, first->second.find(']')) == key.substr(0, key.find(']'));
    out_.error(key,
               fmt::format("pool.models: {} is served by {}", in_quotes(model),
                           same_pool ? "this pool already" : "two pools"),
               seen_at(out_, first->second));
  }

  void check_endpoints(const pool_config& pool, const std::string& path) {
    const auto list = path + ".endpoint";
    if (pool.endpoints.empty()) {
      if (out_.usable(list))
        out_.error(path, fmt::format("pool {} has no endpoint", in_quotes(pool.name)),
                   "add [[pool.endpoint]] with url = \"http://127.0.0.1:8000\"");
      return;
    }
    std::map<std::string, std::string> seen;
    for (std::size_t i = 0; i < pool.endpoints.size(); ++i) {
      const auto endpoint_path = fmt::format("{}[{}]", list, i);
      if (!out_.usable(endpoint_path)) continue;
      check_endpoint(pool.endpoints[i], endpoint_path, out_);
      const auto identity = endpoint_identity(pool.endpoints[i]);
      if (!identity || !out_.usable(endpoint_path + ".url")) continue;
      const auto [first, fresh] = seen.try_emplace(*identity, endpoint_path + ".url");
      if (!fresh)
        out_.error(endpoint_path + ".url",
                   fmt::format("pool.endpoint: {} is in this pool twice", in_quotes(pool.endpoints[i].url)),
                   fmt::format("{}; ranks of one address differ in data_parallel_rank",
                               seen_at(out_, first->second)));
      everywhere_.try_emplace(*identity, endpoint_path + ".url");
    }
    check_roles(pool, path);
    check_disaggregation(pool, path, out_);
  }

  void check_roles(const pool_config& pool, const std::string& path) {
    const bool whole = std::any_of(pool.endpoints.begin(), pool.endpoints.end(),
                                   [](const endpoint_config& e) { return e.role != endpoint_role::prefill; });
    if (!whole)
      out_.error(path, fmt::format("pool {} has only endpoints of role \"prefill\"", in_quotes(pool.name)),
                 "somebody must decode: role \"both\" or \"decode\"");
  }

  void check_count() {
    std::size_t count = 0;
    for (const auto& pool : c_.pools) count += pool.endpoints.size();
    // A reload keeps the old ones until their streams ended, and both sets need a place on the board.
    if (count > max_endpoints)
      out_.error(
          "pool",
          fmt::format("{} endpoints are more than the {} that one process can hold", count, max_endpoints),
          "");
  }

  void warn_about_shared_endpoints() {
    for (std::size_t p = 0; p < c_.pools.size(); ++p)
      for (std::size_t e = 0; e < c_.pools[p].endpoints.size(); ++e) {
        const auto key = fmt::format("pool[{}].endpoint[{}].url", p, e);
        const auto identity = endpoint_identity(c_.pools[p].endpoints[e]);
        const auto first = identity ? everywhere_.find(*identity) : everywhere_.end();
        if (first == everywhere_.end() ||
            first->second.substr(0, first->second.find(']')) == fmt::format("pool[{}", p))
          continue;
        out_.warn(key,
                  fmt::format("pool.endpoint.url: {} is in two pools, and neither sees the other's load",
                              in_quotes(c_.pools[p].endpoints[e].url)),
                  seen_at(out_, first->second));
      }
  }

  // Constants that no pool's policy looks at.
  void warn_about_unused_routing() {
    const auto any = [&](auto... wanted) {
      return std::any_of(c_.pools.begin(), c_.pools.end(),
                         [&](const pool_config& p) { return ((p.route == wanted) || ...); });
    };
    const bool scores = any(policy::prefix);
    const bool hashes = any(policy::prefix, policy::consistent_hash);
    for (const std::string_view name : {"table_bytes", "lambda", "sequence_cost"}) warn_unused(name, scores);
    for (const std::string_view name : {"block_bytes", "load_factor"}) warn_unused(name, hashes);
  }

  void warn_unused(std::string_view name, bool used) {
    const auto key = fmt::format("routing.{}", name);
    if (!used && !c_.pools.empty() && out_.has(key))
      out_.warn(key, fmt::format("{} is not used by the policy of any pool", key), "");
  }

  const config& c_;
  report& out_;
  std::map<std::string, std::string> names_;       // pool name -> its key
  std::map<std::string, std::string> models_;      // model -> its key
  std::map<std::string, std::string> everywhere_;  // endpoint -> key of its first occurrence
};

}  // namespace

void check_pools(const config& c, report& out) { pool_checker(c, out).run(); }

}  // namespace penstock::conf
