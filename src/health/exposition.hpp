// The Prometheus exposition syntax, line by line: 0.0.4, OpenMetrics 1.0 and the quoted names of 1.0.0.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/bytes.hpp"

namespace penstock::health {

// A label as it stands in the text: `raw` still has its escapes.
struct label {
  std::string_view key;
  std::string_view raw;
};

// Without the escapes \\, \" and \n; an unknown escape stays as it is.
std::string unescape(std::string_view raw);

// One sample. The views point into the text.
struct sample {
  std::string_view name;
  std::vector<label> labels;  // the first max_labels
  double value = 0;           // NaN and infinities as written; NaN where the figure overflows

  // nullopt: no such label.
  std::optional<std::string> find(std::string_view key) const;
  bool has(std::string_view key, std::string_view value) const;
};

inline constexpr std::size_t max_labels = 256;

// Walks over the lines of a page. Comments and blank lines are passed over. Linear in the text; the only
// memory is the labels of one sample, reused.
class exposition_reader {
 public:
  explicit exposition_reader(bytes_view text) : rest_(text) {}

  // The name of the next line that is not a comment; empty at the end. Reads no further than the name, so
  // that lines of no interest cost one search for their end.
  std::string_view next_name();
  // The whole sample of the line next_name() stopped at; nullptr: its syntax is broken.
  const sample* read();

 private:
  bytes_view rest_;
  std::string_view name_, tail_;  // of the present line: its name and what follows it
  bool quoted_ = false;
  sample sample_;
};

}  // namespace penstock::health
