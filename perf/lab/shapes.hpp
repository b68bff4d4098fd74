// Generated traffic: the shapes that published comparisons use, and those on which they fail.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "emulator/model/engine_model.hpp"
#include "workload.hpp"

namespace penstock::lab {

// How much of it.
struct shape_size {
  std::uint32_t requests = 4000;  // about
  std::uint64_t seed = 1;
};

struct shape {
  std::string_view name;
  workload (*make)(const shape_size& size);
  std::string_view text;
};

std::span<const shape> shapes();
const shape* find_shape(std::string_view name);

// Seconds of one engine's time that the workload is worth when every prompt's known part is cached and
// batches are as large as memory allows (at most `max_num_seqs`).
double ideal_work(const workload& w, const emulator::engine_settings& engine);

// Stretches or compresses arrivals so that the ideal work is `load` of the engines' time. Think times
// stay; so with followers the load is what it would be without waiting.
void scale_to_load(workload& w, std::span<const emulator::engine_settings> engines, double load);

}  // namespace penstock::lab
