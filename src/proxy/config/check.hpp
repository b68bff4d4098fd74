// What single values cannot show: contradictions between them, and values that are legal and odd.
#pragma once

#include "penstock/config.hpp"
#include "proxy/config/report.hpp"

namespace penstock::conf {

void check_listeners(const config& c, report& out);
// Also lets deadlines that are at their defaults give way to shorter ones around them.
void check_sections(config& c, report& out);
void check_pools(const config& c, report& out);

}  // namespace penstock::conf
