// Prebuilt bytes of the benchmark's engine, in the shape recorded from vLLM 0.32.0.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::perf {

// Chunk-framed events.
struct stream_bytes {
  std::string head_and_role;
  std::array<std::string, 16> content;
  std::string finish;
  std::string usage;
  std::string done;
  std::string last_chunk;
};

stream_bytes build_stream();
std::string build_completion();  // a whole answer to a request that is not streamed, about 1 KB of JSON
// A prefill engine's whole answer, with the parameters of a hand-off by NIXL that names so many blocks.
std::string build_prefill(std::uint32_t blocks);
// The answer to a GET: /health, /metrics, /v1/models, /version; else 404.
std::string build_get(std::string_view path);

}  // namespace penstock::perf
