#include <fmt/format.h>

#include <cmath>

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

}  // namespace

std::string explain(const plan& p, const fleet_view& fleet) {
  if (p.candidates.empty()) return fmt::format("policy {}: nobody can be asked", name(p.by));
  std::string out = fmt::format("policy {}: {}, because {}", name(p.by),
                                name_of(p.candidates[0].endpoint, fleet), why_first(p));
  std::size_t place = 0;
  for (const candidate& c : p.candidates) {
    fmt::format_to(std::back_inserter(out), "\n{}. {}: {}", ++place, name_of(c.endpoint, fleet),
                   figures(c, p));
  }
  return out;
}

}  // namespace penstock::routing
