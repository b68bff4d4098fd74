#include "proxy/config/read_value.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "proxy/config/expand.hpp"
#include "proxy/config/text.hpp"

namespace penstock::conf {
namespace {

// How the value that was found would have to be written.
std::string rewrite_hint(const key_spec& key, const tree_value& value) {
  const bool is_text = value.kind == value_kind::string;
  switch (key.type) {
    case value_type::duration:
      if (value.kind == value_kind::integer && value.integer >= 0)
        return fmt::format("write \"{}s\" for seconds", value.integer);
      break;
    case value_type::boolean:
      if (is_text && (value.text == "true" || value.text == "false"))
        return fmt::format("write {} without quotes", value.text);
      break;
    case value_type::integer:
    case value_type::number:
      if (is_text && !value.text.empty() &&
          value.text.find_first_not_of("0123456789.-") == std::string::npos && value.text.size() < 20)
        return fmt::format("write {} without quotes", value.text);
      break;
    case value_type::text_list:
      if (is_text) return fmt::format("write [{}]", in_quotes(value.text));
      break;
    case value_type::choice: return fmt::format("one of: {}", join(key.choices));
    case value_type::choice_or_count: return fmt::format("one of: {}, or a number", join(key.choices));
    default: break;
  }
  return fmt::format("as in {}", example(key.type));
}

constexpr std::string_view article(value_type type) { return type == value_type::integer ? "an" : "a"; }

bool ends_character(char next) { return (static_cast<unsigned char>(next) & 0xc0U) != 0x80U; }

}  // namespace

std::string value_reader::found(const tree_value& value, bool secret) {
  switch (value.kind) {
    case value_kind::string: return secret ? "a string" : "the string " + in_quotes(value.text);
    case value_kind::integer: return secret ? "an integer" : fmt::format("the integer {}", value.integer);
    case value_kind::number: return secret ? "a number" : fmt::format("the number {}", value.number);
    case value_kind::boolean: return value.boolean ? "the boolean true" : "the boolean false";
    case value_kind::date: return "a date or time";
    case value_kind::array: return "a list";
    case value_kind::table: return "a table";
  }
  return "";
}

std::optional<setting> value_reader::mismatch(const key_spec& key, const std::string& path,
                                              const tree_value& value) {
  out_.error(path, value.at,
             fmt::format("{}: found {}, but {} {} is wanted", plain_key(path), found(value, key.secret),
                         article(key.type), name(key.type)),
             rewrite_hint(key, value));
  return std::nullopt;
}

std::optional<setting> value_reader::bounded(const key_spec& key, const std::string& path,
                                             const tree_value& value, setting read) {
  auto bad = check_bounds(key, read);
  if (bad.what.empty()) return read;
  out_.error(path, value.at, fmt::format("{}: {}", plain_key(path), bad.what), std::move(bad.hint));
  return std::nullopt;
}

std::optional<setting> value_reader::read(const key_spec& key, const std::string& path,
                                          const tree_value& value) {
  switch (key.type) {
    case value_type::boolean:
      if (value.kind == value_kind::boolean) return setting{value.boolean};
      break;
    case value_type::integer:
      if (value.kind == value_kind::integer) return bounded(key, path, value, setting{value.integer});
      break;
    case value_type::number:
      if (value.kind == value_kind::number)
        return bounded(key, path, value, setting{value.number + 0.0});  // no -0
      if (value.kind == value_kind::integer)
        return bounded(key, path, value, setting{static_cast<double>(value.integer)});
      break;
    case value_type::choice_or_count:
      if (value.kind == value_kind::integer) {
        key_spec count = key;  // negative numbers stand for words, but are not written so
        count.type = value_type::integer;
        return bounded(count, path, value, setting{value.integer});
      }
      [[fallthrough]];
    case value_type::size:
      if (value.kind == value_kind::integer) return bounded(key, path, value, setting{value.integer});
      [[fallthrough]];
    case value_type::duration:
    case value_type::choice:
    case value_type::text:
      if (value.kind == value_kind::string) return read_text(key, path, value);
      break;
    case value_type::text_list:
      if (value.kind == value_kind::array) return read_list(key, path, value);
      break;
    case value_type::headers:
      if (value.kind == value_kind::table) return read_headers(key, path, value);
      break;
  }
  return mismatch(key, path, value);
}

std::optional<setting> value_reader::read_text(const key_spec& key, const std::string& path,
                                               const tree_value& value) {
  auto text = expanded(path, value);
  if (!text) return std::nullopt;
  auto parsed = parse_value(key, *text);
  if (auto* good = std::get_if<setting>(&parsed)) return bounded(key, path, value, std::move(*good));
  auto& bad = std::get<value_error>(parsed);
  out_.error(path, value.at, fmt::format("{}: {}", plain_key(path), bad.what), std::move(bad.hint));
  return std::nullopt;
}

std::optional<setting> value_reader::read_list(const key_spec& key, const std::string& path,
                                               const tree_value& value) {
  string_list items;
  for (std::size_t i = 0; i < value.items.size(); ++i) {
    const auto& item = value.items[i];
    const auto item_path = fmt::format("{}[{}]", path, i);
    out_.place(item_path, item.at);
    if (item.kind != value_kind::string) {
      out_.error(
          item_path, item.at,
          fmt::format("{}: found {}, but only strings are wanted", plain_key(path), found(item, key.secret)),
          fmt::format("as in {}", example(key.type)));
      items.emplace_back();
      continue;
    }
    auto text = expanded(item_path, item);
    items.push_back(text ? *std::move(text) : std::string());
  }
  return setting{std::move(items)};
}

std::optional<setting> value_reader::read_headers(const key_spec& key, const std::string& path,
                                                  const tree_value& value) {
  header_list fields;
  for (const auto& member : value.members) {
    const auto field_path = fmt::format("{}.{}", path, member.key);
    out_.place(field_path, member.value.at);
    if (member.value.kind != value_kind::string) {
      out_.error(field_path, member.value.at,
                 fmt::format("{}: found {} for {}, but a string is wanted", plain_key(path),
                             found(member.value, key.secret), in_quotes(member.key)),
                 fmt::format("as in {}", example(key.type)));
      continue;
    }
    auto text = expanded(field_path, member.value);
    fields.emplace_back(member.key, text ? *std::move(text) : std::string());
  }
  return setting{std::move(fields)};
}

std::optional<std::string> value_reader::expanded(const std::string& path, const tree_value& value) {
  auto result = expand(value.text, env_);
  if (auto* good = std::get_if<std::string>(&result)) return std::move(*good);
  auto& bad = std::get<expand_error>(result);
  out_.error(path, inside(value, bad.token, bad.occurrence), fmt::format("{}: {}", plain_key(path), bad.what),
             std::move(bad.hint));
  return std::nullopt;
}

std::size_t value_reader::offset_of(position at) {
  if (lines_.empty()) {
    lines_.push_back(text_.substr(0, 3) == "\xef\xbb\xbf" ? 3 : 0);
    for (std::size_t i = 0; i < text_.size(); ++i)
      if (text_[i] == '\n') lines_.push_back(i + 1);
  }
  if (at.line == 0 || at.line > lines_.size()) return text_.size();
  auto offset = lines_[at.line - 1];
  for (unsigned column = 1; column < at.column && offset < text_.size(); ++column) {
    ++offset;
    while (offset < text_.size() && !ends_character(text_[offset])) ++offset;
  }
  return offset;
}

// Where in the file the string `value` holds the token; the value's begin when it was written with escapes.
position value_reader::inside(const tree_value& value, std::string_view token, std::size_t occurrence) {
  if (out_.crowded()) return value.at;
  const auto first = offset_of(value.at);
  const auto raw = text_.substr(first, std::max(offset_of(value.end), first) - first);
  auto at = raw.find(token);
  for (; occurrence > 0 && at != std::string_view::npos; --occurrence) at = raw.find(token, at + 1);
  if (at == std::string_view::npos) return value.at;
  position place = value.at;
  for (std::size_t i = 0; i < at; ++i) {
    if (raw[i] == '\n')
      place = {place.line + 1, 1};
    else if (ends_character(raw[i + 1]))
      ++place.column;
  }
  return place;
}

}  // namespace penstock::conf
