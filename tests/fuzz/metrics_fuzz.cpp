// What engines answer to scrapes: any bytes must give figures within bounds, and never more than the text
// holds.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "health/metrics_text.hpp"
#include "health/models_text.hpp"

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

bool unknown_or(double value, double most) { return value == -1 || (value >= 0 && value <= most); }

void check_figures(const penstock::engine_state& s) {
  require(!std::isnan(s.running) && !std::isnan(s.waiting) && !std::isnan(s.kv_use));
  require(s.running >= -1 && s.waiting >= -1 && unknown_or(s.kv_use, 1));
  require(s.block_tokens <= 65536 && s.start_time_s >= 0 && std::isfinite(s.start_time_s));
  require(std::isfinite(s.prefix_hits) && std::isfinite(s.prefix_queries));
  require(s.prefix_hits >= -1 && s.prefix_queries >= -1);
  require(s.running_loras.size() <= 1024 && s.waiting_loras.size() <= 1024);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace penstock;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const char* label : {"", "0"}) {
    std::vector<std::string> warnings;
    check_figures(health::read_metrics(text, {label}, instant{} + std::chrono::seconds(1), warnings));
    require(warnings.size() <= health::max_metrics_warnings);
  }
  if (const auto models = health::read_models(text)) {
    require(models->size() <= health::max_models);
    for (const auto& m : *models) require(!m.id.empty() && m.id.size() <= health::max_model_id_bytes);
  }
  return 0;
}
