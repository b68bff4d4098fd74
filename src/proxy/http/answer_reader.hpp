// Reads usage and the response id out of a JSON answer (not streamed) while it passes.
#pragma once

#include <cstdint>
#include <string>

#include "penstock/account_record.hpp"
#include "penstock/api.hpp"
#include "penstock/bytes.hpp"

namespace penstock::http {

// One per answer. Looks at bytes in any pieces, keeps at most 4 KiB, never fails: an answer that it
// cannot read has no usage. Only members of the outermost object count, so nothing that a prompt or a
// tool schema quotes is taken for usage.
class answer_reader {
 public:
  explicit answer_reader(api_kind api);
  void feed(bytes_view in);
  void finish();  // the body ended
  const token_usage& usage() const { return usage_; }
  const std::string& response_id() const { return response_id_; }

  // Where the last fed bytes have the usage's value and what is before it: from the closing quote of its name
  // (npos: not here) to `end` (npos: it goes on).
  struct usage_place {
    std::size_t begin = bytes_view::npos, end = bytes_view::npos;
  };
  usage_place usage_in_last() const { return place_; }

 private:
  enum class wanted : std::uint8_t { nothing, usage, id };

  std::size_t skip_nested(bytes_view in, std::size_t at);
  std::size_t inside_string(bytes_view in, std::size_t at);
  std::size_t outside_string(bytes_view in, std::size_t at);
  std::size_t whole_members(bytes_view in, std::size_t at);
  wanted meaning(bytes_view key) const;
  void take_value(wanted what, bytes_view value);
  void string_begins();
  void string_ended();
  void value_ended();
  void structural(char c);
  void keep(bytes_view bytes);

  token_usage usage_;
  std::string response_id_;
  std::string kept_;  // the key being read, or the wanted value so far
  usage_place place_;
  std::size_t at_ = 0;       // the byte that is looked at
  std::uint32_t depth_ = 0;  // of objects and arrays
  api_kind api_;
  wanted value_ = wanted::nothing;  // what the current member of the outermost object is
  bool in_string_ = false, escaped_ = false;
  bool key_next_ = false;  // the next string at depth 1 is a key
  bool reading_key_ = false;
  bool overflow_ = false;  // kept_ would have grown too long
  bool done_ = false;      // the outermost value ended, or is no object
};

}  // namespace penstock::http
