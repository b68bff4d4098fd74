// `penstock check --live`: every endpoint is resolved, probed, scraped and asked for its models once, and
// twice for one token, to see whether it tells cached_tokens.
#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdio>
#include <functional>
#include <vector>

#include "health/findings.hpp"
#include "health/fleet_tracker.hpp"
#include "proxy/commands.hpp"
#include "proxy/http/head.hpp"
#include "proxy/http/shapes.hpp"
#include "proxy/io/clock.hpp"
#include "proxy/io/fleet_probe.hpp"
#include "proxy/io/http_get.hpp"

namespace penstock {
namespace {

constexpr duration one_token_patience = std::chrono::seconds(30);

bool asked(const endpoint_view& e) {
  const bool answers = e.state == life::up || e.state == life::suspect;
  return answers && e.models_known && e.engine.scraped_at != instant{};
}

// Follows the tracker until every endpoint told all it has, or for as long as an unreachable one may take.
std::shared_ptr<const fleet_view> ask_all(boost::asio::io_context& context,
                                          const std::shared_ptr<const config>& settings) {
  health::fleet_tracker tracker(1);
  const instant began = io::read_clock();
  tracker.apply(settings, began);
  io::fleet_probe probe(context, tracker, [] {});
  probe.resolve_literals();
  const instant until = began + 3 * settings->health.timeout + std::chrono::seconds(3);
  std::shared_ptr<const fleet_view> view = tracker.build_view(began);
  while (io::read_clock() < until) {
    const instant now = io::read_clock();
    for (const health::task& task : tracker.due(now)) probe.carry_out(task, settings->health);
    context.restart();
    context.run_for(std::chrono::milliseconds(20));
    view = tracker.build_view(now);
    const bool all = std::all_of(view->endpoints.begin(), view->endpoints.end(), [&](const endpoint_view& e) {
      return asked(e) && (!asks_bootstrap(*view, e) || !e.rank_ids.empty());
    });
    if (all) break;
  }
  probe.stop();
  return view;
}

// The same prompt of some 600 tokens twice: the second answer has cached_tokens, or the engine does not tell.
// Empty: it tells, or could not be asked.
std::string ask_for_cached_tokens(boost::asio::io_context& context, const endpoint_view& e,
                                  const std::string& model) {
  if (e.addresses.empty()) return {};
  std::string text, last;
  for (int i = 0; i < 300; ++i) text += fmt::format("item {} ", i);
  std::string body = R"({"model":")";
  http::append_json_escaped(body, model);
  body += fmt::format(R"(","prompt":"{}","max_tokens":1,"temperature":0}})", text);
  for (int i = 0; i < 2; ++i) {
    io::get_request r{.to = e.addresses.front(),
                      .authority = e.settings.address.authority,
                      .target = e.settings.address.prefix + "/v1/completions",
                      .headers = e.settings.headers,
                      .timeout = one_token_patience,
                      .post = body};
    const bool own_key = std::any_of(r.headers.begin(), r.headers.end(),
                                     [](const auto& h) { return http::iequals(h.first, "authorization"); });
    if (!e.settings.api_key.empty() && !own_key)
      r.headers.emplace_back("Authorization", "Bearer " + e.settings.api_key);
    io::get_result got;
    io::http_get(context, std::move(r), [&](io::get_result answer) { got = std::move(answer); });
    context.restart();
    context.run();
    if (got.how != io::get_result::outcome::answered || got.status != 200) return {};
    last = std::move(got.body);
  }
  const bool usage = last.find("\"prompt_tokens\"") != std::string::npos;
  if (!usage || last.find("\"cached_tokens\"") != std::string::npos) return {};
  return fmt::format("its answers do not tell cached_tokens; start the engine with {}",
                     health::cached_tokens_switch(e));
}

}  // namespace

int check_live(const std::shared_ptr<const config>& settings) {
  boost::asio::io_context context(1);
  const auto fleet = ask_all(context, settings);
  std::vector<health::finding> found = health::live_findings(*fleet);
  for (const endpoint_view& e : fleet->endpoints) {
    if (!asked(e) || e.models.empty() || e.settings.role == endpoint_role::decode) continue;
    std::string what = ask_for_cached_tokens(context, e, e.models.front().id);
    if (!what.empty()) found.push_back({e.settings.url, std::move(what), false});
  }
  bool serious = false;
  for (const health::finding& f : found) {
    serious = serious || f.serious;
    std::printf("%s: %s: %s\n", f.serious ? "error" : "warning", f.url.c_str(), f.what.c_str());
  }
  std::printf("%zu endpoint%s asked, %zu finding%s\n", fleet->endpoints.size(),
              fleet->endpoints.size() == 1 ? "" : "s", found.size(), found.size() == 1 ? "" : "s");
  return serious ? 1 : 0;
}

}  // namespace penstock
