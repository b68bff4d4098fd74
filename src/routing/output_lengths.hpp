// How long answers of a model are, from those it gave.
#pragma once

#include <array>
#include <cstdint>

namespace penstock::routing {

// Decayed means of 256 models; a model that shares a place with a busier one is forgotten. One per worker.
class output_lengths {
 public:
  // `model` is a hash. An answer may not count for more than 10 times the mean before it: one endless answer
  // is no fashion.
  void learn(std::uint64_t model, std::uint64_t completion_tokens);
  // Tokens; 0 when nothing is known.
  double expected(std::uint64_t model) const;

 private:
  struct entry {
    std::uint64_t model = 0;
    float mean = 0, answers = 0;
  };
  std::array<entry, 256> entries_;
};

}  // namespace penstock::routing
