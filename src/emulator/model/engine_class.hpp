// Named engines: a model on an accelerator, as measured step times and KV capacity.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace penstock::emulator {

// One iteration takes fixed_us + prefill_us x uncached prompt tokens + decode_us x decode sequences
// (the BLIS form; all in microseconds). kv_tokens is the KV capacity in tokens, kv_bytes what one token of it
// takes: 2 x layers x KV heads x head dimension x 2 bytes, from the model's published configuration.
struct engine_class {
  std::string_view name;
  double fixed_us = 0;
  double prefill_us = 0;
  double decode_us = 0;
  std::uint64_t kv_tokens = 0;
  std::uint32_t kv_bytes = 131072;
  std::string_view source;
};

std::span<const engine_class> engine_classes();

// Null when nobody has that name.
const engine_class* find_engine_class(std::string_view name);

// A sentence for the user: what was asked for, the nearest name, and all names.
std::string unknown_class_message(std::string_view name);

}  // namespace penstock::emulator
