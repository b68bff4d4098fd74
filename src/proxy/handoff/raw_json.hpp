// Values of JSON objects as they stand: engines' words that are passed on are not written anew.
#pragma once

#include <string>
#include <string_view>

#include <simdjson.h>

#include "penstock/bytes.hpp"

namespace penstock::handoff {

// A checked copy of JSON text with simdjson's padding; views of it are at the same places as in the original.
class raw_json {
 public:
  explicit raw_json(bytes_view text) : text_(text) {}

  // All of it.
  bytes_view whole() const { return text_; }
  const simdjson::padded_string& padded() const { return text_; }

  // Calls f(name, at, value) for each member of the object that `object` (a part of whole()) is: its name
  // without escapes, where its opening quote stands in whole(), and its value without blanks around it.
  template <class F>
  void each_member(bytes_view object, F f) const;

  // Calls f(value) for each element of the array that `array` is.
  template <class F>
  void each_element(bytes_view array, F f) const;

  // The value of a member, or nothing.
  bytes_view member(bytes_view object, std::string_view name) const;
  // The first element of the array that `array` is, or nothing.
  bytes_view first(bytes_view array) const;

  std::size_t place(bytes_view part) const { return static_cast<std::size_t>(part.data() - text_.data()); }

 private:
  simdjson::padded_string_view with_padding(bytes_view part) const {
    return simdjson::padded_string_view(part.data(), part.size(),
                                        text_.size() - place(part) + simdjson::SIMDJSON_PADDING);
  }
  static bytes_view text_of(simdjson::ondemand::value value);

  simdjson::padded_string text_;
};

template <class F>
void raw_json::each_member(bytes_view object, F f) const {
  using simdjson::SUCCESS;
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document doc;
  simdjson::ondemand::object members;
  if (parser.iterate(with_padding(object)).get(doc) != SUCCESS || doc.get_object().get(members) != SUCCESS)
    return;
  for (auto field : members) {
    simdjson::ondemand::raw_json_string key;
    std::string_view name;
    simdjson::ondemand::value value;
    if (field.key().get(key) != SUCCESS || field.unescaped_key().get(name) != SUCCESS ||
        field.value().get(value) != SUCCESS)
      return;
    f(name, static_cast<std::size_t>(key.raw() - 1 - text_.data()), text_of(value));
  }
}

template <class F>
void raw_json::each_element(bytes_view array, F f) const {
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document doc;
  simdjson::ondemand::array elements;
  if (parser.iterate(with_padding(array)).get(doc) != simdjson::SUCCESS ||
      doc.get_array().get(elements) != simdjson::SUCCESS)
    return;
  for (auto element : elements) {
    simdjson::ondemand::value value;
    if (element.get(value) != simdjson::SUCCESS) return;
    f(text_of(value));
  }
}

// `object` with another value (JSON text) for one of its members; as it was where it has no such member.
std::string with_value(bytes_view object, std::string_view name, std::string_view value);

}  // namespace penstock::handoff
