// An engine's Prometheus text (vLLM, SGLang, TensorRT-LLM, Triton's trtllm backend, llama.cpp) read into
// the few figures that decisions use.
#pragma once

#include <string>
#include <vector>

#include "penstock/bytes.hpp"
#include "penstock/fleet_view.hpp"
#include "penstock/time.hpp"

namespace penstock::health {

// Which series of a page belong to an endpoint.
struct scrape_filter {
  // Value of the `engine` label (SGLang: `dp_rank`) of data-parallel rank series. "": every rank; counts,
  // blocks and counters are summed, KV use is the mean. Series without such a label always count.
  std::string engine_label;
};

// Most warnings one read appends.
inline constexpr std::size_t max_metrics_warnings = 16;

// Reads the exposition text 0.0.4 and OpenMetrics 1.0 syntax. One pass, linear in the text, memory does not
// grow with it. A figure with an absurd value in one of its series (NaN, Inf, negative, beyond what
// an engine can have) stays unknown and is told in `warnings` (appended), never half summed: a counter that
// seems to shrink would look like a restart. `scraped_at` is `now` when at least one known figure was read
// and the epoch otherwise: such a page is a failed scrape.
engine_state read_metrics(bytes_view text, const scrape_filter& filter, instant now,
                          std::vector<std::string>& warnings);

}  // namespace penstock::health
