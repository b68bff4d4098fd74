#include "proxy/config/schema.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "proxy/config/text.hpp"
#include "proxy/config/units.hpp"

namespace penstock::conf {
namespace {

bool bounded(const key_spec& key) { return !key.least.empty() || !key.most.empty(); }

// Bounded values compare as doubles: every bound in the table is far below 2^53 of its base unit, or a
// round number that a double holds.
double magnitude(const setting& value) {
  if (const auto* i = std::get_if<std::int64_t>(&value)) return static_cast<double>(*i);
  if (const auto* d = std::get_if<duration>(&value)) return static_cast<double>(d->count());
  if (const auto* n = std::get_if<double>(&value)) return *n;
  return 0;
}

template <class T>
std::variant<setting, value_error> parse_plain(std::string_view text, std::string_view hint) {
  T value{};
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc{} || end != text.data() + text.size())
    return value_error{fmt::format("{} is no number", in_quotes(text)), std::string(hint)};
  return setting{value};
}

// A word of choice_or_count by its value, -1 for the first.
std::int64_t word_value(std::int64_t index) { return -1 - index; }

std::variant<setting, value_error> parse_choice(const key_spec& key, std::string_view text) {
  const auto found = std::find(key.choices.begin(), key.choices.end(), text);
  if (found == key.choices.end()) {
    const auto near = nearest(text, key.choices);
    auto hint = near ? fmt::format("did you mean \"{}\"?", *near) : "";
    return value_error{fmt::format("{} is none of: {}", in_quotes(text), join(key.choices)), std::move(hint)};
  }
  // A choice whose member is text keeps its name, one whose member is an enum its index.
  return setting{static_cast<std::int64_t>(found - key.choices.begin())};
}

template <class T>
std::variant<setting, value_error> from_unit(std::variant<T, unit_error> parsed) {
  if (auto* bad = std::get_if<unit_error>(&parsed))
    return value_error{std::move(bad->what), std::move(bad->hint)};
  if constexpr (std::is_same_v<T, duration>)
    return setting{std::get<duration>(parsed)};
  else
    return setting{static_cast<std::int64_t>(std::get<T>(parsed))};
}

std::string toml_list(const string_list& items) {
  std::string out = "[";
  for (const auto& item : items) out += fmt::format("{}{}", out.size() > 1 ? ", " : "", quoted_toml(item));
  return out + "]";
}

std::string toml_headers(const header_list& fields, bool secret) {
  std::string out = "{";
  for (const auto& [field, value] : fields)
    out += fmt::format("{}{} = {}", out.size() > 1 ? ", " : " ", quoted_toml(field),
                       secret ? "\"(hidden)\"" : quoted_toml(value));
  return out + (fields.empty() ? "}" : " }");
}

// Defaults of lists are written with commas.
string_list split(std::string_view text) {
  string_list items;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    items.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return items;
}

}  // namespace

std::string_view name(value_type t) {
  switch (t) {
    case value_type::text: return "string";
    case value_type::text_list: return "list of strings";
    case value_type::boolean: return "boolean";
    case value_type::integer: return "integer";
    case value_type::size: return "size";
    case value_type::number: return "number";
    case value_type::duration: return "duration";
    case value_type::choice: return "string";
    case value_type::choice_or_count: return "string or integer";
    case value_type::headers: return "table of strings";
  }
  return "";
}

std::string_view example(value_type t) {
  switch (t) {
    case value_type::text: return "\"text\"";
    case value_type::text_list: return "[\"one\", \"two\"]";
    case value_type::boolean: return "true or false";
    case value_type::integer: return "4";
    case value_type::size: return "\"64MiB\"";
    case value_type::number: return "1.5";
    case value_type::duration: return "\"30s\"";
    case value_type::choice:
    case value_type::choice_or_count: return "\"text\"";
    case value_type::headers: return "{ X-Name = \"value\" }";
  }
  return "";
}

const key_spec* section_spec::key(std::string_view wanted) const {
  const auto found =
      std::find_if(keys.begin(), keys.end(), [&](const key_spec& k) { return k.name == wanted; });
  return found == keys.end() ? nullptr : &*found;
}

std::string section_spec::header() const {
  return repeated ? fmt::format("[[{}]]", path) : fmt::format("[{}]", path);
}

const section_spec& section(std::string_view path) {
  const auto all = sections();
  return *std::find_if(all.begin(), all.end(), [&](const section_spec& s) { return s.path == path; });
}

std::variant<setting, value_error> parse_value(const key_spec& key, std::string_view text) {
  switch (key.type) {
    case value_type::text: return setting{std::string(text)};
    case value_type::text_list: return setting{split(text)};
    case value_type::boolean:
      if (text == "true" || text == "false") return setting{text == "true"};
      return value_error{fmt::format("{} is neither true nor false", in_quotes(text)), ""};
    case value_type::integer: return parse_plain<std::int64_t>(text, "as in 4");
    case value_type::number: return parse_plain<double>(text, "as in 1.5");
    case value_type::size: return from_unit(parse_size(text));
    case value_type::duration: return from_unit(parse_duration(text));
    case value_type::choice: return parse_choice(key, text);
    case value_type::choice_or_count: {
      if (!text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos)
        return parse_plain<std::int64_t>(text, "as in 2048");
      auto word = parse_choice(key, text);
      if (auto* found = std::get_if<setting>(&word)) *found = word_value(std::get<std::int64_t>(*found));
      return word;
    }
    case value_type::headers: return setting{header_list{}};
  }
  return value_error{};
}

void apply_defaults(const section_spec& s, void* target) {
  for (const auto& key : s.keys)
    if (!key.required) store(key, target, std::get<setting>(parse_value(key, key.fallback)));
}

void store(const key_spec& key, void* target, const setting& value) {
  const auto* index = std::get_if<std::int64_t>(&value);
  // A choice may be kept as its name: log.level is text to those who use it.
  if (key.type == value_type::choice && index != nullptr &&
      std::holds_alternative<std::string>(key.member.get(target)))
    key.member.set(target, std::string(key.choices[static_cast<std::size_t>(*index)]));
  else
    key.member.set(target, value);
}

std::string quoted_toml(std::string_view text) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (byte < 0x20 || byte == 0x7f)
      out += fmt::format("\\u{:04X}", byte);
    else if (c == '$' && text.substr(i + 1, 1) == "{")
      out += "$$";
    else
      out += c;
  }
  return out + "\"";
}

std::string to_toml(const key_spec& key, const setting& value) {
  switch (key.type) {
    case value_type::boolean: return std::get<bool>(value) ? "true" : "false";
    case value_type::integer: return fmt::format("{}", std::get<std::int64_t>(value));
    case value_type::number: return fmt::format("{}", std::get<double>(value));
    case value_type::size:
      return fmt::format("\"{}\"", format_size(static_cast<std::uint64_t>(std::get<std::int64_t>(value))));
    case value_type::duration: return fmt::format("\"{}\"", format_duration(std::get<duration>(value)));
    case value_type::choice_or_count:
      if (const auto i = std::get<std::int64_t>(value); i < 0)
        return fmt::format("\"{}\"", key.choices[static_cast<std::size_t>(word_value(i))]);
      return fmt::format("{}", std::get<std::int64_t>(value));
    case value_type::choice:
      if (const auto* i = std::get_if<std::int64_t>(&value))
        return fmt::format("\"{}\"", key.choices[static_cast<std::size_t>(*i)]);
      [[fallthrough]];
    case value_type::text: {
      const auto& text = std::get<std::string>(value);
      return key.secret && !text.empty() ? "\"(hidden)\"" : quoted_toml(text);
    }
    case value_type::text_list: return toml_list(std::get<string_list>(value));
    case value_type::headers: return toml_headers(std::get<header_list>(value), key.secret);
  }
  return "";
}

value_error check_bounds(const key_spec& key, const setting& value) {
  if (!bounded(key)) return {};
  const double v = magnitude(value);
  if (key.type == value_type::choice_or_count && v < 0) return {};  // a word
  if (v == 0 && key.zero_allowed) return {};
  const auto least = magnitude(std::get<setting>(parse_value(key, key.least)));
  const auto most = magnitude(std::get<setting>(parse_value(key, key.most)));
  auto shown = v < 0 && key.type == value_type::size ? fmt::format("{:.0f}", v) : to_toml(key, value);
  std::erase(shown, '"');
  if (!(v >= least))
    return {fmt::format("{} is below the least value, {}", shown, key.least),
            "allowed: " + describe_bounds(key)};
  if (!(v <= most))
    return {fmt::format("{} is above the greatest value, {}", shown, key.most),
            "allowed: " + describe_bounds(key)};
  return {};
}

std::string describe_bounds(const key_spec& key) {
  if (!bounded(key)) return "";
  auto out = fmt::format("{} to {}", key.least, key.most);
  const std::string_view zero = key.type == value_type::duration ? "0s" : "0";
  if (key.zero_allowed)
    out += fmt::format(", or {} ({})", zero, key.special);
  else if (!key.special.empty())
    out += fmt::format(" ({}{})", key.special.substr(0, 2) == "-1" ? "" : "0: ", key.special);
  return out;
}

}  // namespace penstock::conf
