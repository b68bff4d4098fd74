#include "tokenizer/prompt_writer.hpp"

#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace penstock::tokenizer {
namespace {

// \uXXXX of an ASCII letter: no escape is longer than six times what it says.
constexpr std::uint64_t longest_escape = 6;

std::uint32_t to_u32(std::uint64_t value) {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(value, std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace

void prompt_writer::begin_prompt(std::uint64_t seed) {
  if (facts_.prompts.size() >= max_chains) return;
  hasher_.begin(facts_.prompts.emplace_back(), seed);
  open_ = true;
}

void prompt_writer::end_prompt() {
  if (!open_) return;
  tails_.push_back(hasher_.finish());
  open_ = false;
}

void prompt_writer::hash(bytes_view bytes) {
  if (!open_) return;
  hasher_.put(bytes);
  hashed_bytes_ += bytes.size();
}

void prompt_writer::mark(frame f) {
  ++text_bytes_;
  if (!open_) return;
  ++chained_text_;
  ++hashed_bytes_;
  hasher_.put(static_cast<char>(f));
}

void prompt_writer::text(bytes_view raw) {
  text_bytes_ += raw.size();
  if (open_) chained_text_ += raw.size();
  hash(raw);
}

void prompt_writer::identity(bytes_view bytes) { hash(bytes); }

void prompt_writer::token_id(bytes_view number) {
  std::uint32_t id = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), id);
  if (error != std::errc{} || end != number.data() + number.size()) {
    // No engine has such a token; equal nonsense still gives equal blocks.
    id = static_cast<std::uint32_t>(XXH3_64bits(number.data(), number.size()));
  }
  const char bytes[4] = {static_cast<char>(id), static_cast<char>(id >> 8), static_cast<char>(id >> 16),
                         static_cast<char>(id >> 24)};
  ++ids_;
  hash({bytes, 4});
}

void prompt_writer::media(media_kind kind, bytes_view id) {
  mark(frame::media);
  const char byte = static_cast<char>('0' + static_cast<int>(kind));
  identity({&byte, 1});
  identity(id);
  std::uint64_t tokens = 0;
  switch (kind) {
    case media_kind::image:
      ++facts_.image_parts;
      tokens = figures_.estimate(0, 1, 0, 0);
      break;
    case media_kind::audio:
      ++facts_.audio_parts;
      tokens = figures_.estimate(0, 0, 1, 0);
      break;
    case media_kind::video:
      ++facts_.video_parts;
      tokens = figures_.estimate(0, 0, 0, 1);
      break;
  }
  if (open_) hasher_.extra_tokens(tokens);
}

void prompt_writer::minified(json_doc::index value) {
  const json_doc::index end = doc_.skip(value);
  bytes_view run = doc_.token(value);
  for (json_doc::index i = value + 1; i < end; ++i) {
    const bytes_view token = doc_.token(i);
    if (run.data() + run.size() == token.data()) {
      run = {run.data(), run.size() + token.size()};
    } else {
      text(run);
      run = token;
    }
  }
  text(run);
}

void prompt_writer::minified_without(json_doc::index value, std::initializer_list<std::string_view> members) {
  if (!doc_.is_object(value)) return minified(value);
  std::string scratch;
  bool first = true;
  text("{");
  doc_.each_member(value, [&](json_doc::index key, json_doc::index member) {
    const bytes_view name = doc_.plain(key, scratch);
    if (std::find(members.begin(), members.end(), name) != members.end()) return;
    if (!first) text(",");
    first = false;
    text(doc_.token(key));
    text(":");
    minified(member);
  });
  text("}");
}

void prompt_writer::count_all(json_doc::index value) {
  const json_doc::index end = doc_.skip(value);
  for (json_doc::index i = value; i < end; ++i) {
    const char c = doc_.kind(i);
    if (c == '"') {
      if (i + 1 < end && doc_.kind(i + 1) == ':') continue;
      const bytes_view raw = doc_.raw(i);
      if (raw.starts_with("data:")) {
        media(media_kind::image, {});
      } else {
        text(raw);
      }
    } else if (c == '-' || (c >= '0' && c <= '9')) {
      ++ids_;
    }
  }
}

void prompt_writer::finish(std::uint64_t overhead) {
  // Escapes of values that are no prompt count here too; they are few beside a prompt, and bounded.
  const std::uint64_t most = text_bytes_ - text_bytes_ / longest_escape;
  facts_.prompt_bytes = text_bytes_ - std::min(overhead, most);
  const std::uint64_t parts = facts_.image_parts + facts_.audio_parts + facts_.video_parts;
  facts_.exact_tokens = ids_ != 0 && text_bytes_ == 0 && parts == 0;
  facts_.prompt_tokens = ids_ + figures_.estimate(facts_.prompt_bytes, facts_.image_parts, facts_.audio_parts,
                                                  facts_.video_parts);
  if (facts_.exact_tokens) {
    share_tokens(0.25);
  } else if (hashed_bytes_ != 0 && text_bytes_ != 0) {
    const double text_tokens = static_cast<double>(facts_.prompt_bytes) / figures_.bytes_per_token;
    const double chained = static_cast<double>(chained_text_) / static_cast<double>(text_bytes_);
    share_tokens(text_tokens * chained / static_cast<double>(hashed_bytes_));
  }
}

// The fraction of a token that a block leaves over is the next block's, so the sum over a chain is the
// prompt's.
void prompt_writer::share_tokens(double tokens_per_byte) {
  const double per_block = tokens_per_byte * hasher_.block_bytes();
  for (std::size_t c = 0; c < facts_.prompts.size(); ++c) {
    prefix_chain& chain = facts_.prompts[c];
    double exact = 0;
    std::uint64_t given = 0;
    for (prefix_block& block : chain.blocks) {
      exact += per_block;
      const auto whole = static_cast<std::uint64_t>(exact + 0.5);
      block.tokens = to_u32(std::uint64_t{block.tokens} + whole - given);
      given = whole;
    }
    exact += tokens_per_byte * tails_[c];
    chain.tail_tokens = to_u32(chain.tail_tokens + static_cast<std::uint64_t>(exact + 0.5) - given);
  }
}

}  // namespace penstock::tokenizer
