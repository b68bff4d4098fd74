#include "proxy/admin/explain_page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <variant>

#include "proxy/handoff/connector.hpp"
#include "proxy/worker/head_hints.hpp"
#include "tokenizer/extractor.hpp"
#include "tokenizer/token_estimator.hpp"

namespace penstock::admin {
namespace {

// The call whose body this is, or looks like: the members tell.
api_kind api_of(const std::string& path, const std::string& body) {
  constexpr std::pair<std::string_view, api_kind> calls[] = {{"/v1/chat/completions", api_kind::chat},
                                                             {"/v1/completions", api_kind::completions},
                                                             {"/v1/responses", api_kind::responses},
                                                             {"/v1/messages", api_kind::messages}};
  for (const auto& [name, api] : calls) {
    if (path == name) return api;
  }
  const auto has = [&](const char* key) {
    return body.find(fmt::format("\"{}\"", key)) != std::string::npos;
  };
  if (has("messages")) return api_kind::chat;
  return has("input") ? api_kind::responses : api_kind::completions;
}

template <class... Args>
void line(std::string& out, fmt::format_string<Args...> text, Args&&... args) {
  fmt::format_to(std::back_inserter(out), text, std::forward<Args>(args)...);
  out += '\n';
}

void append_blocks(std::string& out, const prefix_chain& chain, std::uint32_t block_bytes) {
  constexpr std::size_t shown = 8;
  const std::size_t n = chain.blocks.size();
  std::uint64_t before = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const prefix_block& b = chain.blocks[i];
    // The first ones and the last.
    if (i < shown || i + 1 == n) {
      const std::uint64_t from = i * std::uint64_t{block_bytes};
      line(out, "  block {:<4} bytes {} to {}, {} tokens from token {}, key {:016x}", i, from,
           from + block_bytes - 1, b.tokens, before, b.key);
    } else if (i == shown) {
      line(out, "  …");
    }
    before += b.tokens;
  }
  line(out, "  behind them {} tokens", chain.tail_tokens);
}

std::string facts_of(const request_facts& f, std::uint32_t block_bytes) {
  std::string out;
  line(out, "api            {}", name(f.api));
  line(out, "model          {}", f.model);
  line(out, "stream         {}", f.stream ? "yes" : "no");
  line(out, "prompt tokens  {} ({})", f.prompt_tokens, f.exact_tokens ? "exact" : "estimated from bytes");
  std::size_t blocks = 0;
  for (const prefix_chain& c : f.prompts) blocks += c.blocks.size();
  line(out, "prompts        {} with {} whole blocks of {} canonical bytes", f.prompts.size(), blocks,
       block_bytes);
  if (f.n > 1) line(out, "answers        {} each", f.n);
  if (!f.affinity.empty()) line(out, "session        by a header, prompt_cache_key or user");
  if (!f.prompts.empty()) append_blocks(out, f.prompts[0], block_bytes);
  return out;
}

}  // namespace

explanation explain_request(std::string body, const std::string& path, const http::request_head& head,
                            const config& settings, routing::shared_state& shared,
                            const routing::pair_book& pairs, const fleet_view& fleet, instant now) {
  const std::size_t size = body.size();
  body.resize(size + tokenizer::body_padding);
  tokenizer::extractor extractor({.block_bytes = settings.routing.block_bytes});
  const tokenizer::token_estimator estimator;
  request_facts facts;
  const bytes_view text(body.data(), size);
  const auto [tenant, session] = worker::hints_of(head, settings.routing);
  if (const auto error = extractor.read(api_of(path, body), text, estimator, facts, tenant))
    return {false, fmt::format("refused ({}): {}\n", name(error->why), error->message)};
  if (!session.empty()) facts.affinity = session;
  facts.carried_by = handoff::carriers(facts);
  explanation out{true, facts_of(facts, settings.routing.block_bytes)};
  routing::router router(shared);
  router.learn_pairs(pairs);
  prng rng(1);
  const auto found = router.decide(facts, fleet, now, rng);
  if (const auto* error = std::get_if<api_error>(&found)) {
    out.good = false;
    out.text += fmt::format("\nnobody would be asked ({}): {}\n", name(error->why), error->message);
    return out;
  }
  const plan& p = std::get<plan>(found);
  if (p.telling_key != 0) line(out.text, "telling block  {}, key {:016x}", p.telling_index, p.telling_key);
  out.text += '\n';
  out.text += routing::explain(p, fleet);
  // Of a pair the plan says it itself.
  if (p.candidates.front().prefill) return out;
  out.text += "\npredicted time to the first token there: ";
  if (p.candidates.front().speed > 0) {
    line(out.text, "{:.3f} s", seconds(router.predicted_prefill(p.candidates.front())));
  } else {
    line(out.text, "not known, since no streamed answer of it was timed yet");
  }
  return out;
}

}  // namespace penstock::admin
