// The parts of a request that is spread over engines.
#pragma once

#include <cstdint>
#include <string_view>

namespace penstock::flow {

// Which engine an event or an action is about. `answer` is the one whose answer the client gets, and the only
// one of most requests. `encode` (of images, before prefill) has its name here and no machine yet.
enum class leg : std::uint8_t { answer, prefill, encode };
constexpr std::string_view name(leg l) {
  constexpr std::string_view names[] = {"answer", "prefill", "encode"};
  return names[static_cast<std::size_t>(l)];
}

}  // namespace penstock::flow
