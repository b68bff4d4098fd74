#include "readers.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <unordered_map>

namespace penstock::lab {
namespace {

constexpr std::uint32_t mooncake_block = 512;
constexpr std::uint64_t most_tokens = 10'000'000;  // of one request: more is a broken row
constexpr std::chrono::seconds mooncake_stamp{3};

read_error at_line(std::string_view name, std::size_t line, std::string_view what) {
  return {fmt::format("{}:{}: {}", name, line, what)};
}

// Calls `row(line, number)` for each line that is not empty until one answers with an error.
template <class F>
std::optional<read_error> each_line(std::string_view text, F row) {
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    if (std::optional<read_error> wrong = row(line, number)) return wrong;
  }
  return std::nullopt;
}

// The first block that tells a session from others.
void name_sessions(workload& w) {
  std::unordered_map<std::uint64_t, std::uint32_t> seen;
  for (const request& r : w.requests) {
    for (const segment& s : r.segments) ++seen[s.id];
  }
  const std::size_t common = std::max<std::size_t>(w.requests.size() / 50, 1);
  std::unordered_map<std::uint64_t, std::uint32_t> session_of;
  for (request& r : w.requests) {
    const auto telling = std::find_if(r.segments.begin(), r.segments.end(),
                                      [&](const segment& s) { return seen[s.id] <= common; });
    const std::uint64_t id = telling == r.segments.end() ? r.segments.back().id : telling->id;
    r.session = session_of.try_emplace(id, static_cast<std::uint32_t>(session_of.size())).first->second;
    // What more than half of all prompts begin with is the product's system prompt.
    while (r.user_segment + 1 < r.segments.size() &&
           seen[r.segments[r.user_segment].id] * std::size_t{2} > w.requests.size()) {
      ++r.user_segment;
    }
  }
}

std::optional<std::string> fill(simdjson::dom::element row, request& r) {
  std::uint64_t input = 0, output = 0;
  double stamp = 0;
  simdjson::dom::array ids;
  if (row["timestamp"].get(stamp) != simdjson::SUCCESS || !(stamp >= 0))
    return "no `timestamp` in milliseconds";
  if (row["input_length"].get(input) != simdjson::SUCCESS) return "no `input_length`";
  if (row["output_length"].get(output) != simdjson::SUCCESS) return "no `output_length`";
  if (row["hash_ids"].get(ids) != simdjson::SUCCESS) return "no `hash_ids`";
  if (input == 0 || input > most_tokens || output > most_tokens) return "lengths are not those of a request";
  r.at = duration(static_cast<duration::rep>(stamp * 1e6));
  r.output_tokens = static_cast<std::uint32_t>(std::max<std::uint64_t>(output, 1));
  std::uint64_t left = input;
  for (const simdjson::dom::element e : ids) {
    std::uint64_t id = 0;
    if (e.get(id) != simdjson::SUCCESS) return "a hash id that is no number";
    if (left == 0) return "more `hash_ids` than 512-token blocks in `input_length`";
    const auto tokens = static_cast<std::uint32_t>(std::min<std::uint64_t>(left, mooncake_block));
    r.segments.push_back({mix(id, 0x6d6f6f6e), tokens, 4});
    left -= tokens;
  }
  if (left > 0) return "fewer `hash_ids` than 512-token blocks in `input_length`";
  return std::nullopt;
}

template <class T>
bool number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

// "2023-11-16 18:17:03.9799600" as seconds since some midnight; days are counted within one month.
std::optional<double> azure_time(std::string_view t) {
  int day = 0, hour = 0, minute = 0;
  double second = 0;
  if (t.size() < 19 || t[4] != '-' || t[10] != ' ' || t[13] != ':' || t[16] != ':') return std::nullopt;
  if (!number(t.substr(8, 2), day) || !number(t.substr(11, 2), hour) || !number(t.substr(14, 2), minute))
    return std::nullopt;
  std::string_view rest = t.substr(17);
  if (const std::size_t zone = rest.find_first_of("+Z"); zone != std::string_view::npos)
    rest = rest.substr(0, zone);
  if (!number(rest, second)) return std::nullopt;
  return ((day * 24 + hour) * 60 + minute) * 60 + second;
}

std::optional<std::string> fill_azure(std::string_view line, std::uint64_t row, double& first, request& r) {
  const std::size_t a = line.find(','), b = line.find(',', a == std::string_view::npos ? a : a + 1);
  if (a == std::string_view::npos || b == std::string_view::npos)
    return "not TIMESTAMP,ContextTokens,GeneratedTokens";
  const std::optional<double> at = azure_time(line.substr(0, a));
  std::uint64_t input = 0, output = 0;
  if (!at) return "a TIMESTAMP that is no time";
  if (!number(line.substr(a + 1, b - a - 1), input) || !number(line.substr(b + 1), output))
    return "token counts that are no numbers";
  if (input > most_tokens || output > most_tokens) return "token counts that are not those of a request";
  if (first < 0) first = *at;
  if (*at < first) return "a time before that of the first row";
  r.at = duration(static_cast<duration::rep>((*at - first) * 1e9));
  r.session = static_cast<std::uint32_t>(row);
  r.output_tokens = static_cast<std::uint32_t>(std::max<std::uint64_t>(output, 1));
  r.segments.push_back(
      {mix(row, 0x617a7572), static_cast<std::uint32_t>(std::max<std::uint64_t>(input, 1)), 4});
  return std::nullopt;
}

}  // namespace

std::variant<workload, read_error> read_mooncake(std::string_view text, std::string_view name) {
  workload w{std::string(name), mooncake_stamp, {}};
  simdjson::dom::parser parser;
  const auto wrong = each_line(text, [&](std::string_view line, std::size_t n) -> std::optional<read_error> {
    simdjson::dom::element row;
    if (parser.parse(line.data(), line.size()).get(row) != simdjson::SUCCESS || !row.is_object())
      return at_line(name, n, "not a JSON object; is this a Mooncake trace (JSON lines)?");
    request r;
    if (const auto what = fill(row, r)) return at_line(name, n, *what);
    w.requests.push_back(std::move(r));
    return std::nullopt;
  });
  if (wrong) return *wrong;
  if (w.requests.empty()) return read_error{fmt::format("{}: no request in it", name)};
  name_sessions(w);
  return w;
}

std::variant<workload, read_error> read_azure(std::string_view text, std::string_view name) {
  workload w{std::string(name), {}, {}};
  double first = -1;
  const auto wrong = each_line(text, [&](std::string_view line, std::size_t n) -> std::optional<read_error> {
    if (n == 1) return std::nullopt;
    request r;
    if (const auto what = fill_azure(line, w.requests.size(), first, r)) return at_line(name, n, *what);
    w.requests.push_back(std::move(r));
    return std::nullopt;
  });
  if (wrong) return *wrong;
  if (w.requests.empty()) return read_error{fmt::format("{}: no request in it", name)};
  return w;
}

std::variant<workload, read_error> read_trace(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    return read_error{fmt::format("{}: is a directory; name a file in it", path)};
  std::ifstream in(path, std::ios::binary);
  if (!in) return read_error{fmt::format("{}: cannot be read ({})", path, std::strerror(errno))};
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::string name = path.substr(path.find_last_of('/') + 1);
  constexpr std::string_view xz =
      "\xfd"
      "7zXZ";
  constexpr std::string_view gzip = "\x1f\x8b";
  if (text.starts_with(xz))
    return read_error{fmt::format("{}: is compressed; unpack it first: xz -dk {}", path, path)};
  if (text.starts_with(gzip))
    return read_error{fmt::format("{}: is compressed; unpack it first: gzip -dk {}", path, path)};
  if (text.starts_with("TIMESTAMP")) return read_azure(text, name);
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin != std::string::npos && text[begin] == '{') return read_mooncake(text, name);
  return read_error{
      fmt::format("{}: neither a Mooncake trace (JSON lines with hash_ids) nor an Azure one "
                  "(TIMESTAMP,ContextTokens,GeneratedTokens)",
                  path)};
}

}  // namespace penstock::lab
