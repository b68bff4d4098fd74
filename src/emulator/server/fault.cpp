#include "emulator/server/fault.hpp"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <utility>

namespace penstock::emulator {
namespace {

template <class Number>
bool to_number(std::string_view text, Number& value) {
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  return ec == std::errc{} && end == text.data() + text.size();
}

bool to_delay(std::string_view text, std::chrono::milliseconds& value) {
  std::int64_t scale = 1;
  if (text.ends_with("ms")) {
    text.remove_suffix(2);
  } else if (text.ends_with("s")) {
    text.remove_suffix(1);
    scale = 1000;
  }
  std::uint32_t n = 0;
  if (!to_number(text, n)) return false;
  value = std::chrono::milliseconds(std::int64_t{n} * scale);
  return true;
}

struct break_name {
  std::string_view name;
  break_kind kind;
};
constexpr break_name break_names[] = {
    {"die-after", break_kind::die},
    {"cut-after", break_kind::cut},
    {"half-chunk-after", break_kind::half_chunk},
    {"garbage-after", break_kind::garbage},
    {"stall-after", break_kind::stall},
    {"exit-after", break_kind::exit},
    {"error-event-after", break_kind::error_event},
    {"error-only-after", break_kind::error_only},
    {"no-end-after", break_kind::no_end},
};

bool set_flag(std::string_view name, fault_plan& plan) {
  if (name == "no-end") return plan.no_marker = true;
  if (name == "no-last-chunk") return plan.no_last_chunk = true;
  if (name == "reset") return plan.reset = true;
  if (name == "close") return plan.close = true;
  if (name == "garbage") return plan.garbage = true;
  if (name == "informational") return plan.informational = true;
  if (name == "half-answer") return plan.half_answer = true;
  if (name == "exit-half") return plan.half_answer = plan.exit_end = true;
  if (name == "exit-end") return plan.exit_end = true;
  if (name == "no-hand-off") return plan.no_hand_off = true;
  if (name == "load-failure") return plan.load_failure = true;
  return false;
}

// An error status, with or without a name: 429, 503=7 (Retry-After), status=418.
bool set_status(std::string_view name, std::string_view value, fault_plan& plan) {
  if (name == "status") return to_number(value, plan.status) && plan.status >= 400 && plan.status <= 599;
  if (name.size() != 3 || !to_number(name, plan.status) || plan.status < 400 || plan.status > 599)
    return false;
  if (value.empty()) {
    plan.retry_after = plan.status == 429 ? 1 : 0;
    return true;
  }
  return to_number(value, plan.retry_after);
}

bool set_dribble(std::string_view value, fault_plan& plan) {
  const std::size_t slash = value.find('/');
  if (slash != std::string_view::npos && !to_delay(value.substr(slash + 1), plan.dribble_gap)) return false;
  return to_number(value.substr(0, slash), plan.dribble) && plan.dribble > 0;
}

// The actions that take a value; empty when the name is not one of them.
std::optional<bool> set_value(std::string_view name, std::string_view value, fault_plan& plan) {
  for (const break_name& b : break_names) {
    if (b.name != name) continue;
    plan.breaks = b.kind;
    return to_number(value, plan.break_after);
  }
  if (name == "slow") return to_number(value, plan.slow) && plan.slow >= 1 && plan.slow <= 1e6;
  if (name == "slow-transfer")
    return to_number(value, plan.slow_transfer) && plan.slow_transfer >= 1 && plan.slow_transfer <= 1e9;
  if (name == "delay-head") return to_delay(value, plan.delay_head);
  if (name == "delay-first") return to_delay(value, plan.delay_first);
  if (name == "dribble") return set_dribble(value, plan);
  if (name == "chunk-bytes") return to_number(value, plan.chunk_bytes) && plan.chunk_bytes > 0;
  if (name == "events-per-chunk") return to_number(value, plan.events_per_chunk) && plan.events_per_chunk > 0;
  if (name == "big-event") return to_number(value, plan.big_event) && plan.big_event <= (64U << 20);
  if (name == "retry-after") return to_number(value, plan.retry_after);
  return std::nullopt;
}

std::string apply_one(std::string_view action, fault_plan& plan) {
  const std::size_t equals = action.find('=');
  const std::string_view name = action.substr(0, equals);
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view{} : action.substr(equals + 1);
  if (equals == std::string_view::npos && set_flag(name, plan)) return {};
  if (const auto done = set_value(name, value, plan)) {
    return *done ? std::string{} : fmt::format("fault \"{}\": the value does not fit", action);
  }
  if (set_status(name, value, plan)) return {};
  return fmt::format("unknown fault \"{}\"", action);
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Takes the leg that an action is limited to off its front; nothing when it is for all.
std::optional<leg_kind> take_leg(std::string_view& action) {
  for (const auto& [prefix, leg] : {std::pair{std::string_view("prefill:"), leg_kind::prefill},
                                    std::pair{std::string_view("decode:"), leg_kind::decode}}) {
    if (!action.starts_with(prefix)) continue;
    action.remove_prefix(prefix.size());
    return leg;
  }
  return std::nullopt;
}

template <class Visit>
std::string each_action(std::string_view list, Visit visit) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    const std::string_view one = trim(list.substr(0, comma));
    if (!one.empty()) {
      if (std::string error = visit(one); !error.empty()) return error;
    }
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return {};
}

std::string parse_when(std::string_view text, fault_rule& rule) {
  using when = fault_rule::when;
  const std::size_t colon = text.find(':');
  const std::string_view word = text.substr(0, colon);
  bool good = false;
  if (colon == std::string_view::npos) {
    rule.applies = when::chance;
    good = to_number(text, rule.chance) && rule.chance >= 0 && rule.chance <= 1;
  } else {
    rule.applies = word == "every" ? when::every : word == "first" ? when::first : when::after;
    good = (word == "every" || word == "first" || word == "after") &&
           to_number(text.substr(colon + 1), rule.count) && (word != "every" || rule.count > 0);
  }
  return good ? std::string{} : fmt::format("\"@{}\": give a probability, every:K, first:K or after:K", text);
}

}  // namespace

std::string apply_faults(std::string_view actions, fault_plan& plan, leg_kind leg) {
  return each_action(actions, [&](std::string_view one) -> std::string {
    fault_plan elsewhere;  // what is for the other leg must be right all the same
    const auto only = take_leg(one);
    if (only && *only != leg) return apply_one(one, elsewhere);
    if (one != "none") return apply_one(one, plan);
    plan = fault_plan{};
    return {};
  });
}

bool concerns(const fault_rule& rule, leg_kind leg) {
  for (std::string_view action : rule.actions) {
    const auto only = take_leg(action);
    if (!only || *only == leg) return true;
  }
  return false;
}

std::string parse_fault_rule(std::string_view text, fault_rule& rule) {
  rule.text = text;
  const std::size_t at = text.find('@');
  if (at != std::string_view::npos) {
    if (std::string error = parse_when(trim(text.substr(at + 1)), rule); !error.empty()) return error;
  }
  return each_action(text.substr(0, at), [&](std::string_view one) -> std::string {
    if (one == "refuse") return rule.refuse = true, std::string{};
    if (one == "reset-accept") return rule.reset_accept = true, std::string{};
    if (one == "unhealthy") return rule.unhealthy = true, std::string{};
    if (one == "bad-metrics") return rule.bad_metrics = true, std::string{};
    rule.actions.emplace_back(one);
    fault_plan scratch;
    return apply_faults(one, scratch);
  });
}

bool hits(fault_rule& rule, prng& random) {
  ++rule.seen;
  switch (rule.applies) {
    case fault_rule::when::always: return true;
    case fault_rule::when::chance: return random.unit() < rule.chance;
    case fault_rule::when::every: return rule.seen % rule.count == 0;
    case fault_rule::when::first: return rule.seen <= rule.count;
    case fault_rule::when::after: return rule.seen > rule.count;
  }
  return false;
}

std::string_view fault_help() {
  return R"(Faults: ACTION{,ACTION}[@WHEN], e.g. --fault die-after=5@0.1 --fault 503=2@every:3
  WHEN            a probability (0.1), every:K, first:K or after:K requests; default: all
  A request can ask for its own: "x-emulator-fault: die-after=5,slow=2"; "none" clears the switches.
  At run time: POST /debug/faults with one rule a line replaces all switches.
  The answer breaks off after N tokens (over all choices; a whole answer then never starts):
    die-after=N           RST
    cut-after=N           FIN without the last chunk
    half-chunk-after=N    half a chunk, then FIN (a whole answer: half of its body)
    garbage-after=N       bytes that are no chunk, then FIN
    stall-after=N         silence on an open connection
    exit-after=N          the process exits with status 3
    error-event-after=N   error event, end marker, clean end
    error-only-after=N    error event, clean end
    no-end-after=N        clean end without end marker
  The whole answer:
    no-end                all tokens, no end marker
    no-last-chunk         all of it, FIN in place of the last chunk
    reset, close          RST or FIN once the request was read, no answer
    garbage               an answer that is not HTTP
    400..599[=S]          that status with an error body; S seconds of Retry-After (429: 1)
    status=N, retry-after=S   the same in words
    informational         a 103 ahead of the answer
    half-answer           half of a whole answer, then FIN
    exit-half, exit-end   the process exits after half of, or all of, the answer
  Of a hand-off (see --connector); with prefill: or decode: in front any fault is for that leg alone:
    no-hand-off           a prefill answer without kv_transfer_params, and no lease
    load-failure          a decode leg's KV does not arrive (--kv-load-failure-policy)
    slow-transfer=X       it arrives X times later
  Pace and framing (delays: 200ms, 2s; a plain number is milliseconds):
    slow=X                tokens come X times later
    delay-head=D          nothing is done for D
    delay-first=D         after the head of a stream nothing for D
    dribble=N[/D]         writes of N bytes, D apart (1ms)
    chunk-bytes=N         chunks of N bytes, cutting events
    events-per-chunk=N    N events in one chunk
    big-event=N           one extra event with N bytes of content
  Of the server (switches only):
    refuse                not listening: connections are refused
    reset-accept          RST to accepted connections
    unhealthy             /health and /ping answer 503
    bad-metrics           /metrics is nonsense
)";
}

}  // namespace penstock::emulator
