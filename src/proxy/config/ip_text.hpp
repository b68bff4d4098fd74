// Textual hosts: IPv4, IPv6 and names, without a resolver.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace penstock::conf {

using v4_bytes = std::array<std::uint8_t, 4>;
using v6_bytes = std::array<std::uint8_t, 16>;

// Four decimal numbers without leading zeroes.
std::optional<v4_bytes> parse_v4(std::string_view text);
// RFC 4291 2.2, without brackets and zone.
std::optional<v6_bytes> parse_v6(std::string_view text);
// Letters, digits, '-' and '_' in labels of 1 to 63 bytes, 253 in all; one dot may end it. A name whose
// last label is a number must be an IPv4 address.
bool valid_host_name(std::string_view text);

std::string lower_case(std::string_view text);

}  // namespace penstock::conf
