// Whether a pool whose prefill and decode run on different engines can serve at all.
#pragma once

#include <string>

#include "penstock/config.hpp"
#include "proxy/config/report.hpp"

namespace penstock::conf {

// `path` is the pool's, as in "pool[0]". Also warns about roles that nothing makes use of.
void check_disaggregation(const pool_config& pool, const std::string& path, report& out);

}  // namespace penstock::conf
