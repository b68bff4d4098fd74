#include "proxy/config/schema.hpp"

#include <doctest/doctest.h>
#include <fmt/core.h>

#include <set>

#include "helpers.hpp"

using namespace penstock;
using namespace penstock::conf;
using namespace penstock::conf::testing;

namespace {

// A whole configuration in which one key has the value written as `toml`.
std::string with(const section_spec& s, const key_spec& key, std::string_view toml) {
  const auto line = fmt::format("{} = {}\n", key.name, toml);
  if (s.path == "pool")
    return fmt::format("[[pool]]\n{}[[pool.endpoint]]\nurl = \"http://engine:8000\"\n", line);
  if (s.path == "pool.endpoint")
    return fmt::format("[[pool]]\n[[pool.endpoint]]\n{}{}",
                       key.required ? "" : "url = \"http://engine:8000\"\n", line);
  if (s.path == "pool.disaggregation")
    return fmt::format("[[pool]]\n[pool.disaggregation]\n{}[[pool.endpoint]]\nurl = \"http://engine:8000\"\n",
                       line);
  return fmt::format("[{}]\n{}{}", s.path, line, good_pool);
}

// The error about the key itself; contradictions with other keys' defaults are not of interest here.
std::string error_of(const section_spec& s, const key_spec& key, std::string_view toml) {
  for (const auto& p : load_text(with(s, key, toml)).errors)
    if (p.what.substr(0, s.path.size() + key.name.size() + 2) == fmt::format("{}.{}:", s.path, key.name))
      return to_string(p);
  return "";
}

template <class Each>
void for_every_key(Each each) {
  for (const auto& s : sections())
    for (const auto& key : s.keys) {
      INFO(s.path << "." << key.name);
      each(s, key);
    }
}

std::string as_toml(const key_spec& key, std::string_view plain) {
  const bool number = plain.find_first_not_of("-.0123456789") == std::string_view::npos;
  const bool bare = key.type == value_type::integer || key.type == value_type::number ||
                    key.type == value_type::boolean || (key.type == value_type::choice_or_count && number);
  return bare ? std::string(plain) : fmt::format("\"{}\"", plain);
}

}  // namespace

TEST_CASE("the table is sound: names once, defaults and bounds parse, defaults are inside of bounds") {
  std::set<std::string> seen;
  for_every_key([&](const section_spec& s, const key_spec& key) {
    CHECK(seen.insert(fmt::format("{}.{}", s.path, key.name)).second);
    CHECK_FALSE(key.text.empty());
    CHECK((key.member.get != nullptr));
    CHECK(key.required == !key.sample.empty());
    CHECK(key.least.empty() == key.most.empty());
    const bool words = key.type == value_type::choice || key.type == value_type::choice_or_count;
    CHECK(words == !key.choices.empty());
    if (key.zero_allowed) CHECK_FALSE(key.special.empty());
    const bool has_bounds = key.type == value_type::integer || key.type == value_type::number ||
                            key.type == value_type::size || key.type == value_type::duration ||
                            key.type == value_type::choice_or_count;
    CHECK(has_bounds == !key.least.empty());
    if (!key.required) {
      const auto value = parse_value(key, key.fallback);
      REQUIRE(std::holds_alternative<setting>(value));
      CHECK(check_bounds(key, std::get<setting>(value)).what == "");
    }
    if (has_bounds)
      for (const auto bound : {key.least, key.most}) {
        const auto value = parse_value(key, bound);
        REQUIRE(std::holds_alternative<setting>(value));
        CHECK(check_bounds(key, std::get<setting>(value)).what == "");
      }
  });
}

TEST_CASE("every key reaches a member of its own") {
  // With every key set to something unusual in turn, exactly that one differs from the defaults.
  const auto base = load_text(good_pool);
  REQUIRE(base.value);
  for_every_key([&](const section_spec& s, const key_spec& key) {
    if (s.view == nullptr) return;
    auto c = defaults();
    setting other = key.member.get(s.view(c));
    if (auto* b = std::get_if<bool>(&other)) *b = !*b;
    if (auto* i = std::get_if<std::int64_t>(&other)) *i = *i == 1 ? 0 : 1;
    if (auto* n = std::get_if<double>(&other)) *n += 1;
    if (auto* d = std::get_if<duration>(&other)) *d += std::chrono::seconds(1);
    if (auto* t = std::get_if<std::string>(&other)) *t += "x";
    if (auto* l = std::get_if<string_list>(&other)) l->push_back("x");
    key.member.set(s.find(c), other);
    for (const auto& s2 : sections()) {
      if (s2.view == nullptr) continue;
      for (const auto& k2 : s2.keys) {
        const bool differs = k2.member.get(s2.view(c)) != k2.member.get(s2.view(*base.value));
        CHECK(differs == (&k2 == &key));
      }
    }
  });
}

TEST_CASE("every bound is kept on both sides") {
  for_every_key([](const section_spec& s, const key_spec& key) {
    if (key.least.empty()) return;
    CHECK(error_of(s, key, as_toml(key, key.least)) == "");
    CHECK(error_of(s, key, as_toml(key, key.most)) == "");
    // One base unit beyond.
    const auto beyond = [&](std::string_view bound, int direction) {
      auto value = std::get<setting>(parse_value(key, bound));
      if (auto* i = std::get_if<std::int64_t>(&value)) *i += direction;
      if (auto* n = std::get_if<double>(&value)) *n += direction * 0.001;
      if (auto* d = std::get_if<duration>(&value)) *d += std::chrono::microseconds(direction);
      if (auto* i = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *i);
      if (auto* d = std::get_if<duration>(&value); d != nullptr && d->count() < 0)
        return std::string("\"-1us\"");
      return to_toml(key, value);
    };
    CHECK(error_of(s, key, beyond(key.most, 1)).find("is above the greatest value, ") != std::string::npos);
    const auto below = error_of(s, key, beyond(key.least, -1));
    const auto least = std::get<setting>(parse_value(key, key.least));
    const bool zero_below = key.zero_allowed && least == setting{std::int64_t{1}};
    if (zero_below)
      CHECK(below == "");
    else if (least == setting{duration::zero()})
      CHECK(below.find("it is negative") != std::string::npos);
    else
      CHECK(below.find("is below the least value, ") != std::string::npos);
    const bool zero_ok =
        error_of(s, key, as_toml(key, key.type == value_type::duration ? "0s" : "0")).empty();
    CHECK(zero_ok == (check_bounds(key, std::get<setting>(
                                            parse_value(key, key.type == value_type::duration ? "0s" : "0")))
                          .what == ""));
  });
}

TEST_CASE("every wrong type is told with what was found and what is wanted") {
  struct typed {
    std::string_view toml;
    std::string_view said;
  };
  constexpr typed samples[] = {
      {"\"text\"", "string \"text\""}, {"17", "the integer 17"}, {"1.5", "the number 1.5"},
      {"true", "the boolean true"},    {"[]", "a list"},         {"{}", "a table"},
      {"2020-01-01", "a date or time"}};
  const auto fits = [](value_type t, std::size_t i) {
    switch (t) {
      case value_type::text:
      case value_type::choice:
      case value_type::duration: return i == 0;
      case value_type::choice_or_count:
      case value_type::size: return i <= 1;
      case value_type::integer: return i == 1;
      case value_type::number: return i == 1 || i == 2;
      case value_type::boolean: return i == 3;
      case value_type::text_list: return i == 4;
      case value_type::headers: return i == 5;
    }
    return false;
  };
  for_every_key([&](const section_spec& s, const key_spec& key) {
    for (std::size_t i = 0; i < std::size(samples); ++i) {
      const auto error = error_of(s, key, samples[i].toml);
      INFO(samples[i].toml << " -> " << error);
      CHECK((error.find(": found ") != std::string::npos) == !fits(key.type, i));
      if (fits(key.type, i)) continue;
      CHECK(error.find(fmt::format(" {} is wanted (", name(key.type))) != std::string::npos);
      if (!key.secret) CHECK(error.find(samples[i].said) != std::string::npos);
      if (key.secret && i < 3) CHECK(error.find(samples[i].said) == std::string::npos);
    }
  });
}

TEST_CASE("every choice is understood, and another word is not") {
  for_every_key([](const section_spec& s, const key_spec& key) {
    for (const auto c : key.choices) CHECK(error_of(s, key, as_toml(key, c)) == "");
    if (!key.choices.empty())
      CHECK(error_of(s, key, "\"zzzzzz\"").find("\"zzzzzz\" is none of: ") != std::string::npos);
  });
}

TEST_CASE("bounds in words") {
  const auto words = [](std::string_view s, std::string_view k) {
    return describe_bounds(*section(s).key(k));
  };
  CHECK(words("timeouts", "connect") == "1ms to 1m");
  CHECK(words("timeouts", "total") == "10ms to 168h, or 0s (no limit)");
  CHECK(words("limits", "connections") == "16 to 4000000, or 0 (derived from the limit of open files)");
  CHECK(words("server", "workers") == "0 to 1024 (0: one worker per core of the cgroup quota)");
  CHECK(words("pool.endpoint", "data_parallel_rank") == "-1 to 65535 (-1: none)");
  CHECK(words("server", "listen") == "");
}
