// Ways to cut a byte stream: whole, byte by byte, at every single cut, at every pair of cuts.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace penstock::http::test {

using pieces = std::vector<std::string_view>;

// Calls check(pieces) for the whole text, for single bytes and for every cut in two.
template <class Check>
void each_cut(std::string_view text, Check check) {
  check(pieces{text});
  pieces bytes;
  for (std::size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
  check(bytes);
  for (std::size_t i = 1; i < text.size(); ++i) check(pieces{text.substr(0, i), text.substr(i)});
}

// Calls check(pieces) for every cut in three, each `step`-th byte.
template <class Check>
void each_pair_of_cuts(std::string_view text, std::size_t step, Check check) {
  for (std::size_t i = 1; i < text.size(); i += step) {
    for (std::size_t j = i + 1; j < text.size(); j += step) {
      check(pieces{text.substr(0, i), text.substr(i, j - i), text.substr(j)});
    }
  }
}

}  // namespace penstock::http::test
