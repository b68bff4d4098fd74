#include "emulator/model/engine_class.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace penstock::emulator {
namespace {

// Fits published by the BLIS authors for vLLM 0.8.4 (gpt-oss: 0.10.1.1) in inference-sim/inference-sim,
// defaults.yaml at 1a6eb353, Apache-2.0; KV capacity there is in blocks of 16 tokens. Neighbouring rows
// are independent fits: a tp4 row may be slower per token than its tp8 row by more than hardware explains.
constexpr std::string_view blis = "inference-sim/inference-sim defaults.yaml @1a6eb353";
// The same form fitted by relative least squares to Splitwise's measurements of prompts up to 8,192 tokens
// and batches up to 64 (medians; off by 11 to 13 % in the mean, by 34 % at most). KV is what 0.9 of the
// memory leaves beside 138 GB of weights.
constexpr std::string_view splitwise = "fit to Mutinifni/splitwise-sim data/perf_model.csv @8f99e7dc, MIT";
constexpr std::string_view own = "made up";
// Layers x KV heads x head dimension: 32 x 8 x 128, 80 x 8 x 128, 48 x 8 x 128, 36 x 8 x 64.
constexpr std::uint32_t llama_8b = 131072, llama_70b = 327680, codellama_34b = 196608, gpt_oss = 73728;

constexpr engine_class table[] = {
    {"llama-3.1-8b-instruct/A100-80/tp1", 16441.5, 47.84, 18.21, 29205ULL * 16, llama_8b, blis},
    {"llama-3.1-8b-instruct/A100-80/tp2", 8001.6, 26.36, 14.97, 132139ULL * 16, llama_8b, blis},
    {"llama-3.1-8b-instruct/A100-80/tp4", 497.7, 30.02, 8.94, 559190ULL * 16, llama_8b, blis},
    {"llama-3.1-8b-instruct/H100/tp1", 5752.7, 17.25, 6.00, 29205ULL * 16, llama_8b, blis},
    {"llama-3.1-8b-instruct/H100/tp2", 6910.4, 17.67, 2.84, 132139ULL * 16, llama_8b, blis},
    {"llama-3.1-8b-instruct/H100/tp4", 41.8, 11.86, 5.91, 559190ULL * 16, llama_8b, blis},
    {"llama-3.3-70b-instruct/H100/tp4", 12601.3, 76.42, 66.84, 128273ULL * 16, llama_70b, blis},
    {"llama-3.3-70b-instruct/H100/tp8", 14140.8, 10.03, 19.40, 728405ULL * 16, llama_70b, blis},
    {"codellama-34b-instruct/H100/tp1", 26595.3, 96.28, 56.59, 2537ULL * 16, codellama_34b, blis},
    {"gpt-oss-120b/H100/tp1", 1063.1, 82.92, 23.67, 32414ULL * 16, gpt_oss, blis},
    {"gpt-oss-120b/H100/tp2", 2118.6, 41.93, 23.08, 558277ULL * 16, gpt_oss, blis},
    {"gpt-oss-120b/H100/tp4", 5604.3, 21.07, 7.36, 3090344ULL * 16, gpt_oss, blis},
    {"llama-2-70b/H100/tp4", 28436.4, 87.60, 333.56, 32768ULL * 16, llama_70b, splitwise},
    {"llama-2-70b/A100-80/tp4", 40769.6, 205.12, 470.70, 32768ULL * 16, llama_70b, splitwise},
    {"demo", 20000, 100, 50, 65536, llama_8b, own},       // readable streams; a cache hit is felt
    {"instant", 20, 0.01, 0.01, 1048576, llama_8b, own},  // tests that do not care about time
};

// How far `typed` is from a name: what was left out ("-instruct") is likelier than what was typed wrongly.
std::size_t edit_distance(std::string_view name, std::string_view typed) {
  constexpr std::size_t missing = 1, wrong = 4;
  std::vector<std::size_t> row(typed.size() + 1);
  for (std::size_t j = 0; j <= typed.size(); ++j) row[j] = j * wrong;
  for (std::size_t i = 0; i < name.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = (i + 1) * missing;
    for (std::size_t j = 0; j < typed.size(); ++j) {
      const std::size_t change = diagonal + (name[i] == typed[j] ? 0 : wrong);
      diagonal = row[j + 1];
      row[j + 1] = std::min({change, row[j] + wrong, row[j + 1] + missing});
    }
  }
  return row.back();
}

}  // namespace

std::span<const engine_class> engine_classes() { return table; }

const engine_class* find_engine_class(std::string_view name) {
  const auto found =
      std::find_if(std::begin(table), std::end(table), [&](auto& c) { return c.name == name; });
  return found == std::end(table) ? nullptr : found;
}

std::string unknown_class_message(std::string_view name) {
  const auto nearest = std::min_element(std::begin(table), std::end(table), [&](auto& a, auto& b) {
    return edit_distance(a.name, name) < edit_distance(b.name, name);
  });
  std::string text =
      fmt::format("unknown engine class \"{}\"; did you mean \"{}\"? Known classes:", name, nearest->name);
  for (const engine_class& c : table) text += fmt::format(" {}", c.name);
  return text;
}

}  // namespace penstock::emulator
