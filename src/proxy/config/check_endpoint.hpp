// What one endpoint must be: an address, sendable header fields, labels that metrics can carry.
#pragma once

#include <optional>
#include <string>

#include "penstock/config.hpp"
#include "proxy/config/report.hpp"

namespace penstock::conf {

// `path` is "pool[0].endpoint[2]".
void check_endpoint(const endpoint_config& endpoint, const std::string& path, report& out);

// Equal for two spellings of one engine and rank; nothing if the URL is wrong.
std::optional<std::string> endpoint_identity(const endpoint_config& endpoint);

}  // namespace penstock::conf
