// Chained block hashes over a stream of canonical bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "penstock/bytes.hpp"
#include "penstock/request_facts.hpp"

namespace penstock::tokenizer {

// Cuts a stream of bytes into blocks of a fixed size; each block's key is XXH3-64 of its bytes seeded with
// the key before. Pieces that hold whole blocks are hashed where they stand; only what crosses a block's
// border is copied. While a chain is open the `tokens` of its blocks hold just what extra_tokens() said.
class block_hasher {
 public:
  explicit block_hasher(std::uint32_t block_bytes);

  std::uint32_t block_bytes() const { return static_cast<std::uint32_t>(buffer_.size()); }

  // Starts a chain; `out` is owned by the caller and outlives finish().
  void begin(prefix_chain& out, std::uint64_t seed);
  void put(bytes_view piece);
  void put(char byte) {
    buffer_[filled_++] = byte;
    if (filled_ == buffer_.size()) put(bytes_view());
  }
  // Tokens that this place of the stream has beside those of its bytes: an image. They go to the block
  // that the next byte belongs to, so a block that counts them holds all that came before.
  void extra_tokens(std::uint64_t tokens);
  // Ends the chain; returns how many bytes came after the last whole block.
  std::uint32_t finish();

 private:
  void close_block(const char* bytes);

  std::vector<char> buffer_;
  std::size_t filled_ = 0;
  std::uint64_t key_ = 0;
  std::uint64_t extra_ = 0;
  prefix_chain* out_ = nullptr;
};

// What a seed becomes when `bytes` join it under a mark that tells kinds of bytes apart.
std::uint64_t mix_seed(std::uint64_t seed, std::uint8_t mark, bytes_view bytes);

}  // namespace penstock::tokenizer
