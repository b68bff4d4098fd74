#include "proxy/admin/status_page.hpp"

#include <doctest/doctest.h>

#include <memory>

#include "proxy/admin/version.hpp"

using namespace penstock;
using namespace std::chrono_literals;

namespace {

constexpr instant now{1000s};

fleet_view fleet_of_two() {
  fleet_view f;
  f.version = 1;
  f.ready = true;
  f.pools.push_back({.name = "main", .models = {"*"}, .endpoints = {0, 1}});
  for (std::uint16_t i = 0; i < 2; ++i) {
    endpoint_view e;
    e.id = {i, 1};
    e.settings.url = i == 0 ? "http://a:8000" : "http://b:8000";
    e.settings.api_key = "top-secret";
    e.settings.headers = {{"x-key", "top-secret"}};
    e.state = i == 0 ? life::up : life::down;
    f.endpoints.push_back(e);
  }
  f.endpoints[0].engine = {
      .running = 3, .waiting = 7, .kv_use = 0.25, .prefix_hits = 30, .prefix_queries = 40, .scraped_at = now};
  f.endpoints[0].models_known = true;
  f.endpoints[0].models = {{.id = "tiny"}};
  return f;
}

std::string page_of(const fleet_view& f, const worker::worker_metrics& m = {}) {
  const auto board = std::make_unique<routing::endpoint_board>();
  return admin::status_page(m, f, *board, now);
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

std::string row_of(const std::string& page, std::string_view url) {
  const std::size_t at = page.find("<tr><td>" + std::string(url));
  return at == page.npos ? "" : page.substr(at, page.find("</tr>", at) - at);
}

}  // namespace

TEST_CASE("status page: version, readiness, pools, endpoints with state, queue and hit ratio") {
  fleet_view f = fleet_of_two();
  const auto board = std::make_unique<routing::endpoint_board>();
  REQUIRE(board->book(f.endpoints[0].id,
                      {.prefill_tokens = 1234, .decode_tokens = 0, .sequences = 2, .expected = 1500ms}, now));
  worker::worker_metrics m;
  m.live_requests = 2;
  account_record r;
  r.pool = "main";
  r.usage = {.prompt = 100, .completion = 5, .cached = 80, .known = true, .cached_known = true};
  m.account(r);
  r.why = reason::engine_cut;
  r.usage = {};
  m.account(r);
  const std::string page = admin::status_page(m, f, *board, now);
  CHECK(has(page, "Penstock " + std::string(admin::version)));
  CHECK(has(page, ">ready<"));
  CHECK(has(page, "2 requests in flight"));
  CHECK(has(page, "2 requests ended, 1 of them well; cached prompt tokens 80.0 %"));
  const std::string a = row_of(page, "http://a:8000"), b = row_of(page, "http://b:8000");
  for (const std::string_view cell :
       {">up<", ">2<", ">1234<", ">1.50 s<", ">3<", ">7<", ">25.0 %<", ">75.0 %<", ">tiny<"}) {
    CAPTURE(cell);
    CHECK(has(a, cell));
  }
  CHECK(has(b, ">down<"));
  CHECK(has(
      b,
      "<td class=\"n\">-</td><td class=\"n\">-</td><td class=\"n\">-</td><td class=\"n\">-</td><td>-</td>"));
}

TEST_CASE("status page: what a configuration or an engine names is text and never markup") {
  fleet_view f = fleet_of_two();
  f.endpoints[0].settings.url = "http://a:8000/<script>\"'&";
  f.endpoints[0].models = {{.id = "<img src=x onerror=alert(1)>"}};
  const std::string page = page_of(f);
  CHECK_FALSE(has(page, "<script"));
  CHECK_FALSE(has(page, "<img"));
  CHECK(has(page, "http://a:8000/&lt;script&gt;&quot;&#39;&amp;"));
  CHECK(has(page, "&lt;img src=x onerror=alert(1)&gt;"));
}

TEST_CASE("status page: no secrets, no scripts, nothing from elsewhere") {
  const std::string page = page_of(fleet_of_two());
  for (const std::string_view bad :
       {"top-secret", "<script", "src=", "<link", "https://", "@import", "url("}) {
    CAPTURE(bad);
    CHECK_FALSE(has(page, bad));
  }
}

TEST_CASE("status page: an engine with ten thousand models is a short row; draining shows") {
  fleet_view f = fleet_of_two();
  f.endpoints[0].models.assign(10'000, {.id = "m"});
  f.draining = true;
  f.ready = false;
  const std::string page = page_of(f);
  CHECK(has(page, "and 9992 more"));
  CHECK(page.size() < 10'000);
  CHECK(has(page, ">draining<"));
}
