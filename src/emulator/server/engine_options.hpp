// What `penstock engine` can be told, and the reading of its command line.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "emulator/model/engine_model.hpp"
#include "emulator/server/fault.hpp"
#include "emulator/server/hand_off.hpp"

namespace penstock::emulator {

struct engine_options {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;          // 0: any free one
  std::vector<std::string> models;    // served names; the first is the base model's; empty: "emulated"
  std::vector<std::string> adapters;  // LoRA names
  std::string class_name = "demo";
  double speed = 1;             // 10: ten times faster than the class
  std::uint64_t kv_tokens = 0;  // 0: the class's
  std::uint32_t block_tokens = 16;
  std::uint32_t max_num_seqs = 256;
  std::uint32_t max_batched_tokens = 8192;
  std::uint32_t max_model_len = 0;  // 0: what KV memory holds, at most 131,072
  bool prefix_caching = true;
  bool prompt_tokens_details = true;           // vLLM's --enable-prompt-tokens-details
  std::uint64_t seed = 1;                      // ids and probabilities of faults
  std::chrono::milliseconds keep_alive{5000};  // idle connections are closed, as uvicorn does; 0: never
  std::uint32_t log_requests = 64;             // kept for /debug/requests
  std::vector<fault_rule> faults;
  hand_off_options hand_off;
};

// Model settings of these options; `error` is set when there is no such class.
engine_settings settings_of(const engine_options& options, std::string& error);

struct parsed_options {
  engine_options options;
  std::string error;  // a sentence, or empty
  bool help = false;
};
parsed_options parse_engine_options(std::span<const std::string> args);
std::string engine_help();

}  // namespace penstock::emulator
