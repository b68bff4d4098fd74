#include "routing/refusals.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "routing/model_index.hpp"

namespace penstock::routing {
namespace {

constexpr std::size_t shown_names = 16, shown_bytes = 128;
constexpr std::uint16_t usual_retry_s = 5, longest_retry_s = 30;

// Clients' and engines' names may be of any length and are cut, between UTF-8 characters.
std::string_view cut(std::string_view s) {
  if (s.size() <= shown_bytes) return s;
  std::size_t n = shown_bytes;
  while (n > 0 && (static_cast<unsigned char>(s[n]) & 0xc0) == 0x80) --n;
  return s.substr(0, n);
}

std::string choices_of(const fleet_view& fleet) {
  const std::vector<std::string> names = known_models(fleet, shown_names + 1);
  if (names.empty()) return "No model is known here yet.";
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), shown_names); ++i) {
    fmt::format_to(std::back_inserter(list), "{}`{}`", i == 0 ? "" : ", ", cut(names[i]));
  }
  return fmt::format("Models served here: {}{}.", list, names.size() > shown_names ? " and more" : "");
}

// An endpoint comes back with a probe: that is when to try again.
std::uint16_t retry_after(const fleet_view& fleet) {
  if (!fleet.settings || fleet.settings->health.interval.count() <= 0) return usual_retry_s;
  const double s = std::ceil(seconds(fleet.settings->health.interval));
  return static_cast<std::uint16_t>(std::clamp(s, 1.0, static_cast<double>(longest_retry_s)));
}

}  // namespace

api_error refuse_model(std::string_view model, const fleet_view& fleet) {
  api_error e;
  e.why = reason::model_not_found;
  e.param = "model";
  e.message =
      model.empty()
          ? fmt::format("The request names no model and there is more than one. {}", choices_of(fleet))
          : fmt::format("The model `{}` does not exist here. {}", cut(model), choices_of(fleet));
  return e;
}

api_error refuse_response(std::string_view response_id) {
  api_error e;
  e.why = reason::response_not_found;
  e.param = "previous_response_id";
  e.message = fmt::format(
      "The response `{}` is not available here: it was answered too long ago, by another replica, "
      "or by an engine that is gone. Send the whole conversation again.",
      cut(response_id));
  return e;
}

api_error refuse_pool(std::string_view pool, const absences& absent, const fleet_view& fleet) {
  api_error e;
  e.why = reason::no_endpoint;
  e.message = describe_absence(pool, absent);
  if (!absent.needs_both) e.retry_after_s = retry_after(fleet);
  return e;
}

}  // namespace penstock::routing
