// Canonical prompt bytes on their way into block chains, with what is counted of them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string_view>
#include <vector>

#include "penstock/bytes.hpp"
#include "penstock/request_facts.hpp"
#include "tokenizer/block_hasher.hpp"
#include "tokenizer/json_doc.hpp"
#include "tokenizer/token_estimator.hpp"

namespace penstock::tokenizer {

// Marks between the parts of canonical bytes. Control characters never occur inside raw JSON strings nor
// in JSON without its white space, so different structures cannot give the same bytes.
enum class frame : char {
  document = 1,
  tool,
  message,
  name,
  call_id,
  reasoning,
  part,
  media,
  call,
  arguments,
  result,
  argument,  // of the template, after the messages
};

enum class media_kind : std::uint8_t { image, audio, video };

// Chains of one request beyond these are counted in the request's tokens and have no blocks of their own:
// 32 bytes of facts for two bytes of body (`1,`) would let a small body take much memory.
inline constexpr std::size_t max_chains = 1024;

// Writes prompts of one request into its facts. With no prompt open it only counts.
class prompt_writer {
 public:
  // `figures` are of the request's model, and outlive this.
  prompt_writer(const json_doc& doc, block_hasher& hasher, request_facts& facts,
                const token_estimator::figures& figures)
      : doc_(doc), hasher_(hasher), facts_(facts), figures_(figures) {}

  void begin_prompt(std::uint64_t seed);
  void end_prompt();

  void mark(frame f);
  // Text of the prompt, raw JSON string bytes.
  void text(bytes_view raw);
  // Bytes that tell prompts apart but are no text of them.
  void identity(bytes_view bytes);
  // A token of a prompt given as token ids.
  void token_id(bytes_view number);
  // A picture or sound, told apart by `identity` (see media_identity in prompt_parts).
  void media(media_kind kind, bytes_view identity);

  // A value as it stands, without the white space between its tokens: the order of its keys is the
  // client's, since engines render it so. Of an object the named members can be left out.
  void minified(json_doc::index value);
  void minified_without(json_doc::index value, std::initializer_list<std::string_view> members);

  // Text in any JSON value: its strings that are no keys; numbers count as token ids, data: URLs as images.
  void count_all(json_doc::index value);

  // Bytes of text and token ids so far, for those that count a thing several times.
  std::uint64_t text_bytes() const { return text_bytes_; }
  std::uint64_t ids() const { return ids_; }
  void add_text_bytes(std::uint64_t bytes) { text_bytes_ += bytes; }

  // Sums up: prompt_bytes, prompt_tokens, exact_tokens, tokens per block. `overhead` bytes of all text are
  // escapes' (json_doc::escape_overhead).
  void finish(std::uint64_t overhead);

 private:
  void hash(bytes_view bytes);
  void share_tokens(double tokens_per_byte);

  const json_doc& doc_;
  block_hasher& hasher_;
  request_facts& facts_;
  const token_estimator::figures& figures_;
  bool open_ = false;
  std::uint64_t text_bytes_ = 0;    // raw, all prompts
  std::uint64_t hashed_bytes_ = 0;  // into chains
  std::uint64_t chained_text_ = 0;  // text in chains
  std::uint64_t ids_ = 0;
  std::vector<std::uint32_t> tails_;  // bytes after the last block, per chain
};

}  // namespace penstock::tokenizer
