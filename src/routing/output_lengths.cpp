#include "routing/output_lengths.hpp"

#include <algorithm>

namespace penstock::routing {
namespace {

constexpr float remembered = 64;  // answers
constexpr double most_tokens = 1e6, outlier = 10;

}  // namespace

void output_lengths::learn(std::uint64_t model, std::uint64_t completion_tokens) {
  entry& e = entries_[model % entries_.size()];
  if (e.model != model) {
    // The busier one stays until it was not heard of for as many answers as it is known by.
    if (e.answers >= 1) {
      e.answers -= 1;
      return;
    }
    e = {model, 0, 0};
  }
  double tokens = std::min(static_cast<double>(completion_tokens), most_tokens);
  if (e.answers >= 4) tokens = std::min(tokens, outlier * std::max(static_cast<double>(e.mean), 1.0));
  e.answers = std::min(e.answers + 1, remembered);
  e.mean += (static_cast<float>(tokens) - e.mean) / e.answers;
}

double output_lengths::expected(std::uint64_t model) const {
  const entry& e = entries_[model % entries_.size()];
  return e.model == model && e.answers > 0 ? static_cast<double>(e.mean) : 0;
}

}  // namespace penstock::routing
