// JSON text walked where it lies: engines' words that are passed on are neither copied nor written anew.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "penstock/bytes.hpp"

namespace penstock::handoff {

// Behind the JSON value that begins at `at`; npos where none does, or one of more than 64 levels. All of it
// is checked but for UTF-8 and whether surrogates are pairs. Lists of integers, which name the blocks and
// tokens of long prompts by the thousand, are read 64 bytes at a time.
std::size_t value_end(bytes_view text, std::size_t at);

// A member of an object, or an element of an array: then without a name. Views into the text.
struct raw_member {
  bytes_view name;   // as it stands: nobody escapes a letter
  bytes_view value;  // without blanks around it
  bytes_view text;   // both, from the name's quote on
};

// Goes through the object or array that a text is, and checks it on the way.
class raw_walk {
 public:
  // `opens` is '{' or '['.
  raw_walk(bytes_view text, char opens);

  bool next();  // false: there is no other one, or what should be one is no JSON
  const raw_member& here() const { return here_; }
  // After the last next(): the text was such a value, with nothing but blanks around it.
  bool well_formed() const { return well_formed_; }

 private:
  bytes_view text_;
  raw_member here_;
  std::size_t at_ = 0;  // the beginning of the next one
  char closes_;
  bool more_ = false, well_formed_ = false;
};

// Calls f(member) for each member of an object. false: it is none, as a whole.
template <class F>
bool each_member(bytes_view object, F f) {
  raw_walk at(object, '{');
  while (at.next()) f(at.here());
  return at.well_formed();
}

// Calls f(value) for each element of an array.
template <class F>
void each_element(bytes_view array, F f) {
  for (raw_walk at(array, '['); at.next();) f(at.here().value);
}

// The values of the named members, empty where there is none; of several with one name the first.
template <std::size_t N>
struct raw_members {
  bool read = false;  // it is an object, as a whole
  std::array<bytes_view, N> value;
};
template <std::size_t N>
raw_members<N> pick(bytes_view object, const std::array<std::string_view, N>& names) {
  raw_members<N> out;
  out.read = each_member(object, [&](const raw_member& m) {
    const auto i = static_cast<std::size_t>(std::find(names.begin(), names.end(), m.name) - names.begin());
    if (i < N && out.value[i].empty()) out.value[i] = m.value;
  });
  return out;
}

// The value of a member, or nothing.
inline bytes_view member_of(bytes_view object, std::string_view name) {
  return pick<1>(object, {name}).value[0];
}
// The first element of an array, or nothing.
inline bytes_view first_of(bytes_view array) {
  raw_walk at(array, '[');
  return at.next() ? at.here().value : bytes_view{};
}

// `object` with another value (JSON text) for one of its members; as it was where it has no such member.
std::string with_value(bytes_view object, std::string_view name, std::string_view value);

}  // namespace penstock::handoff
