// SGLang: the same body on both legs, with the prefill engine's bootstrap server and a room for each choice.
#include <fmt/format.h>

#include "proxy/handoff/legs.hpp"

namespace penstock::handoff {
namespace {

// The value itself for one choice, else an array with one for each.
template <class Value>
std::string for_each(std::uint64_t choices, Value value) {
  if (choices == 1) return value(0);
  std::string out = "[";
  for (std::uint64_t i = 0; i < choices; ++i) {
    if (i != 0) out += ',';
    out += value(i);
  }
  return out + "]";
}

}  // namespace

void sglang_leg(const request_body& body, const terms& said, splices& out) {
  const std::uint64_t choices = choices_of(body.facts);
  const std::string host = fmt::format("\"{}\"", said.bootstrap_host);
  const std::string port = fmt::format("{}", said.bootstrap_port);
  body_edits edits(body);
  edits.add("bootstrap_host", for_each(choices, [&](std::uint64_t) { return host; }));
  edits.add("bootstrap_port", for_each(choices, [&](std::uint64_t) { return port; }));
  edits.add("bootstrap_room", for_each(choices, [&](std::uint64_t i) {
              return fmt::format("{}", said.room + i * said.ranks);
            }));
  edits.finish(out);
}

std::uint64_t make_room(std::uint64_t random, std::uint32_t rank, std::uint32_t ranks) {
  // The highest of 63 bits stays free, so that the names of a batch do not leave them.
  const std::uint64_t some = random >> 2;
  return ranks == 0 ? some : some - some % ranks + rank % ranks;
}

}  // namespace penstock::handoff
