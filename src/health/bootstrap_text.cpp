#include "health/bootstrap_text.hpp"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace penstock::health {
namespace {

namespace dom = simdjson::dom;

bool usable(std::string_view id) {
  return !id.empty() && id.size() <= max_rank_id_bytes && std::all_of(id.begin(), id.end(), [](char c) {
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
  });
}

}  // namespace

std::optional<std::vector<std::string>> read_bootstrap(bytes_view json) {
  if (json.size() > max_bootstrap_text_bytes) return std::nullopt;
  const simdjson::padded_string padded(json);
  dom::parser parser;
  dom::object ranks;
  if (parser.parse(padded).get(ranks) != simdjson::SUCCESS) return std::nullopt;
  std::vector<std::string> out;
  for (const auto [key, value] : ranks) {
    std::size_t rank = 0;
    const auto [end, ec] = std::from_chars(key.data(), key.data() + key.size(), rank);
    std::string_view id;
    if (ec != std::errc{} || end != key.data() + key.size() || rank >= max_ranks) continue;
    if (value["engine_id"].get(id) != simdjson::SUCCESS || !usable(id)) continue;
    if (rank >= out.size()) out.resize(rank + 1);
    out[rank] = id;
  }
  if (out.empty()) return std::nullopt;
  return out;
}

}  // namespace penstock::health
