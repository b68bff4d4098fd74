// One configured value without its C++ type, and how it gets into and out of a member of a config struct.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "penstock/config.hpp"

namespace penstock::conf {

using string_list = std::vector<std::string>;
using header_list = std::vector<std::pair<std::string, std::string>>;

// Integers, sizes and the index of a choice are int64; bounds keep them inside the member's type.
using setting = std::variant<bool, std::int64_t, double, duration, std::string, string_list, header_list>;

template <class T>
setting to_setting(const T& member) {
  if constexpr (std::is_enum_v<T>)
    return static_cast<std::int64_t>(member);
  else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
    return static_cast<std::int64_t>(member);
  else
    return member;
}

template <class T>
void from_setting(T& member, const setting& value) {
  if constexpr (std::is_enum_v<T> || (std::is_integral_v<T> && !std::is_same_v<T, bool>))
    member = static_cast<T>(std::get<std::int64_t>(value));
  else
    member = std::get<T>(value);
}

// Reads and writes one member of a section's struct, whose type the table has forgotten.
struct slot {
  setting (*get)(const void* section) = nullptr;
  void (*set)(void* section, const setting& value) = nullptr;
};

template <class Section, class T>
Section section_of(T Section::*);

template <auto Member>
constexpr slot slot_of() {
  using section = decltype(section_of(Member));
  return {[](const void* s) { return to_setting(static_cast<const section*>(s)->*Member); },
          [](void* s, const setting& v) { from_setting(static_cast<section*>(s)->*Member, v); }};
}

}  // namespace penstock::conf
