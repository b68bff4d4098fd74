#include "emulator/model/text.hpp"

#include <xxhash.h>

#include <algorithm>

#include "penstock/random.hpp"

namespace penstock::emulator {
namespace {

// Each is exactly 4 bytes of UTF-8, so that an answer that comes back in the next prompt is cut into the
// same tokens. Some need escapes in JSON or are longer than one byte a character, for the proxy's sake.
constexpr std::string_view words[] = {
    " the", " and", " for", " you", " all", " one",   " her",   " was",  " our",  " out", " day",
    " had", " hot", " now", " old", " see", " two",   " way",   " who",  " did",  " its", " let",
    " put", " say", " she", " too", " use", " sun",   " sea",   " sky",  " red",  " oak", " ice",
    " fog", " map", " key", " cup", " hat", " cat",   " dog",   " fox",  " bee",  " ant", " owl",
    " pen", " ink", " box", " bag", " car", " bus",   " row",   " run",  " set",  " top", ", so",
    ". If", ". It", "; we", " né",  " 水",  "\n\n- ", " \"a\"", " \\n ", "\tif ",
};
static_assert(std::size(words) == 64);
constexpr bool all_four_bytes() {
  for (const std::string_view w : words) {
    if (w.size() != token_bytes) return false;
  }
  return true;
}
static_assert(all_four_bytes());

token_id pack(std::string_view piece) {
  token_id t = 0;
  for (std::size_t i = piece.size(); i-- > 0;) t = (t << 8) | static_cast<unsigned char>(piece[i]);
  return t;
}

std::uint64_t next_state(std::uint64_t state, token_id t) { return prng(state ^ t).next(); }

constexpr token_id end_of_text = 0x000003ff;

std::string_view word_after(std::uint64_t state) { return words[prng(state).next() % std::size(words)]; }

// The state that foreign KV leads to: already the first word is another one.
std::uint64_t astray(std::uint64_t state, std::uint64_t foreign) {
  std::uint64_t other = prng(state ^ foreign).next();
  while (word_after(other) == word_after(state)) other = prng(other).next();
  return other;
}

}  // namespace

void append_tokens(std::vector<token_id>& tokens, std::string_view text) {
  for (std::size_t at = 0; at < text.size(); at += token_bytes)
    tokens.push_back(pack(text.substr(at, token_bytes)));
}

void prompt_builder::begin_message(std::string_view role) {
  tokens_.push_back(0x000001ff | (static_cast<token_id>(hash_text(role, 0) & 0xffff) << 16));
}

void prompt_builder::text(std::string_view content) { append_tokens(tokens_, content); }

void prompt_builder::media(std::string_view reference) {
  prng random(hash_text(reference, 1));
  for (int i = 0; i < 256; ++i)
    tokens_.push_back(0x000004ff | (static_cast<token_id>(random.next() & 0xffff) << 16));
}

void prompt_builder::end_message() { tokens_.push_back(end_of_message); }

std::string detokenize(std::span<const token_id> tokens) {
  std::string text;
  for (token_id t : tokens) {
    if ((t & 0xff) == 0xff) continue;
    for (; t != 0; t >>= 8) text += static_cast<char>(t & 0xff);
  }
  return text;
}

std::uint64_t hash_text(std::string_view text, std::uint64_t seed) {
  return XXH3_64bits_withSeed(text.data(), text.size(), seed);
}

std::vector<std::uint64_t> block_names(std::span<const token_id> tokens, std::uint32_t block_tokens,
                                       std::uint64_t seed) {
  std::vector<std::uint64_t> names;
  names.reserve(tokens.size() / block_tokens);
  std::uint64_t chain = seed;
  for (std::size_t at = 0; at + block_tokens <= tokens.size(); at += block_tokens) {
    chain = XXH3_64bits_withSeed(&tokens[at], block_tokens * sizeof(token_id), chain);
    if (chain == 0) chain = 1;
    names.push_back(chain);
  }
  return names;
}

std::uint64_t content_of(std::span<const token_id> prompt, std::uint64_t seed) {
  return XXH3_64bits_withSeed(prompt.data(), prompt.size_bytes(), seed) | 1;
}

std::uint64_t prompt_state(std::span<const token_id> prompt) {
  std::uint64_t state = 0;
  for (const token_id t : prompt) state = next_state(state, t);
  return state;
}

answer make_answer(std::span<const token_id> prompt, const answer_request& request) {
  std::uint64_t state = prompt_state(prompt);
  const std::uint64_t natural_length =
      std::max<std::uint64_t>(24 + prng(state).next() % 256, request.min_tokens);
  state ^= request.choice * 0x9e3779b97f4a7c15ULL;
  if (request.foreign_kv != 0) state = astray(state, request.foreign_kv);
  answer a;
  while (a.tokens.size() < request.max_tokens) {
    if (!request.ignore_eos && a.tokens.size() == natural_length) {
      a.tokens.push_back(end_of_text);
      a.finish = finish_kind::stop;
      return a;
    }
    const std::string_view word = word_after(state);
    a.tokens.push_back(pack(word));
    a.text += word;
    state = next_state(state, a.tokens.back());
    if (a.tokens.size() < request.min_tokens) continue;
    for (const std::string& stop : request.stop) {
      // Only what the newest token may have completed is searched.
      const std::size_t from = a.text.size() - std::min(a.text.size(), stop.size() + token_bytes);
      const std::size_t found = stop.empty() ? std::string::npos : a.text.find(stop, from);
      if (found == std::string::npos) continue;
      a.text.resize(found);
      a.finish = finish_kind::stop;
      a.stop_sequence = stop;
      return a;
    }
  }
  return a;
}

}  // namespace penstock::emulator
