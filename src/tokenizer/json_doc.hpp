// One JSON object, checked as a whole and then walked in place, without a copy of anything.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "penstock/bytes.hpp"
#include "penstock/request_facts.hpp"

namespace penstock::tokenizer {

// What is wrong with a text and where: `what` completes "the body is not valid JSON: ...".
struct json_error {
  std::size_t offset = 0;
  std::string_view what;
};

// simdjson's first stage finds the tokens and checks UTF-8; the grammar, every scalar and every escape are
// checked here. Neither of simdjson's front ends serves: the DOM copies each string and refuses numbers
// beyond 64 bits, On-Demand does not validate what it skips, and its tokens do not give the exact end of an
// object. A value is named by the index of its first token. The memory is four bytes per byte of the
// largest body since the last trim(), and as much per token.
class json_doc {
 public:
  using index = std::uint32_t;
  static constexpr index root = 0;  // also "absent": no member's value is the root
  static constexpr std::size_t max_depth = 64;

  json_doc();
  ~json_doc();
  json_doc(const json_doc&) = delete;
  json_doc& operator=(const json_doc&) = delete;

  // Reads `body`, one object with at least 64 readable bytes behind it and below 4 GiB; it must outlive
  // every other call. The rest of the interface is valid only after this returned nothing.
  std::optional<json_error> open(bytes_view body);

  // Gives memory back when the last body was large.
  void trim();

  // First byte of a value: { [ " t f n - or a digit.
  char kind(index value) const { return text_[at_[value]]; }
  bool is_string(index value) const { return kind(value) == '"'; }
  bool is_object(index value) const { return kind(value) == '{'; }
  bool is_array(index value) const { return kind(value) == '['; }
  bool is_null(index value) const { return kind(value) == 'n'; }

  // Bytes of one token, without white space around it.
  bytes_view token(index i) const { return {text_ + at_[i], token_end(i) - at_[i]}; }
  // The inside of a string, still escaped.
  bytes_view raw(index string) const {
    return {text_ + at_[string] + 1, token_end(string) - at_[string] - 2};
  }
  // A string as it reads; into `scratch` when it has escapes. Valid until scratch changes.
  bytes_view plain(index string, std::string& scratch) const;
  // Where a value stands.
  value_range range(index value) const {
    return {at_[value], static_cast<std::uint32_t>(token_end(skip(value) - 1))};
  }
  std::uint32_t offset(index i) const { return at_[i]; }

  // The token after a value.
  index skip(index value) const {
    const char c = kind(value);
    return c == '{' || c == '[' ? past_[value] : value + 1;
  }

  // Calls visit(key, value) for every member in order.
  template <class Visit>
  void each_member(index object, Visit&& visit) const {
    for (index i = object + 1; kind(i) != '}';) {
      const index next = skip(i + 2);
      visit(i, i + 2);
      i = kind(next) == ',' ? next + 1 : next;
    }
  }
  template <class Visit>
  void each_element(index array, Visit&& visit) const {
    for (index i = array + 1; kind(i) != ']';) {
      const index next = skip(i);
      visit(i);
      i = kind(next) == ',' ? next + 1 : next;
    }
  }

  // The values of the named members, `root` where absent; of duplicates the last, as engines read it.
  template <std::size_t N>
  std::array<index, N> pick(index object, const std::array<std::string_view, N>& names) const {
    std::array<index, N> found{};
    std::string scratch;
    each_member(object, [&](index key, index value) {
      const bytes_view name = plain(key, scratch);
      for (std::size_t i = 0; i < N; ++i) {
        if (name == names[i]) found[i] = value;
      }
    });
    return found;
  }

  // Bytes by which the escapes of all strings are longer than what they say.
  std::uint64_t escape_overhead() const { return escape_overhead_; }

 private:
  struct memory;

  std::optional<json_error> find_tokens(bytes_view body);
  std::optional<json_error> check_grammar();
  const char* scalar_fault(index i, std::size_t& offset);
  std::size_t token_end(index i) const;

  std::unique_ptr<memory> memory_;
  const char* text_ = nullptr;
  const std::uint32_t* at_ = nullptr;  // offset of each token
  index* past_ = nullptr;              // of a token that opens an object or array: the one after its end
  std::uint32_t count_ = 0;            // tokens
  std::size_t size_ = 0;
  std::uint64_t escape_overhead_ = 0;
};

inline std::size_t json_doc::token_end(index i) const {
  std::size_t end = i + 1 < count_ ? at_[i + 1] : size_;
  while (true) {
    const char c = text_[end - 1];
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return end;
    --end;
  }
}

}  // namespace penstock::tokenizer
