#include "proxy/config/check_endpoint.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "proxy/config/endpoint_url.hpp"
#include "proxy/config/ip_text.hpp"
#include "proxy/config/text.hpp"

namespace penstock::conf {
namespace {

constexpr std::size_t longest_label = 128;
constexpr std::size_t longest_field = 8192;

// Fields that we write ourselves for every request, or that are between us and our own client: framing, the
// connection, and the address.
constexpr std::array<std::string_view, 17> own_fields{"host",
                                                      "content-length",
                                                      "transfer-encoding",
                                                      "connection",
                                                      "keep-alive",
                                                      "upgrade",
                                                      "te",
                                                      "trailer",
                                                      "expect",
                                                      "proxy-connection",
                                                      "content-type",
                                                      "accept-encoding",
                                                      "x-request-id",
                                                      "proxy-authenticate",
                                                      "proxy-authorization",
                                                      "proxy-authentication-info",
                                                      "http2-settings"};

bool field_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

// What makes a text unfit as a header field's value; empty if nothing does. The text itself may be a
// secret and is never shown.
std::string_view bad_field_value(std::string_view value) {
  if (value.size() > longest_field) return "is longer than 8KiB";
  if (value.find_first_of("\r\n") != std::string_view::npos) return "has a line break";
  if (std::any_of(value.begin(), value.end(),
                  [](char c) { return (c >= 0 && c < ' ' && c != '\t') || c == 0x7f; }))
    return "has control characters";
  if (!value.empty() &&
      (value.front() == ' ' || value.back() == ' ' || value.front() == '\t' || value.back() == '\t'))
    return "begins or ends with white space";
  return {};
}

std::string break_hint(std::string_view why) {
  return why == "has a line break" ? "what the variable was read from may end in one" : "";
}

void check_url(const endpoint_config& endpoint, const std::string& path, report& out) {
  const auto key = path + ".url";
  if (!out.usable(key)) return;
  auto parsed = parse_endpoint_url(endpoint.url);
  auto* bad = std::get_if<address_error>(&parsed);
  if (bad == nullptr) {
    const std::string& prefix = std::get<endpoint_url>(parsed).prefix;
    if (prefix.ends_with("/v1"))
      out.warn(
          key,
          fmt::format("pool.endpoint.url: requests will go to {}/v1/chat/completions, probes to {}/health",
                      prefix, prefix),
          "leave \"/v1\" out, unlike in a client's base URL");
    return;
  }
  // A user part may hold a password.
  const bool hide = endpoint.url.find('@') != std::string::npos;
  out.error(key,
            hide ? fmt::format("pool.endpoint.url: {}", bad->what)
                 : fmt::format("pool.endpoint.url: {}: {}", in_quotes(endpoint.url), bad->what),
            std::move(bad->hint));
}

void check_key(const endpoint_config& endpoint, const std::string& path, report& out) {
  const auto key = path + ".api_key";
  if (!out.has(key) || !out.usable(key)) return;
  auto why = endpoint.api_key.empty() ? std::string_view("is empty") : bad_field_value(endpoint.api_key);
  if (why.empty() && endpoint.api_key.find_first_of(" \t") != std::string::npos) why = "has white space";
  if (why.empty()) return;
  out.error(key, fmt::format("pool.endpoint.api_key {}", why),
            endpoint.api_key.empty() ? "leave api_key out to send none" : break_hint(why));
}

void check_headers(const endpoint_config& endpoint, const std::string& path, report& out) {
  std::set<std::string> seen;
  if (!out.usable(path + ".headers")) return;
  for (const auto& entry : endpoint.headers) {
    const std::string& field = entry.first;
    const auto key = fmt::format("{}.headers.{}", path, field);
    if (!out.usable(key)) continue;
    const auto lower = lower_case(field);
    const auto fail = [&](std::string_view what, std::string hint) {
      out.error(key, fmt::format("pool.endpoint.headers: {} {}", in_quotes(field), what), std::move(hint));
    };
    const auto why = bad_field_value(entry.second);
    if (!field_name(field))
      fail("is no header name", "letters, digits and \"-\"");
    else if (std::find(own_fields.begin(), own_fields.end(), lower) != own_fields.end())
      fail("is written by Penstock itself", "");
    else if (!seen.insert(lower).second)
      fail("is there twice", "header names do not differ by case");
    else if (lower == "authorization" && !endpoint.api_key.empty())
      fail("and api_key are the same field", "keep one of them");
    else if (!why.empty())
      fail(fmt::format("{}", why), break_hint(why));
  }
}

void check_labels(const endpoint_config& endpoint, const std::string& path, report& out) {
  const auto check = [&](std::string_view name, const std::string& label) {
    const auto key = fmt::format("{}.{}", path, name);
    const bool control =
        std::any_of(label.begin(), label.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; });
    if (label.size() > longest_label || control)
      out.error(key, fmt::format("pool.endpoint.{}: {} is no label", name, in_quotes(label)),
                "at most 128 bytes without control characters");
  };
  check("group", endpoint.group);
  check("zone", endpoint.zone);
  check("build", endpoint.build);
  check("engine_label", endpoint.engine_label);
}

}  // namespace

std::optional<std::string> endpoint_identity(const endpoint_config& endpoint) {
  const auto parsed = parse_endpoint_url(endpoint.url);
  const auto* url = std::get_if<endpoint_url>(&parsed);
  if (url == nullptr) return std::nullopt;
  return fmt::format("{}|{}|{}|{}", url->unix_path, url->authority, url->prefix, endpoint.data_parallel_rank);
}

void check_endpoint(const endpoint_config& endpoint, const std::string& path, report& out) {
  check_url(endpoint, path, out);
  check_key(endpoint, path, out);
  check_headers(endpoint, path, out);
  check_labels(endpoint, path, out);
}

}  // namespace penstock::conf
