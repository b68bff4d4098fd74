// The tracker's other half: what it knows as a fleet view.
#include <algorithm>
#include <cmath>

#include "health/fleet_tracker.hpp"

namespace penstock::health {
namespace {

constexpr double confidence_step = 0.05;  // a smaller change is not worth a view
constexpr double fresh = 3, old = 10;     // scrapes, in intervals

}  // namespace

double scrape_trust(duration age, std::uint32_t failures, duration interval) {
  if (interval <= duration::zero()) return 1;
  const double intervals = penstock::seconds(age) / penstock::seconds(interval);
  const double by_age = 1 - 0.5 * std::clamp((intervals - fresh) / (old - fresh), 0.0, 1.0);
  const double by_failures = 1 - 0.1 * std::min(failures, 5u);
  return std::min(by_age, by_failures);
}

double fleet_tracker::confidence(const tracked_endpoint& of, instant now) const {
  const auto since = of.engine.scraped_at == instant{} ? of.added_at : of.engine.scraped_at;
  const duration interval = settings_->health.scrape_interval;
  // Who serves is well, whatever its metrics do: half the trust would keep it idle for all long prompts.
  const bool serves = of.served_at != instant{} && now - of.served_at <= interval * static_cast<int>(fresh);
  return life_confidence(of.effective) *
         (serves ? 1 : scrape_trust(now - since, of.scrape.failures(), interval));
}

view_change fleet_tracker::changed(instant now) const {
  if (change_ != view_change::none) return change_;
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    if (std::abs(confidence(endpoints_[i], now) - shown_confidence_[i]) >= confidence_step) {
      return view_change::figures;
    }
  }
  return view_change::none;
}

endpoint_view fleet_tracker::view_of(const tracked_endpoint& of, instant now) const {
  endpoint_view v;
  v.id = of.id;
  v.pool = of.pool;
  v.settings = of.settings;
  v.authority = of.settings.address.authority;
  v.path_prefix = of.settings.address.prefix;
  v.addresses = of.addresses;
  v.state = of.effective;
  v.epoch = of.epoch;
  v.confidence = confidence(of, now);
  v.engine = of.engine;
  v.models_known = of.models_known;
  v.models = of.models;
  v.rank_ids = of.rank_ids;
  return v;
}

std::shared_ptr<const fleet_view> fleet_tracker::build_view(instant now) {
  auto view = std::make_shared<fleet_view>();
  view->version = ++version_;
  view->settings = settings_;
  view->draining = draining_;
  shown_confidence_.clear();
  change_ = view_change::none;
  if (!settings_) return view;
  for (const auto& p : settings_->pools)
    view->pools.push_back({p.name, p.models, p.route, {}, p.disaggregation});
  view->endpoints.reserve(endpoints_.size());
  for (const auto& e : endpoints_) {
    view->pools[e.pool].endpoints.push_back(static_cast<std::uint32_t>(view->endpoints.size()));
    view->endpoints.push_back(view_of(e, now));
    shown_confidence_.push_back(view->endpoints.back().confidence);
    const bool askable = e.effective != life::down && e.effective != life::draining;
    if (askable && !draining_) view->ready = true;
  }
  return view;
}

}  // namespace penstock::health
