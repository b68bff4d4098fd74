// What the table of keys says, as text for people: the reference page, a configuration with all its
// defaults spelled out, and what a reload may not change.
#pragma once

#include <string>

#include "penstock/config.hpp"

namespace penstock::conf {

// conf/REFERENCE.md.
std::string reference_markdown();

// The configuration in force as TOML, every key with its value, secrets replaced by "(hidden)": what
// `penstock check` prints and the admin listener shows.
std::string effective_toml(const config& c);

// The keys that differ and cannot change without a restart, as "server.listen, server.workers"; empty
// when `next` may replace `running`.
std::string reload_conflict(const config& running, const config& next);

}  // namespace penstock::conf
