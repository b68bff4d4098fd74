// SGLang: the same body on both legs, with the prefill engine's bootstrap server and a room for each choice.
#include <charconv>

#include "emulator/server/leg_checker.hpp"

namespace penstock::emulator {
namespace {

using simdjson::SUCCESS;
using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

// SGLang's SGLANG_BOOTSTRAP_PORT.
constexpr std::uint16_t default_port = 8998;

// How many sequences a body is: prompts times n.
std::size_t choices_of(const object& body) {
  std::int64_t n = 1;
  if (body.at_key("n").get(n) != SUCCESS || n < 1) n = 1;
  std::size_t prompts = 1;
  array list;
  std::int64_t id = 0;
  if (body.at_key("prompt").get(list) == SUCCESS && list.size() > 0 && list.at(0).get(id) != SUCCESS)
    prompts = list.size();
  return prompts * static_cast<std::size_t>(n);
}

// The values of a field: itself for one choice, else an array with one entry for each.
std::vector<element> entries(const object& body, std::string_view key, std::size_t choices,
                             leg_checker& check) {
  const auto e = member(body, key);
  array list;
  const bool is_list = e && e->get(list) == SUCCESS;
  if (!e) {
    check.complain(key, "is missing");
  } else if (choices > 1 && (!is_list || list.size() != choices)) {
    check.complain(key, fmt::format("must be an array of {}, one for each choice", choices));
  } else if (!is_list) {
    return {*e};
  } else if (list.size() == choices) {
    return {list.begin(), list.end()};
  } else {
    check.complain(key, fmt::format("must have {} entries", choices));
  }
  return {};
}

// The rank that does a prefill follows from its room.
void want_rank(const leg_call& call, std::uint64_t room, leg_checker& check) {
  std::uint64_t rank = 0;
  const std::string_view asked = call.dp_rank;
  if (asked.empty()) return;
  const auto [end, ec] = std::from_chars(asked.data(), asked.data() + asked.size(), rank);
  if (ec != std::errc{} || rank != room % call.options.dp_size) {
    check.complain("bootstrap_room",
                   fmt::format("{} belongs to rank {} of {}, but x-data-parallel-rank is {}", room,
                               room % call.options.dp_size, call.options.dp_size, asked));
  }
}

void read_rooms(const leg_call& call, std::size_t choices, hand_off_leg& leg, leg_checker& check) {
  for (const element& e : entries(call.body, "bootstrap_room", choices, check)) {
    std::int64_t room = 0;
    if (e.get(room) != SUCCESS || room < 0)
      return check.complain("bootstrap_room", "must be a number of 63 bits");
    if (leg.kind == leg_kind::prefill) want_rank(call, static_cast<std::uint64_t>(room), check);
    std::string id = std::to_string(room);
    for (const std::string& other : leg.ids) {
      if (other == id) check.complain("bootstrap_room", "must be another one for each choice");
    }
    leg.ids.push_back(std::move(id));
  }
}

// All choices of a request are prefilled by one engine.
void read_address(const leg_call& call, std::size_t choices, hand_off_leg& leg, leg_checker& check) {
  for (const element& e : entries(call.body, "bootstrap_host", choices, check)) {
    std::string_view host;
    if (e.get(host) != SUCCESS || host.empty()) return check.complain("bootstrap_host", "must be a host");
    if (!leg.remote_host.empty() && leg.remote_host != host)
      return check.complain("bootstrap_host", "must be the same for all choices");
    leg.remote_host = host;
  }
  for (const element& e : entries(call.body, "bootstrap_port", choices, check)) {
    std::uint64_t port = default_port;
    if (!e.is_null() && e.get(port) != SUCCESS)
      return check.complain("bootstrap_port", "must be a port or null");
    want_ports(port, "bootstrap_port", check);
    leg.remote_port = static_cast<std::uint16_t>(port);
  }
  const std::uint16_t own = call.options.side_port;
  if (leg.kind == leg_kind::prefill && own != 0 && leg.remote_port != own)
    check.complain("bootstrap_port", fmt::format("must be {}, this engine's", own));
}

}  // namespace

leg_reading read_sglang(const leg_call& call) {
  leg_reading r;
  r.leg.kind = call.options.role == engine_role::prefill ? leg_kind::prefill : leg_kind::decode;
  r.leg.waits = true;
  // SGLang's Responses API drops the fields of a hand-off, and there is no Anthropic one with them.
  const bool carried = call.api == engine_api::chat || call.api == engine_api::completions;
  const auto room = member(call.body, "bootstrap_room");
  if (!carried || !room || room->is_null()) {
    r.failure = api_failure{400,
                            "Invalid request: Disaggregated request received without bootstrap room id "
                            "(parameter=bootstrap_room)",
                            "BadRequestError", "bootstrap_room"};
    return r;
  }
  leg_checker check(r.leg.kind == leg_kind::prefill ? "SGLang prefill leg" : "SGLang decode leg");
  const std::size_t choices = choices_of(call.body);
  read_rooms(call, choices, r.leg, check);
  read_address(call, choices, r.leg, check);
  if (is_true(call.body, "echo")) check.complain("echo", "cannot be handed off");
  r.failure = check.take();
  return r;
}

}  // namespace penstock::emulator
