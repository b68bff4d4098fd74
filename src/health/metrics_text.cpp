#include "health/metrics_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>

#include "health/exposition.hpp"

namespace penstock::health {
namespace {

enum class figure : std::uint8_t {
  running,
  waiting,
  without_room,  // of those that wait
  kv_use,
  block_tokens,
  kv_blocks,
  kv_tokens,
  host_blocks,  // of the host tier
  host_tokens,
  hits,        // prompt tokens from the cache
  queries,     // prompt tokens looked up
  missed,      // prompt tokens computed: queries less hits
  hit_blocks,  // the same two in blocks
  missed_blocks,
  handoffs_late,  // blocks read after their lease
  handoffs_expired,
  start_time,
  count,
};

enum class aggregate : std::uint8_t { sum, mean, first };

// What a figure of a real engine can be, and how the series of several ranks become one. Capacity of 0
// means that the engine has not measured it yet.
struct bounds {
  double least, most;
  aggregate by;
};
constexpr bounds bounds_of(figure f) {
  switch (f) {
    case figure::running:
    case figure::waiting:
    case figure::without_room: return {0, 1e7, aggregate::sum};
    case figure::kv_use: return {0, 1.05, aggregate::mean};  // a little above 1 is rounding
    case figure::block_tokens: return {0, 65536, aggregate::first};
    case figure::kv_blocks: return {0, 1e10, aggregate::sum};
    case figure::kv_tokens: return {0, 1e12, aggregate::sum};
    // Tensor-parallel ranks each tell of the same tier.
    case figure::host_blocks: return {0, 1e10, aggregate::first};
    case figure::host_tokens: return {0, 1e12, aggregate::first};
    case figure::hits:
    case figure::queries:
    case figure::missed:
    case figure::hit_blocks:
    case figure::missed_blocks:
    case figure::handoffs_late:
    case figure::handoffs_expired: return {0, 1e18, aggregate::sum};
    case figure::start_time: return {0, 1e11, aggregate::first};
    case figure::count: break;
  }
  return {0, 0, aggregate::first};
}

struct source {
  std::string_view metric;
  figure what;
  std::string_view where_key = {}, where_value = {};  // only series with this label
  std::string_view from = {};                         // the figure is this label, not the value
};

// Names of the engines' metrics; of several sources for a figure the first that has one is taken.
// vLLM 0.32.0 and llama.cpp b11434 as recorded; SGLang, TensorRT-LLM and Triton as the Kubernetes
// inference gateway scrapes them. gpu_* are vLLM's names before 0.10.
constexpr std::array sources = {
    source{"vllm:num_requests_running", figure::running},
    source{"vllm:num_requests_waiting", figure::waiting},
    source{"vllm:num_requests_waiting_by_reason", figure::without_room, "reason", "capacity"},
    source{"vllm:kv_cache_usage_perc", figure::kv_use},
    source{"vllm:gpu_cache_usage_perc", figure::kv_use},
    source{"vllm:cache_config_info", figure::block_tokens, {}, {}, "block_size"},
    source{"vllm:cache_config_info", figure::kv_blocks, {}, {}, "num_gpu_blocks"},
    source{"vllm:cache_config_info", figure::kv_tokens, {}, {}, "kv_cache_size_tokens"},
    source{"vllm:cache_config_info", figure::host_blocks, {}, {}, "num_cpu_blocks"},
    source{"vllm:prefix_cache_hits_total", figure::hits},
    source{"vllm:prefix_cache_queries_total", figure::queries},
    source{"vllm:nixl_num_notifications_after_expiry_total", figure::handoffs_late},
    source{"vllm:nixl_num_kv_expired_reqs_total", figure::handoffs_expired},
    source{"vllm:gpu_prefix_cache_hits_total", figure::hits},
    source{"vllm:gpu_prefix_cache_queries_total", figure::queries},
    source{"sglang:num_running_reqs", figure::running},
    source{"sglang:num_queue_reqs", figure::waiting},
    source{"sglang:token_usage", figure::kv_use},
    source{"sglang:page_size", figure::block_tokens},
    source{"sglang:num_pages", figure::kv_blocks},
    source{"sglang:max_total_num_tokens", figure::kv_tokens},
    source{"sglang:hicache_host_total_tokens", figure::host_tokens},
    source{"sglang:cache_config_info", figure::block_tokens, {}, {}, "page_size"},
    source{"sglang:cache_config_info", figure::kv_blocks, {}, {}, "num_pages"},
    source{"sglang:cached_tokens_total", figure::hits},
    source{"sglang:prompt_tokens_total", figure::queries},
    source{"trtllm_num_requests_running", figure::running},
    source{"trtllm_num_requests_waiting", figure::waiting},
    source{"trtllm_kv_cache_utilization", figure::kv_use},
    source{"trtllm_kv_cache_tokens_per_block", figure::block_tokens},
    source{"trtllm_kv_cache_max_blocks", figure::kv_blocks},
    source{"trtllm_kv_cache_reused_blocks_total", figure::hit_blocks},
    source{"trtllm_kv_cache_missed_blocks_total", figure::missed_blocks},
    source{"nv_trt_llm_request_metrics", figure::running, "request_type", "scheduled"},
    source{"nv_trt_llm_request_metrics", figure::waiting, "request_type", "waiting"},
    source{"nv_trt_llm_kv_cache_block_metrics", figure::kv_use, "kv_cache_block_type", "fraction"},
    source{"nv_trt_llm_kv_cache_block_metrics", figure::block_tokens, "kv_cache_block_type", "tokens_per"},
    source{"nv_trt_llm_kv_cache_block_metrics", figure::kv_blocks, "kv_cache_block_type", "max"},
    source{"llamacpp:requests_processing", figure::running},
    source{"llamacpp:requests_deferred", figure::waiting},
    source{"llamacpp:kv_cache_usage_ratio", figure::kv_use},
    source{"llamacpp:prompt_tokens_cached_total", figure::hits},
    source{"llamacpp:prompt_tokens_total", figure::missed},
    source{"process_start_time_seconds", figure::start_time},
};

constexpr std::string_view lora_metric = "vllm:lora_requests_info";
constexpr std::string_view sglang_colon = "sglang:", sglang_underscore = "sglang_";
constexpr std::size_t max_listed_loras = 1024, max_lora_name = 256;

// One metric under both of SGLang's spellings; the second is what proxies between make of the first.
bool same_metric(std::string_view known, std::string_view seen) {
  if (known.size() != seen.size()) return false;
  if (known == seen) return true;
  return known.starts_with(sglang_colon) && seen.starts_with(sglang_underscore) &&
         known.substr(sglang_colon.size()) == seen.substr(sglang_underscore.size());
}

// Pages have hundreds of lines and some ten of them matter: most names are told apart by their length.
constexpr auto known_lengths = [] {
  std::array<bool, 64> known{};
  for (const auto& s : sources) known[s.metric.size()] = true;
  return known;
}();

bool is_known(std::string_view name) {
  if (name.size() >= known_lengths.size() || !known_lengths[name.size()]) return false;
  return std::any_of(sources.begin(), sources.end(),
                     [&](const source& s) { return same_metric(s.metric, name); });
}

std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string> comma_list(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size() && out.size() < max_listed_loras;) {
    const auto end = std::min(text.find(',', at), text.size());
    if (end > at && end - at <= max_lora_name) out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

// What one source gave so far.
struct tally {
  double value = 0;
  std::uint32_t series = 0;
  bool absurd = false;

  void add(double v, aggregate by) {
    if (series++ == 0) {
      value = v;
    } else if (by != aggregate::first) {
      value += v;
    }
  }
};

class page_reader {
 public:
  page_reader(const scrape_filter& filter, std::vector<std::string>& warnings)
      : filter_(filter), warnings_(warnings), most_warnings_(warnings.size() + max_metrics_warnings) {}

  void read(bytes_view text);
  engine_state result(instant now);

 private:
  bool ours(const sample& s) const;
  void take(std::string_view name, const sample* s);
  void take(std::size_t index, const sample& s);
  void take_loras(const sample* s);
  std::optional<double> get(figure f) const;
  void fill_cache_counters(engine_state& state) const;
  template <class... T>
  void warn(fmt::format_string<T...> format, T&&... args) {
    if (warnings_.size() < most_warnings_) warnings_.push_back(fmt::format(format, std::forward<T>(args)...));
  }

  const scrape_filter& filter_;
  std::vector<std::string>& warnings_;
  std::size_t most_warnings_;
  std::array<tally, sources.size()> tallies_{};
  bool others_ = false;  // series of other ranks were left out
  double lora_time_ = -1;
  engine_state loras_;
};

// SGLang has a series a tensor-parallel rank when all its schedulers report, and further ones a priority:
// the same requests once more. With data-parallel attention `tp_rank` tells the data-parallel ranks apart.
bool counts_again(const sample& s) {
  if (!s.name.starts_with("sglang")) return false;
  const auto above_zero = [&](std::string_view key) {
    const auto value = s.find(key);
    return value && !value->empty() && *value != "0";
  };
  const auto priority = s.find("priority");
  if (priority && !priority->empty()) return true;
  const auto rank = s.find("dp_rank");
  return above_zero("pp_rank") || ((!rank || rank->empty()) && above_zero("tp_rank"));
}

bool page_reader::ours(const sample& s) const {
  if (filter_.engine_label.empty()) return true;
  const auto engine = s.find(s.name.starts_with("sglang") && !s.find("engine") ? "dp_rank" : "engine");
  return !engine || *engine == filter_.engine_label;
}

void page_reader::read(bytes_view text) {
  exposition_reader lines(text);
  for (auto name = lines.next_name(); !name.empty(); name = lines.next_name()) {
    if (name == lora_metric) {
      take_loras(lines.read());
      continue;
    }
    if (is_known(name)) take(name, lines.read());
  }
}

void page_reader::take(std::string_view name, const sample* s) {
  if (s && !ours(*s)) {
    others_ = true;
    return;
  }
  if (s && counts_again(*s)) return;
  bool told = false;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (!same_metric(sources[i].metric, name)) continue;
    if (s) {
      take(i, *s);
      continue;
    }
    if (!told) warn("{}: broken line", sources[i].metric);
    told = tallies_[i].absurd = true;
  }
}

void page_reader::take(std::size_t index, const sample& s) {
  const auto& from = sources[index];
  auto& tally = tallies_[index];
  if (!from.where_key.empty() && !s.has(from.where_key, from.where_value)) return;
  double value = s.value;
  if (!from.from.empty()) {
    const auto text = s.find(from.from);
    if (!text || text->empty() || *text == "None") return;
    value = number_of(*text).value_or(std::nan(""));
  }
  const auto limits = bounds_of(from.what);
  if (!(value >= limits.least && value <= limits.most)) {
    tally.absurd = true;
    const std::string_view dot = from.from.empty() ? "" : ".";
    warn("{}{}{}: absurd value {}", from.metric, dot, from.from, value);
    return;
  }
  tally.add(value, limits.by);
}

// The value is the time of the last change; a former set of adapters stays as a series of its own.
void page_reader::take_loras(const sample* s) {
  if (!s || !std::isfinite(s->value) || s->value < 0) return warn("{}: absurd or broken line", lora_metric);
  if (!ours(*s) || s->value < lora_time_) return;
  lora_time_ = s->value;
  loras_.running_loras = comma_list(s->find("running_lora_adapters").value_or(""));
  loras_.waiting_loras = comma_list(s->find("waiting_lora_adapters").value_or(""));
  const auto most = number_of(s->find("max_lora").value_or("")).value_or(0);
  loras_.max_loras = most >= 0 && most <= 1e6 ? static_cast<std::uint32_t>(most) : 0;
}

std::optional<double> page_reader::get(figure f) const {
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const auto& t = tallies_[i];
    if (sources[i].what != f || t.series == 0 || t.absurd) continue;
    return bounds_of(f).by == aggregate::mean ? t.value / t.series : t.value;
  }
  return std::nullopt;
}

void page_reader::fill_cache_counters(engine_state& state) const {
  const auto hits = get(figure::hits), queries = get(figure::queries), missed = get(figure::missed);
  const auto hit_blocks = get(figure::hit_blocks), missed_blocks = get(figure::missed_blocks);
  if (hits) state.prefix_hits = *hits;
  if (queries) {
    state.prefix_queries = *queries;
  } else if (hits && missed) {
    state.prefix_queries = *hits + *missed;
  } else if (hit_blocks && missed_blocks && state.block_tokens > 0) {
    state.prefix_hits = *hit_blocks * state.block_tokens;
    state.prefix_queries = (*hit_blocks + *missed_blocks) * state.block_tokens;
  }
}

engine_state page_reader::result(instant now) {
  engine_state state = std::move(loras_);
  state.running = get(figure::running).value_or(-1);
  state.waiting = get(figure::waiting).value_or(-1);
  state.without_room = get(figure::without_room).value_or(-1);
  state.handoffs_late = get(figure::handoffs_late).value_or(-1);
  state.handoffs_expired = get(figure::handoffs_expired).value_or(-1);
  state.kv_use = std::min(get(figure::kv_use).value_or(-1), 1.0);
  state.block_tokens = static_cast<std::uint32_t>(get(figure::block_tokens).value_or(0));
  // The sum over many ranks may leave the bounds of one.
  const auto blocks = get(figure::kv_blocks).value_or(0), tokens = get(figure::kv_tokens).value_or(0);
  if (blocks <= bounds_of(figure::kv_blocks).most) state.kv_blocks = static_cast<std::uint64_t>(blocks);
  if (tokens <= bounds_of(figure::kv_tokens).most) state.kv_tokens = static_cast<std::uint64_t>(tokens);
  if (state.kv_tokens == 0) state.kv_tokens = state.kv_blocks * state.block_tokens;
  const auto host_blocks = get(figure::host_blocks).value_or(0);
  state.host_kv_tokens = static_cast<std::uint64_t>(get(figure::host_tokens).value_or(0));
  if (state.host_kv_tokens == 0)
    state.host_kv_tokens = static_cast<std::uint64_t>(host_blocks) * state.block_tokens;
  fill_cache_counters(state);
  state.start_time_s = get(figure::start_time).value_or(0);
  const bool known = state.running >= 0 || state.waiting >= 0 || state.kv_use >= 0 ||
                     state.block_tokens > 0 || state.kv_blocks > 0 || state.kv_tokens > 0 ||
                     state.prefix_queries >= 0;
  const bool absurd = std::any_of(tallies_.begin(), tallies_.end(), [](const tally& t) { return t.absurd; });
  if (known) {
    state.scraped_at = now;
  } else if (others_) {
    warn("no series with engine label \"{}\"", filter_.engine_label);
  } else if (!absurd) {
    warn("no metric of a known engine");
  }
  return state;
}

}  // namespace

engine_state read_metrics(bytes_view text, const scrape_filter& filter, instant now,
                          std::vector<std::string>& warnings) {
  page_reader page(filter, warnings);
  page.read(text);
  return page.result(now);
}

}  // namespace penstock::health
