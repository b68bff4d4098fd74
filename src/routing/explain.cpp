#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "routing/router.hpp"

namespace penstock::routing {
namespace {

std::string name_of(endpoint_id id, const fleet_view& fleet) {
  for (const endpoint_view& e : fleet.endpoints) {
    if (e.id != id) continue;
    if (e.settings.data_parallel_rank < 0) return e.settings.url;
    return fmt::format("{} rank {}", e.settings.url, e.settings.data_parallel_rank);
  }
  return fmt::format("an endpoint that was removed (slot {})", id.slot);
}

std::string why_first(const plan& p) {
  const candidate& c = p.candidates.front();
  switch (p.why) {
    case choice::only_candidate: return "it is the only endpoint that can be asked";
    case choice::holds_prefix:
      return fmt::format("its score is the lowest, and it holds {} of {} prompt blocks", c.hit_blocks,
                         p.prompt_blocks);
    case choice::least_work: return "its score is the lowest; it holds nothing of the prompt";
    case choice::hash_tie:
      if (p.by_session)
        return "several scores are near the lowest, and the session belongs to it by consistent hashing";
      return p.telling_key != 0
                 ? fmt::format(
                       "several scores are near the lowest, and prompt block {} belongs to it by consistent "
                       "hashing",
                       p.telling_index)
                 : std::string(
                       "several scores are near the lowest, and nothing tells them apart: drawn by lot");
    case choice::hash: return "the request's key belongs to it by consistent hashing";
    case choice::hash_bounded:
      return "it is next in the key's order; the key's own endpoint is above its share of the load";
    case choice::least_tokens: return "it has the fewest tokens to compute";
    case choice::least_requests: return "it has the fewest requests in flight";
    case choice::round_robin: return "it was its turn";
    case choice::random: return "drawn by lot";
    case choice::pinned: return "it gave the answer that previous_response_id names";
  }
  return "";
}

std::string figures(const candidate& c, const plan& p) {
  std::string s =
      fmt::format("score {:.0f}: queue {:.0f} tokens, {} in flight, ", c.score, c.queue_tokens, c.requests);
  if (p.prompt_blocks > 0) {
    fmt::format_to(std::back_inserter(s), "holds {} of {} blocks ({} tokens), ", c.hit_blocks,
                   p.prompt_blocks, c.hit_tokens);
  }
  fmt::format_to(std::back_inserter(s), "{} to compute, ", c.uncached_tokens);
  if (c.speed > 0) {
    fmt::format_to(std::back_inserter(s), "{:.0f} tokens/s", c.speed);
  } else {
    s += "speed not known";
  }
  if (c.confidence < 1) fmt::format_to(std::back_inserter(s), ", confidence {:.2f}", c.confidence);
  return s;
}

std::string why_split(const plan& p) {
  const std::uint64_t uncached = p.candidates.front().uncached_tokens;
  switch (p.split) {
    case split_choice::not_asked: return "";
    case split_choice::cheaper: return "two engines are expected to be sooner";
    case split_choice::dearer: return "one engine is expected to be sooner";
    case split_choice::told_to: return "the configuration says \"always\"";
    case split_choice::told_not_to: return "the configuration says \"never\"";
    case split_choice::long_prompt:
      return fmt::format(
          "{} tokens are missing at the decode engine, and the configuration splits from fewer on", uncached);
    case split_choice::short_prompt:
      return "fewer tokens than the configuration splits from are missing at the decode engine";
    case split_choice::not_carried:
      return fmt::format("a hand-off by {} cannot carry what it asks for", name(p.connector));
    case split_choice::no_pair: return "no prefill and decode engine of one group can be asked together";
    case split_choice::only_split: return "nobody can serve it in one place";
  }
  return "";
}

// Whether two engines serve it, why, and what was expected of both ways.
std::string split_line(const plan& p) {
  if (p.split == split_choice::not_asked) return "";
  std::string s =
      fmt::format("split: {} ({}), {}", is_split(p.split) ? "yes" : "no", name(p.split), why_split(p));
  const auto costs = [&s](std::string_view way, double time) {
    if (time > 0) fmt::format_to(std::back_inserter(s), "; {} it costs {:.3f} s", way, time);
  };
  costs("on two engines", p.split_seconds);
  costs("in one place", p.one_seconds);
  if (p.split_seconds > 0 || p.one_seconds > 0) s += " (until the first token, with what it does to others)";
  return s + '\n';
}

// A candidate of two engines, with the figures of both.
std::string pair_figures(const candidate& c, const plan& p, const fleet_view& fleet) {
  std::string s =
      fmt::format("{} prefills for {}: it costs {:.3f} s, {:.3f} s of that the hand-off",
                  name_of(c.prefill, fleet), name_of(c.endpoint, fleet), c.score, c.transfer_seconds);
  const auto from = std::find_if(p.prefills.begin(), p.prefills.end(),
                                 [&c](const candidate& k) { return k.endpoint == c.prefill; });
  if (from != p.prefills.end())
    fmt::format_to(std::back_inserter(s), "\n     prefill: {}", figures(*from, p));
  fmt::format_to(std::back_inserter(s), "\n     decode: queue {:.0f} tokens, {} in flight", c.queue_tokens,
                 c.requests);
  if (p.prompt_blocks > 0)
    fmt::format_to(std::back_inserter(s), ", holds {} of {} blocks, {} tokens to be fetched", c.hit_blocks,
                   p.prompt_blocks, c.uncached_tokens);
  return s;
}

}  // namespace

std::string explain(const plan& p, const fleet_view& fleet) {
  if (p.candidates.empty()) return fmt::format("policy {}: nobody can be asked", name(p.by));
  std::string out = split_line(p);
  const candidate& first = p.candidates.front();
  out += first.prefill ? fmt::format("policy {}: prefill at {}, decode at {}", name(p.by),
                                     name_of(first.prefill, fleet), name_of(first.endpoint, fleet))
                       : fmt::format("policy {}: {}, because {}", name(p.by), name_of(first.endpoint, fleet),
                                     why_first(p));
  std::size_t place = 0;
  for (const candidate& c : p.candidates) {
    fmt::format_to(std::back_inserter(out), "\n{}. {}", ++place,
                   c.prefill ? pair_figures(c, p, fleet)
                             : fmt::format("{}: {}", name_of(c.endpoint, fleet), figures(c, p)));
  }
  return out;
}

}  // namespace penstock::routing
