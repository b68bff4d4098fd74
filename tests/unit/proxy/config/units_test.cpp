#include "proxy/config/units.hpp"

#include <doctest/doctest.h>

#include <chrono>

using namespace penstock;
using namespace penstock::conf;
using namespace std::chrono_literals;

namespace {

duration good_duration(std::string_view text) {
  const auto r = parse_duration(text);
  INFO(text);
  REQUIRE(std::holds_alternative<duration>(r));
  return std::get<duration>(r);
}

std::string bad_duration(std::string_view text) {
  const auto r = parse_duration(text);
  INFO(text);
  REQUIRE(std::holds_alternative<unit_error>(r));
  return std::get<unit_error>(r).what + " | " + std::get<unit_error>(r).hint;
}

std::uint64_t good_size(std::string_view text) {
  const auto r = parse_size(text);
  INFO(text);
  REQUIRE(std::holds_alternative<std::uint64_t>(r));
  return std::get<std::uint64_t>(r);
}

std::string bad_size(std::string_view text) {
  const auto r = parse_size(text);
  INFO(text);
  REQUIRE(std::holds_alternative<unit_error>(r));
  return std::get<unit_error>(r).what + " | " + std::get<unit_error>(r).hint;
}

}  // namespace

TEST_CASE("durations are whole numbers with units") {
  CHECK(good_duration("30s") == 30s);
  CHECK(good_duration("1m30s") == 90s);
  CHECK(good_duration("250ms") == 250ms);
  CHECK(good_duration("0s") == 0s);
  CHECK(good_duration("007us") == 7us);
  CHECK(good_duration("1h2m3s4ms5us") == 1h + 2min + 3s + 4ms + 5us);
  CHECK(good_duration("2562047h") == 2562047h);
}

TEST_CASE("what is no duration says how to write it") {
  const std::string units = "units: us, ms, s, m, h, as in \"30s\" or \"1m30s\"";
  CHECK(bad_duration("") == "\"\" is no duration: it is empty | " + units);
  CHECK(bad_duration("30") == "\"30\" is no duration: it has no unit | write \"30s\" for seconds");
  CHECK(bad_duration("1m30") == "\"1m30\" is no duration: it has no unit | write \"30s\" for seconds");
  CHECK(bad_duration("-1s") == "\"-1s\" is no duration: it is negative | 0s is the least");
  CHECK(bad_duration("1.5s") ==
        "\"1.5s\" is no duration: fractions are not read | use a smaller unit, as in \"1s500ms\"");
  CHECK(bad_duration("5min") == "\"5min\" is no duration: unknown unit \"min\" | " + units);
  CHECK(bad_duration("30 s") == "\"30 s\" is no duration: unknown unit \" s\" | " + units);
  CHECK(bad_duration("30S") == "\"30S\" is no duration: unknown unit \"S\" | " + units);
  CHECK(bad_duration("s") == "\"s\" is no duration: a number is missing | " + units);
  CHECK(bad_duration("30s1m") ==
        "\"30s1m\" is no duration: units must fall and occur once | as in \"1h30m\"");
  CHECK(bad_duration("1s1s") == "\"1s1s\" is no duration: units must fall and occur once | as in \"1h30m\"");
  // 2562048 h no longer fit into 63 bits of nanoseconds; neither does a sum that overflows at its end.
  CHECK(bad_duration("2562048h") == "\"2562048h\" is no duration: the number is too large | " + units);
  CHECK(bad_duration("2562047h48m") == "\"2562047h48m\" is no duration: the number is too large | " + units);
  CHECK(bad_duration("99999999999999999999s") ==
        "\"99999999999999999999s\" is no duration: the number is too large | " + units);
}

TEST_CASE("sizes") {
  CHECK(good_size("64MiB") == 64U << 20U);
  CHECK(good_size("32KiB") == 32768);
  CHECK(good_size("1MB") == 1'000'000);
  CHECK(good_size("1kB") == 1000);
  CHECK(good_size("1KB") == 1000);
  CHECK(good_size("512B") == 512);
  CHECK(good_size("4096") == 4096);
  CHECK(good_size("0") == 0);
  CHECK(good_size("8388607TiB") == 8388607ULL << 40U);
}

TEST_CASE("what is no size says how to write it") {
  const std::string units = "units: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB";
  CHECK(bad_size("") == "\"\" is no size: it is empty | " + units);
  CHECK(bad_size("MiB") == "\"MiB\" is no size: a number is missing | " + units);
  CHECK(bad_size("-1") == "\"-1\" is no size: it is negative | 0 is the least");
  CHECK(bad_size("1.5GiB") ==
        "\"1.5GiB\" is no size: fractions are not read | use a smaller unit, as in \"1536MiB\"");
  CHECK(bad_size("64M") ==
        "\"64M\" is no size: the unit could be 1000 or 1024 based | write \"64MiB\" or \"64MB\"");
  CHECK(bad_size("64K") ==
        "\"64K\" is no size: the unit could be 1000 or 1024 based | write \"64KiB\" or \"64kB\"");
  CHECK(bad_size("64k") ==
        "\"64k\" is no size: the unit could be 1000 or 1024 based | write \"64KiB\" or \"64kB\"");
  CHECK(bad_size("64mib") == "\"64mib\" is no size: unknown unit \"mib\" | " + units);
  CHECK(bad_size("64 MiB") == "\"64 MiB\" is no size: unknown unit \" MiB\" | " + units);
  CHECK(bad_size("64MiB1") == "\"64MiB1\" is no size: unknown unit \"MiB1\" | " + units);
  CHECK(bad_size("8388608TiB") == "\"8388608TiB\" is no size: the number is too large | " + units);
  CHECK(bad_size("9223372036854775808") ==
        "\"9223372036854775808\" is no size: the number is too large | " + units);
}

TEST_CASE("printed values parse back") {
  for (const duration d : {duration{0}, duration{1us}, duration{999ms}, duration{1s}, duration{61s},
                           duration{3600s}, duration{86399s} + 1ms + 1us, duration{2562047h}}) {
    CHECK(good_duration(format_duration(d)) == d);
  }
  CHECK(format_duration(90s) == "1m30s");
  CHECK(format_duration(600s) == "10m");
  CHECK(format_duration(168h) == "168h");
  CHECK(format_duration(duration{1}) == "0s");
  for (const std::uint64_t n : {0ULL, 1ULL, 999ULL, 1000ULL, 1024ULL, 1536ULL, 1000000ULL, 1ULL << 20U,
                                3ULL << 30U, 1ULL << 40U, 1234567ULL, 9223372036854775807ULL}) {
    CHECK(good_size(format_size(n)) == n);
  }
  CHECK(format_size(33554432) == "32MiB");
  CHECK(format_size(1000000) == "1MB");
  CHECK(format_size(1234567) == "1234567");
}
