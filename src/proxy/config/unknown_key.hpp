// What somebody may have meant who wrote a key that does not exist.
#pragma once

#include <string>
#include <string_view>

#include "proxy/config/schema.hpp"

namespace penstock::conf {

std::string unknown_key_hint(const section_spec& in, std::string_view key);
std::string unknown_section_hint(std::string_view name);
// Of a key ahead of every section.
std::string misplaced_key_hint(std::string_view key);

}  // namespace penstock::conf
