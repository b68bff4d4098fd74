// Traces of real traffic as workloads.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "workload.hpp"

namespace penstock::lab {

// A sentence for the user: what is wrong, where, and what to do.
struct read_error {
  std::string message;
};

// Mooncake's format: one JSON object a line with timestamp (ms), input_length, output_length and hash_ids,
// each of which stands for 512 tokens and everything before them. A request belongs to the session of the
// first of its blocks that less than 2 % of the requests share. Times there are rounded down to 3 s.
std::variant<workload, read_error> read_mooncake(std::string_view text, std::string_view name);

// Azure's: a header, then TIMESTAMP,ContextTokens,GeneratedTokens. It tells nothing of contents, so no two
// prompts have anything in common.
std::variant<workload, read_error> read_azure(std::string_view text, std::string_view name);

// Reads a file; its first bytes tell the format.
std::variant<workload, read_error> read_trace(const std::string& path);

}  // namespace penstock::lab
