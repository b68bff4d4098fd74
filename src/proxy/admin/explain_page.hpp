// What would be done with one request and why, in words: /debug/explain and `penstock explain`.
#pragma once

#include <memory>
#include <string>

#include "penstock/api.hpp"
#include "penstock/config.hpp"
#include "penstock/fleet_view.hpp"
#include "penstock/time.hpp"
#include "proxy/http/head.hpp"
#include "routing/router.hpp"

namespace penstock::admin {

struct explanation {
  bool good = false;  // false: the request would be refused; `text` says why
  std::string text;
};

// Reads `body` as a worker would and decides over `fleet` with what `shared` has learned; nothing is sent or
// booked. How often blocks were asked for of late is known to workers alone, so that the telling block is
// that of a worker that has just begun; `pairs` is what workers learned of pairs of engines. `path` names the
// call ("/v1/messages"); empty: the members tell. `head` says whose tenant and session it is.
explanation explain_request(std::string body, const std::string& path, const http::request_head& head,
                            const config& settings, routing::shared_state& shared,
                            const routing::pair_book& pairs, const fleet_view& fleet, instant now);

}  // namespace penstock::admin
