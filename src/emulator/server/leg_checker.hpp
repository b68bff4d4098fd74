// What the readers of legs share: members of a body, and the first complaint about them.
#pragma once

#include <fmt/format.h>
#include <simdjson.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "emulator/server/hand_off.hpp"

namespace penstock::emulator {

struct leg_call {
  const hand_off_options& options;
  engine_api api;
  const simdjson::dom::object& body;
  std::string_view dp_rank;  // of the header x-data-parallel-rank, or empty
};

// Remembers the first complaint about a leg.
class leg_checker {
 public:
  explicit leg_checker(std::string_view leg) : leg_(leg) {}

  void complain(std::string_view field, std::string_view what);
  std::optional<api_failure> take() { return std::move(failure_); }

 private:
  std::string_view leg_;
  std::optional<api_failure> failure_;
};

std::optional<simdjson::dom::element> member(const simdjson::dom::object& o, std::string_view key);
bool is_true(const simdjson::dom::object& o, std::string_view key);

// Each takes the path in front of `key`, for messages. A flag that is left out counts as false.
void want_flag(const simdjson::dom::object& o, std::string_view path, std::string_view key, bool wanted,
               leg_checker& check);
void want_number(const simdjson::dom::object& o, std::string_view key, std::int64_t wanted, bool required,
                 leg_checker& check);
void want_absent(const simdjson::dom::object& o, std::string_view path, std::string_view key,
                 leg_checker& check);
// A member that is there and not null.
std::optional<simdjson::dom::element> required(const simdjson::dom::object& o, std::string_view path,
                                               std::string_view key, leg_checker& check);

template <class Value>
void read_required(const simdjson::dom::object& o, std::string_view path, std::string_view key, Value& value,
                   leg_checker& check) {
  const auto e = required(o, path, key, check);
  if (e && e->get(value) != simdjson::SUCCESS)
    check.complain(fmt::format("{}{}", path, key), "is not of the right type");
}

// An array of numbers; false, with a complaint, where it is none.
bool read_blocks(const simdjson::dom::element& list, std::string_view field, std::vector<block_id>& blocks,
                 leg_checker& check);

// One prompt and one choice: more share one hand-off and the second finds foreign KV.
void want_single(const simdjson::dom::object& body, leg_checker& check);
// A prefill leg answers in one piece.
void want_whole(const simdjson::dom::object& body, leg_checker& check);
void want_ports(std::uint64_t port, std::string_view field, leg_checker& check);

leg_reading read_nixl(const leg_call& call);
leg_reading read_moriio(const leg_call& call);
leg_reading read_mooncake(const leg_call& call);
leg_reading read_sglang(const leg_call& call);
leg_reading read_trtllm(const leg_call& call);

}  // namespace penstock::emulator
