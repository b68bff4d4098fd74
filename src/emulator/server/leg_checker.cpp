#include "emulator/server/leg_checker.hpp"

namespace penstock::emulator {

using simdjson::SUCCESS;
using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

void leg_checker::complain(std::string_view field, std::string_view what) {
  if (failure_) return;
  failure_ = api_failure{400, fmt::format("{}: `{}` {} (parameter={})", leg_, field, what, field),
                         "BadRequestError", std::string(field)};
}

std::optional<element> member(const object& o, std::string_view key) {
  element e;
  if (o.at_key(key).get(e) != SUCCESS) return std::nullopt;
  return e;
}

bool is_true(const object& o, std::string_view key) {
  bool on = false;
  return o.at_key(key).get(on) == SUCCESS && on;
}

void want_flag(const object& o, std::string_view path, std::string_view key, bool wanted,
               leg_checker& check) {
  const auto e = member(o, key);
  bool on = false;
  if (e && !e->is_null() && e->get(on) != SUCCESS)
    return check.complain(fmt::format("{}{}", path, key), "must be a boolean");
  if (on != wanted)
    check.complain(fmt::format("{}{}", path, key), wanted ? "must be true" : "must not be true");
}

void want_number(const object& o, std::string_view key, std::int64_t wanted, bool required,
                 leg_checker& check) {
  const auto e = member(o, key);
  std::int64_t v = 0;
  if (!e || e->is_null()) {
    if (required) check.complain(key, fmt::format("must be {} and is missing", wanted));
  } else if (e->get(v) != SUCCESS || v != wanted) {
    check.complain(key, fmt::format("must be {}, got {}", wanted, std::string(simdjson::minify(*e))));
  }
}

void want_absent(const object& o, std::string_view path, std::string_view key, leg_checker& check) {
  if (const auto e = member(o, key); e && !e->is_null())
    check.complain(fmt::format("{}{}", path, key), "must be null or left out");
}

std::optional<element> required(const object& o, std::string_view path, std::string_view key,
                                leg_checker& check) {
  const auto e = member(o, key);
  if (e && !e->is_null()) return e;
  check.complain(fmt::format("{}{}", path, key), "is missing");
  return std::nullopt;
}

bool read_blocks(const element& list, std::string_view field, std::vector<block_id>& blocks,
                 leg_checker& check) {
  array ids;
  bool good = list.get(ids) == SUCCESS;
  if (good) {
    for (const element one : ids) {
      std::uint64_t id = 0;
      good = good && one.get(id) == SUCCESS && id < no_block;
      blocks.push_back(static_cast<block_id>(id));
    }
  }
  if (!good) check.complain(field, "is not the list of block ids of the prefill answer");
  return good;
}

void want_single(const object& body, leg_checker& check) {
  if (member(body, "n")) want_number(body, "n", 1, false, check);
  if (member(body, "best_of")) want_number(body, "best_of", 1, false, check);
  if (is_true(body, "use_beam_search")) check.complain("use_beam_search", "cannot be handed off");
  if (is_true(body, "echo")) check.complain("echo", "cannot be handed off");
  want_absent(body, "", "prompt_logprobs", check);
  array prompts;
  const auto prompt = member(body, "prompt");
  if (!prompt || prompt->get(prompts) != SUCCESS || prompts.size() == 0) return;
  std::int64_t id = 0;
  if (prompts.at(0).get(id) != SUCCESS)
    check.complain("prompt", "must be one prompt, not an array of prompts");
}

void want_whole(const object& body, leg_checker& check) {
  want_flag(body, "", "stream", false, check);
  want_absent(body, "", "stream_options", check);
}

void want_ports(std::uint64_t port, std::string_view field, leg_checker& check) {
  if (port == 0 || port > 65535) check.complain(field, "is not a port");
}

}  // namespace penstock::emulator
