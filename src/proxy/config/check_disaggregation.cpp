#include "proxy/config/check_disaggregation.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "proxy/config/endpoint_url.hpp"
#include "proxy/config/text.hpp"

namespace penstock::conf {
namespace {

using enum endpoint_role;

class disaggregation_checker {
 public:
  disaggregation_checker(const pool_config& pool, const std::string& path, report& out)
      : pool_(pool), how_(pool.disaggregation), path_(path), out_(out) {}

  void run() {
    if (!how_.enabled) return check_roles_without();
    check_partners();
    if (how_.connector == connector_kind::sglang) check_sglang();
    for (std::size_t i = 0; i < pool_.endpoints.size(); ++i) check_bootstrap(i);
    check_tensor_parallel();
  }

 private:
  std::string key(std::size_t endpoint, std::string_view name) const {
    return fmt::format("{}.endpoint[{}].{}", path_, endpoint, name);
  }
  std::string place() const {
    const auto section = path_ + ".disaggregation";
    return out_.has(section) ? section : path_;
  }
  std::size_t with_role(endpoint_role role) const {
    return static_cast<std::size_t>(
        std::count_if(pool_.endpoints.begin(), pool_.endpoints.end(),
                      [role](const endpoint_config& e) { return e.role == role; }));
  }

  void check_roles_without() {
    for (std::size_t i = 0; i < pool_.endpoints.size(); ++i) {
      if (pool_.endpoints[i].role == both || !out_.usable(key(i, "role"))) continue;
      out_.warn(key(i, "role"),
                fmt::format("pool.endpoint.role: the pool has no [pool.disaggregation]: {}",
                            pool_.endpoints[i].role == prefill ? "the endpoint gets no requests"
                                                               : "the endpoint serves whole requests"),
                "add [pool.disaggregation] with connector = \"nixl\", or leave role out");
    }
  }

  // Engines of role both hand on and take over as well, but not SGLang's, which have no such mode.
  bool both_pair() const { return traits(how_.connector).decode_serves_alone; }

  // A pair is two endpoints of one group, of which one may prefill and the other may decode.
  bool partner(std::size_t i, endpoint_role of) const {
    const endpoint_config& one = pool_.endpoints[i];
    for (std::size_t k = 0; k < pool_.endpoints.size(); ++k) {
      const endpoint_config& other = pool_.endpoints[k];
      const bool plays = other.role == of || (other.role == both && both_pair());
      if (k != i && other.group == one.group && plays) return true;
    }
    return false;
  }

  void check_partners() {
    bool pairs = false;
    for (std::size_t i = 0; i < pool_.endpoints.size(); ++i) {
      const endpoint_role role = pool_.endpoints[i].role;
      if (role == both && !both_pair()) continue;
      const bool has = partner(i, role == prefill ? decode : prefill);
      pairs |= has;
      if (has || role == both || !out_.usable(key(i, "role"))) continue;
      out_.warn(key(i, "role"),
                fmt::format("pool.endpoint.role: {} has no partner of role \"{}\" in its group",
                            in_quotes(pool_.endpoints[i].url), role == prefill ? "decode" : "prefill"),
                "engines of one pair have equal `group` labels");
    }
    if (!pairs && !decode_without_prefill())
      out_.error(
          place(),
          fmt::format("pool {} has no pair of endpoints to split a request over", in_quotes(pool_.name)),
          both_pair() ? "it takes one of role \"prefill\" (or \"both\") and another of role \"decode\" (or "
                        "\"both\") in one group"
                      : "it takes one of role \"prefill\" and one of role \"decode\" in one group");
  }

  // An SGLang decode server has no prefill path: it answers 400 to what comes without a bootstrap room.
  bool decode_without_prefill() const {
    return !both_pair() && with_role(decode) > 0 && with_role(prefill) == 0;
  }

  void check_sglang() {
    if (decode_without_prefill())
      out_.error(place(),
                 fmt::format("pool {}: SGLang decode engines cannot serve without prefill engines",
                             in_quotes(pool_.name)),
                 "add endpoints of role \"prefill\"");
    if (how_.split == split_never && with_role(both) == 0)
      out_.error(path_ + ".disaggregation.split",
                 "pool.disaggregation.split: \"never\" leaves SGLang engines of role \"decode\" without work",
                 "\"cost\", or endpoints of role \"both\"");
    if (with_role(both) == 0)
      out_.warn(place(),
                fmt::format("pool {}: nobody can serve requests that cannot be split", in_quotes(pool_.name)),
                "`echo` and `prompt_logprobs` need an endpoint of role \"both\"");
  }

  void check_bootstrap(std::size_t i) {
    const endpoint_config& e = pool_.endpoints[i];
    const bool asked = traits(how_.connector).bootstrap;
    const bool prefills = e.role == prefill || (e.role == both && both_pair());
    if (e.bootstrap.empty()) {
      if (how_.connector == connector_kind::mooncake && prefills && out_.usable(key(i, "bootstrap")))
        out_.error(
            key(i, "url"),
            fmt::format("pool.endpoint: {} has no bootstrap address, which Mooncake's prefill engines need",
                        in_quotes(e.url)),
            "add bootstrap = \"host:8998\"");
      const bool nowhere = how_.connector == connector_kind::sglang && e.url.starts_with("unix:");
      if (nowhere && prefills && out_.usable(key(i, "bootstrap")))
        out_.error(
            key(i, "url"),
            fmt::format("pool.endpoint: {} has no host where decode engines could find it", in_quotes(e.url)),
            "add bootstrap = \"host:8998\"");
      return;
    }
    if (!out_.usable(key(i, "bootstrap"))) return;
    auto parsed = parse_listen_address(e.bootstrap);
    const auto* address = std::get_if<listen_address>(&parsed);
    if (address == nullptr || address->port == 0 || !address->unix_path.empty())
      out_.error(key(i, "bootstrap"),
                 fmt::format("pool.endpoint.bootstrap: {} is no address", in_quotes(e.bootstrap)),
                 "as in \"10.0.0.5:8998\"");
    else if (!asked || !prefills)
      out_.warn(key(i, "bootstrap"), "pool.endpoint.bootstrap is not used by this connector and role", "");
  }

  // NIXL: a decode engine of fewer ranks than the prefill engine cannot take its blocks. Mooncake: equal.
  void check_tensor_parallel() {
    const bool equal = how_.connector == connector_kind::mooncake;
    if (!equal && how_.connector != connector_kind::nixl) return;
    for (std::size_t d = 0; d < pool_.endpoints.size(); ++d) {
      const endpoint_config& to = pool_.endpoints[d];
      if (to.role == prefill || to.tensor_parallel == 0) continue;
      for (const endpoint_config& from : pool_.endpoints) {
        if (&from == &to || from.role == decode || from.tensor_parallel == 0 || from.group != to.group)
          continue;
        const bool fits =
            equal ? from.tensor_parallel == to.tensor_parallel : from.tensor_parallel <= to.tensor_parallel;
        if (fits) continue;
        out_.error(key(d, "tensor_parallel"),
                   fmt::format("pool.endpoint.tensor_parallel: {} of {} is {} the {} of {}",
                               to.tensor_parallel, in_quotes(to.url), equal ? "not" : "below",
                               from.tensor_parallel, in_quotes(from.url)),
                   equal ? "Mooncake passes blocks between equal sizes only"
                         : "NIXL decode engines have at least the ranks of their prefill engines");
        return;
      }
    }
  }

  const pool_config& pool_;
  const disaggregation_config& how_;
  const std::string& path_;
  report& out_;
};

}  // namespace

void check_disaggregation(const pool_config& pool, const std::string& path, report& out) {
  disaggregation_checker(pool, path, out).run();
}

}  // namespace penstock::conf
