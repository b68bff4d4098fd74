#include "health/cache_reports.hpp"

#include <cstddef>

namespace penstock::health {

cache_reports::standing& cache_reports::at(endpoint_id of) {
  if (slots_.size() <= of.slot) slots_.resize(of.slot + std::size_t{1});
  standing& s = slots_[of.slot];
  if (s.of != of) {
    suspect(s, false);
    s = {.of = of};
  }
  return s;
}

void cache_reports::suspect(standing& s, bool on) {
  if (s.suspected == on) return;
  s.suspected = on;
  waiting_ = on ? waiting_ + 1 : waiting_ - 1;
}

cache_news cache_reports::warn(standing& s) {
  suspect(s, false);
  if (s.told || s.warned) return cache_news::none;
  s.warned = true;
  return cache_news::silent;
}

cache_news cache_reports::answered(endpoint_id of, bool told, double hits) {
  standing& s = at(of);
  if (!told) {
    if (hits != 0) return warn(s);
    if (!s.told && !s.warned) suspect(s, true);
    return cache_news::none;
  }
  suspect(s, false);
  const bool first = !s.told;
  s.told = true;
  return first && s.warned ? cache_news::tells_after_all : cache_news::none;
}

cache_news cache_reports::scraped(endpoint_id of, double hits) {
  standing& s = at(of);
  return s.suspected && hits != 0 ? warn(s) : cache_news::none;
}

cache_news cache_reports::declared(endpoint_id of, bool told) {
  standing& s = at(of);
  return told ? cache_news::none : warn(s);
}

void cache_reports::restarted(endpoint_id of) {
  standing& s = at(of);
  suspect(s, false);
  s = {.of = of};
}

}  // namespace penstock::health
