// /metrics and /debug/fleet as their readers parse them.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <simdjson.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <vector>

#include "proxy/admin/fleet_page.hpp"
#include "proxy/admin/metrics_page.hpp"
#include "unit/source_dir.hpp"

using namespace penstock;
using namespace std::chrono_literals;

namespace {

constexpr instant now{1000s};

fleet_view two_endpoints(const std::string& pool = "main") {
  fleet_view f;
  f.version = 3;
  f.settings = std::make_shared<const config>();
  f.ready = true;
  f.pools.push_back({.name = pool, .models = {"*", "a\"b"}, .endpoints = {0, 1}});
  for (std::uint16_t i = 0; i < 2; ++i) {
    endpoint_view e;
    e.id = {i, 1};
    e.settings.url = "http://engine:8000";  // two ranks of one server
    e.settings.data_parallel_rank = i;
    e.settings.api_key = "top-secret";
    e.settings.headers = {{"x-key", "top-secret"}};
    e.state = i == 0 ? life::up : life::down;
    f.endpoints.push_back(e);
  }
  f.endpoints[0].engine = {.running = 3, .waiting = 0, .kv_use = 0.5, .scraped_at = instant(990s)};
  f.endpoints[0].models_known = true;
  f.endpoints[0].models = {{.id = "tiny"}, {.id = "q\"uote"}};
  return f;
}

worker::worker_metrics some_traffic(const std::string& pool = "main") {
  worker::worker_metrics m;
  for (std::size_t i = 0; i < reason_count; ++i) {
    account_record r;
    r.pool = i % 5 == 0 ? "" : pool;
    r.why = static_cast<reason>(i);
    r.api = static_cast<api_kind>(i % api_count);
    r.attempts = 1;
    r.accepted = instant(1s);
    r.body_done = r.dispatched = r.sent = instant(2s);
    r.first_token = instant(3s);
    r.usage = {.prompt = 10, .completion = 5, .cached = 8, .known = true, .cached_known = true};
    m.account(r);
  }
  m.pools[pool].gap.observe(0.02);
  m.accepted = 7;
  m.engine_connections = 5;
  m.idle_engine_connections = 2;
  return m;
}

struct sample {
  std::string name, labels;
  double value = 0;
};

// A strict reader of text format 0.0.4; every complaint is a line.
struct exposition {
  explicit exposition(const std::string& text) {
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) read(line);
    if (!text.empty() && text.back() != '\n') complaints.push_back("the last line has no end");
  }

  void read(const std::string& line) {
    if (line.rfind("# HELP ", 0) == 0) return announce(line, helps);
    if (line.rfind("# TYPE ", 0) == 0) return announce(line, types);
    if (line.empty() || line[0] == '#') return complaints.push_back("unexpected: " + line);
    sample s;
    std::size_t at = line.find_first_not_of(name_characters);
    s.name = line.substr(0, at);
    if (s.name.empty() || at == line.npos) return complaints.push_back("no name: " + line);
    if (line[at] == '{') at = read_labels(line, at, s.labels);
    if (at == line.npos || at >= line.size() || line[at] != ' ')
      return complaints.push_back("no value: " + line);
    char* end = nullptr;
    s.value = std::strtod(line.c_str() + at + 1, &end);
    if (end == line.c_str() + at + 1 || *end != '\0') complaints.push_back("bad value: " + line);
    if (s.name.rfind(family, 0) != 0) complaints.push_back("outside its family: " + line);
    if (!series.insert(s.name + s.labels).second) complaints.push_back("twice: " + line);
    samples.push_back(std::move(s));
  }

  void announce(const std::string& line, std::set<std::string>& where) {
    family = line.substr(7, line.find(' ', 7) - 7);
    if (!where.insert(family).second) complaints.push_back("announced twice: " + line);
    if (family.rfind("penstock_", 0) != 0) complaints.push_back("foreign name: " + line);
  }

  std::size_t read_labels(const std::string& line, std::size_t at, std::string& out) {
    const std::size_t begin = at++;
    while (at < line.size() && line[at] != '}') {
      at = line.find_first_not_of(name_characters, at);
      if (at == line.npos || line.compare(at, 2, "=\"") != 0) return line.npos;
      for (at += 2; at < line.size() && line[at] != '"'; ++at)
        if (line[at] == '\\') ++at;
      ++at;
      if (at < line.size() && line[at] == ',') ++at;
    }
    out = line.substr(begin, at + 1 - begin);
    return at + 1;
  }

  double value(const std::string& name, const std::string& labels = "") const {
    for (const sample& s : samples)
      if (s.name == name && s.labels == labels) return s.value;
    return std::numeric_limits<double>::quiet_NaN();
  }

  static constexpr const char* name_characters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:";
  std::string family;
  std::set<std::string> helps, types, series;
  std::vector<sample> samples;
  std::vector<std::string> complaints;
};

void check(const exposition& e) {
  for (const std::string& c : e.complaints) FAIL_CHECK(c);
  CHECK(e.helps == e.types);
}

}  // namespace

TEST_CASE("metrics_page: every line parses, every family is announced once, no series comes twice") {
  check(exposition(admin::metrics_page({}, {}, {})));
  const exposition e(admin::metrics_page(some_traffic(), two_endpoints(), {.workers = 2, .now = now}));
  check(e);
  CHECK(e.samples.size() > 100);
  check(
      exposition(admin::metrics_page(some_traffic("a\"b\\c\nd"), two_endpoints("a\"b\\c\nd"), {.now = now})));
}

TEST_CASE("metrics_page: figures are where their readers look") {
  const exposition e(admin::metrics_page(some_traffic(), two_endpoints(),
                                         {.reloads_good = 2,
                                          .reloads_rejected = 1,
                                          .last_reload_good = false,
                                          .log_lines_dropped = 9,
                                          .workers = 2,
                                          .now = now}));
  CHECK(e.value("penstock_workers") == 2);
  CHECK(e.value("penstock_ready") == 1);
  CHECK(e.value("penstock_config_last_reload_successful") == 0);
  CHECK(e.value("penstock_config_reloads_total", "{result=\"rejected\"}") == 1);
  CHECK(e.value("penstock_log_lines_dropped_total") == 9);
  CHECK(e.value("penstock_client_connections_accepted_total") == 7);
  CHECK(e.value("penstock_engine_connections", "{state=\"busy\"}") == 3);
  CHECK(e.value("penstock_engine_connections", "{state=\"idle\"}") == 2);
  const std::string one = R"({pool="main",endpoint="http://engine:8000",rank="0")";
  const std::string two = R"({pool="main",endpoint="http://engine:8000",rank="1")";
  CHECK(e.value("penstock_endpoint_state", one + ",state=\"up\"}") == 1);
  CHECK(e.value("penstock_endpoint_state", one + ",state=\"down\"}") == 0);
  CHECK(e.value("penstock_endpoint_state", two + ",state=\"down\"}") == 1);
  CHECK(e.value("penstock_endpoint_scrape_age_seconds", one + "}") == 10);
  CHECK(e.value("penstock_endpoint_kv_use_ratio", one + "}") == 0.5);
  CHECK(e.series.count("penstock_endpoint_kv_use_ratio" + two + "}") == 0);  // not known is not 0
  CHECK(e.value("penstock_prompt_tokens_total", "{pool=\"main\"}") > 0);
}

TEST_CASE("metrics_page: each request counts under one reason") {
  const worker::worker_metrics m = some_traffic();
  const exposition e(admin::metrics_page(m, two_endpoints(), {.now = now}));
  double requests = 0;
  std::set<std::string> reasons;
  for (const sample& s : e.samples)
    if (s.name == "penstock_requests_total") {
      requests += s.value;
      const std::size_t at = s.labels.find("reason=\"") + 8;
      reasons.insert(s.labels.substr(at, s.labels.find('"', at) - at));
    }
  CHECK(requests == reason_count);
  CHECK(reasons.size() == reason_count);
}

TEST_CASE("metrics_page: histograms are cumulative and end with +Inf") {
  const exposition e(admin::metrics_page(some_traffic(), two_endpoints(), {.now = now}));
  for (const std::string family : {"penstock_ttft_seconds", "penstock_inter_token_seconds"}) {
    double before = 0;
    std::size_t buckets = 0;
    for (const sample& s : e.samples) {
      if (s.name != family + "_bucket") continue;
      CHECK(s.value >= before);
      before = s.value;
      ++buckets;
      if (buckets == worker::time_bounds.size() + 1) CHECK(s.labels.find("le=\"+Inf\"") != std::string::npos);
    }
    CHECK(buckets == worker::time_bounds.size() + 1);
    CHECK(e.value(family + "_count", "{pool=\"main\"}") == before);
    CHECK(before > 0);
  }
  CHECK(e.value("penstock_inter_token_seconds_sum", "{pool=\"main\"}") == doctest::Approx(0.02));
}

TEST_CASE("fleet_page: JSON with every endpoint and no secret") {
  const auto board = std::make_unique<routing::endpoint_board>();
  board->book({0, 1}, {.prefill_tokens = 500, .sequences = 1, .expected = 2s}, now);
  const std::string text = admin::fleet_page({}, two_endpoints("p\"ool"), *board, now);
  CHECK(text.find("secret") == std::string::npos);
  simdjson::dom::parser parser;
  simdjson::dom::element e;
  REQUIRE(parser.parse(text).get(e) == simdjson::SUCCESS);
  CHECK(std::uint64_t(e["version"]) == 3);
  CHECK(bool(e["ready"]));
  CHECK_FALSE(bool(e["draining"]));
  const auto pool = e["pools"].at(0);
  CHECK(std::string_view(pool["name"]) == "p\"ool");
  CHECK(std::string_view(pool["models"].at(1)) == "a\"b");
  const auto one = pool["endpoints"].at(0), two = pool["endpoints"].at(1);
  CHECK(std::string_view(one["state"]) == "up");
  CHECK(std::string_view(two["state"]) == "down");
  CHECK(std::uint64_t(one["outstanding"]["requests"]) == 1);
  CHECK(std::uint64_t(one["outstanding"]["prefill_tokens"]) == 500);
  CHECK(double(one["outstanding"]["queue_seconds"]) == doctest::Approx(2).epsilon(0.01));
  CHECK(double(one["engine"]["running"]) == 3);
  CHECK(double(one["engine"]["scrape_age_seconds"]) == 10);
  CHECK(std::string_view(one["models"].at(1)) == "q\"uote");
  CHECK(two["models"].is_null());
  CHECK(two["engine"]["running"].is_null());
  CHECK(two["engine"]["scrape_age_seconds"].is_null());
  CHECK(two["prefill_tokens_per_second"].is_null());
}

TEST_CASE("fleet_page: roles, open hand-offs and pairs of a pool that splits") {
  const auto board = std::make_unique<routing::endpoint_board>();
  fleet_view fleet = two_endpoints("p");
  fleet.endpoints[0].settings.role = endpoint_role::prefill;
  fleet.endpoints[0].settings.group = "g\"1";
  fleet.endpoints[1].settings.role = endpoint_role::decode;
  fleet.pools[0].disaggregation = {.enabled = true, .connector = connector_kind::nixl, .split = 512};
  const endpoint_id prefill = fleet.endpoints[0].id, decode = fleet.endpoints[1].id, gone{77, 1};
  worker::worker_metrics cells;
  cells.leases.push_back({prefill, decode, now - 2s, now + 28s, 0, true});
  cells.leases.push_back({gone, decode, now, now + 30s, 0, true});
  cells.pairs.handed_over(prefill, decode, 1000, 1s);
  for (int i = 0; i < 5; ++i) cells.pairs.handed_over(prefill, decode, 1000, 50ms);
  cells.pairs.failed(decode, prefill, now - 20s);
  simdjson::dom::parser parser;
  simdjson::dom::element e;
  const std::string text = admin::fleet_page(cells, fleet, *board, now);
  REQUIRE(parser.parse(text).get(e) == simdjson::SUCCESS);
  const auto pool = e["pools"].at(0);
  CHECK(std::string_view(pool["endpoints"].at(0)["role"]) == "prefill");
  CHECK(std::string_view(pool["endpoints"].at(0)["group"]) == "g\"1");
  CHECK(pool["endpoints"].at(1)["group"].is_null());
  const auto how = pool["disaggregation"];
  CHECK(std::string_view(how["connector"]) == "nixl");
  CHECK(std::uint64_t(how["split"]) == 512);
  CHECK(std::uint64_t(how["lease_seconds"]) == 30);
  // What belongs to engines that left the pool is not listed here.
  CHECK(std::uint64_t(how["leases_open"]) == 1);
  CHECK(std::string_view(how["leases"].at(0)["prefill"]) == fleet.endpoints[0].settings.url);
  CHECK(std::string_view(how["leases"].at(0)["decode"]) == fleet.endpoints[1].settings.url);
  CHECK(double(how["leases"].at(0)["held_seconds"]) == 2);
  CHECK(double(how["leases"].at(0)["left_seconds"]) == 28);
  REQUIRE(simdjson::dom::array(how["pairs"]).size() == 2);
  const auto one = how["pairs"].at(0), two = how["pairs"].at(1);
  CHECK(std::string_view(one["prefill"]) == fleet.endpoints[0].settings.url);
  CHECK(bool(one["connected"]));
  CHECK(double(one["avoided_seconds"]) == 0);
  CHECK(bool(one["transfer"]["learned"]));
  CHECK(double(one["transfer"]["seconds"]) + double(one["transfer"]["seconds_per_1000_tokens"]) ==
        doctest::Approx(0.05));
  CHECK_FALSE(bool(two["connected"]));
  CHECK(double(two["avoided_seconds"]) == 40);
  CHECK_FALSE(bool(two["transfer"]["learned"]));
  for (const auto& [split, said] :
       {std::pair{split_by_cost, "cost"}, {split_always, "always"}, {split_never, "never"}}) {
    fleet.pools[0].disaggregation.split = split;
    CHECK(admin::fleet_page({}, fleet, *board, now).find(fmt::format("\"split\":\"{}\"", said)) !=
          std::string::npos);
  }
  fleet.pools[0].disaggregation.enabled = false;
  CHECK(admin::fleet_page(cells, fleet, *board, now).find("disaggregation") == std::string::npos);
}

TEST_CASE("fleet_page: an empty fleet is valid too") {
  simdjson::dom::parser parser;
  simdjson::dom::element e;
  const auto board = std::make_unique<routing::endpoint_board>();
  CHECK(parser.parse(admin::fleet_page({}, {}, *board, now)).get(e) == simdjson::SUCCESS);
}

TEST_CASE("metrics: README names every metric") {
  std::ifstream in(test::source_dir() + "/README.md");
  const std::string readme{std::istreambuf_iterator<char>(in), {}};
  fleet_view fleet = two_endpoints();
  fleet.pools[0].disaggregation.enabled = true;
  fleet.endpoints[0].engine.handoffs_late = fleet.endpoints[0].engine.handoffs_expired = 1;
  std::istringstream page(admin::metrics_page(some_traffic(), fleet, {.now = now}));
  int families = 0;
  for (std::string line; std::getline(page, line);) {
    constexpr std::string_view start = "# TYPE penstock_";
    if (line.compare(0, start.size(), start) != 0) continue;
    ++families;
    const std::string name = line.substr(start.size(), line.find(' ', start.size()) - start.size());
    CAPTURE(name);
    const bool named =
        readme.find("`" + name + "`") != readme.npos || readme.find("`" + name + "{") != readme.npos;
    CHECK(named);
  }
  CHECK(families > 40);
}
