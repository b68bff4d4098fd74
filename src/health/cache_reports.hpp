// Which engines tell `cached_tokens` in their answers, which they do only when started with a switch for it;
// who does not is to be named once, as early as it can be known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "penstock/ids.hpp"

namespace penstock::health {

// What the newest evidence means for an operator; each is returned once for an engine's process.
enum class cache_news : std::uint8_t {
  none,
  silent,           // it does not tell
  tells_after_all,  // it does, although the other was said
};

// Owned by one thread. vLLM's switch is in nothing that the engine shows of itself, and many versions leave
// the count out where it is 0. So the first answer that should have one and has none tells, as soon as the
// engine's own counter of hits is not 0: else its cache is off, or it found nothing. SGLang says it when
// asked.
class cache_reports {
 public:
  // An answer with usage of which much should have been cached, or that told. `hits`: the engine's counter as
  // it was read last; negative: not known.
  cache_news answered(endpoint_id of, bool told, double hits);
  // The counter was read again.
  cache_news scraped(endpoint_id of, double hits);
  // The engine said of itself whether it was started with the switch.
  cache_news declared(endpoint_id of, bool told);
  // Another process serves there now.
  void restarted(endpoint_id of);
  // Whether scraped() may have news of anybody.
  bool waiting() const { return waiting_ > 0; }

 private:
  struct standing {
    endpoint_id of;
    bool told = false, warned = false, suspected = false;  // suspected: waits for the counter
  };
  standing& at(endpoint_id of);
  cache_news warn(standing& s);
  void suspect(standing& s, bool on);

  std::vector<standing> slots_;
  std::size_t waiting_ = 0;
};

}  // namespace penstock::health
