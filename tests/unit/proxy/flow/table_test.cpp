// Every state and event that can meet, as a table. UPDATE_GOLDEN=1 writes it anew.
#include <doctest/doctest.h>

#include <functional>

#include "unit/golden.hpp"
#include "unit/proxy/flow/bench.hpp"

using namespace penstock;
using namespace penstock::flow;
using namespace penstock::flow::testing;

namespace {

using step = std::function<std::string(testing::bench&)>;

struct named_event {
  std::string name;
  step give;
};

struct place {
  std::string name;
  std::function<void(testing::bench&)> go;
  std::vector<std::string> events;
};

plan two() {
  plan p;
  p.candidates = {{.endpoint = {0, 1}}, {.endpoint = {1, 1}}};
  return p;
}

const std::vector<named_event>& events() {
  static const std::vector<named_event> all = {
      {"refused", [](auto& b) { return b.on(refused{{.why = reason::body_too_large}}); }},
      {"body_ready", [](auto& b) { return b.on(body_ready{&b.facts}); }},
      {"picked", [](auto& b) { return b.on(picked{two()}); }},
      {"not_picked", [](auto& b) { return b.on(not_picked{{.why = reason::no_endpoint}}); }},
      {"engine_connected", [](auto& b) { return b.on(engine_connected{false}); }},
      {"engine_unreachable", [](auto& b) { return b.on(engine_unreachable{reason::connect_failed}); }},
      {"request_sent", [](auto& b) { return b.on(request_sent{}); }},
      {"head 200 stream", [](auto& b) { return b.head(); }},
      {"head 200 json", [](auto& b) { return b.head(200, "application/json"); }},
      {"head 429", [](auto& b) { return b.head(429, "application/json"); }},
      {"head 500", [](auto& b) { return b.head(500, "application/json"); }},
      {"frame", [](auto& b) { return b.bytes("data: {\"choices\":[{\"delta\":{\"role\":\"a\"}}]}\n\n"); }},
      {"token", [](auto& b) { return b.bytes("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"); }},
      {"usage",
       [](auto& b) { return b.bytes("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n"); }},
      {"error event", [](auto& b) { return b.bytes("data: {\"error\":{\"message\":\"x\"}}\n\n"); }},
      {"[DONE]", [](auto& b) { return b.bytes("data: [DONE]\n\n"); }},
      {"half an event", [](auto& b) { return b.bytes("data: {\"cho"); }},
      {"engine_end", [](auto& b) { return b.on(engine_end{}); }},
      {"engine_lost", [](auto& b) { return b.on(engine_lost{false}); }},
      {"garbage", [](auto& b) { return b.on(engine_lost{true}); }},
      {"client_blocked", [](auto& b) { return b.on(client_blocked{}); }},
      {"client_drained", [](auto& b) { return b.on(client_drained{}); }},
      {"client_gone", [](auto& b) { return b.on(client_gone{}); }},
      {"drain_now", [](auto& b) { return b.on(drain_now{}); }},
      {"its deadline",
       [](auto& b) {
         const instant at = b.flow.deadline();
         const double after = seconds(at - b.now);
         b.now = at;
         const std::string line = b.on(timer{});
         return fmt::format("after {:.0f} s: {}", after, line);
       }},
  };
  return all;
}

const std::vector<std::string> always = {"client_gone", "drain_now", "its deadline"};
const std::vector<std::string> stream_bytes = {"frame",       "token",  "usage",
                                               "error event", "[DONE]", "half an event"};
const std::vector<std::string> engine_leaves = {"engine_end", "engine_lost", "garbage", "client_blocked",
                                                "client_drained"};
const std::vector<std::string> heads = {"head 200 stream", "head 200 json", "head 429", "head 500"};

std::vector<std::string> together(std::vector<std::vector<std::string>> lists) {
  std::vector<std::string> out;
  for (const auto& l : lists) out.insert(out.end(), l.begin(), l.end());
  return out;
}

std::vector<place> places() {
  const auto connecting = [](testing::bench& b) {
    b.to_deciding();
    b.on(picked{two()});
  };
  const auto waiting = [connecting](testing::bench& b) {
    connecting(b);
    b.on(engine_connected{false});
    b.on(request_sent{});
  };
  const auto holding = [waiting](testing::bench& b) {
    waiting(b);
    b.head();
  };
  return {
      {"reading", [](testing::bench&) {}, together({{"refused", "body_ready"}, always})},
      {"deciding", [](testing::bench& b) { b.to_deciding(); }, together({{"picked", "not_picked"}, always})},
      {"connecting", connecting, together({{"engine_connected", "engine_unreachable"}, always})},
      {"connecting, the last candidate",
       [=](testing::bench& b) {
         connecting(b);
         b.on(engine_unreachable{reason::connect_failed});
       },
       together({{"engine_connected", "engine_unreachable"}, always})},
      {"waiting", waiting, together({heads, {"engine_lost", "garbage", "client_blocked"}, always})},
      {"waiting, on a reused connection",
       [=](testing::bench& b) {
         connecting(b);
         b.on(engine_connected{true});
         b.on(request_sent{});
       },
       together({heads, {"engine_lost", "garbage"}, always})},
      {"waiting, the last candidate",
       [=](testing::bench& b) {
         waiting(b);
         b.on(engine_lost{false});
         b.asked_again();
       },
       together({heads, {"engine_lost", "garbage"}, always})},
      {"holding", holding, together({stream_bytes, engine_leaves, always})},
      {"holding, comment sent",
       [=](testing::bench& b) {
         holding(b);
         b.wait(15s);
       },
       together({stream_bytes, engine_leaves, always})},
      {"streaming",
       [=](testing::bench& b) {
         holding(b);
         b.bytes(token);
       },
       together({stream_bytes, engine_leaves, always})},
      {"streaming, [DONE] seen",
       [=](testing::bench& b) {
         holding(b);
         b.bytes(token);
         b.bytes(end_marker);
       },
       together({stream_bytes, engine_leaves, always})},
      {"streaming, error event seen",
       [=](testing::bench& b) {
         holding(b);
         b.bytes(token);
         b.bytes(engine_error);
       },
       together({stream_bytes, engine_leaves, always})},
      {"relaying, nothing passed",
       [=](testing::bench& b) {
         waiting(b);
         b.head(200, "application/json");
       },
       together({{"frame"}, engine_leaves, always})},
      {"relaying",
       [=](testing::bench& b) {
         waiting(b);
         b.head(200, "application/json");
         b.bytes("{");
       },
       together({{"frame"}, engine_leaves, always})},
  };
}

std::string table() {
  std::string out =
      "# What a request flow does: state, event -> actions -> next state (reason once it is done).\n"
      "# A chat stream with two candidates, whose client did not ask for usage. Made by test_flow.\n";
  for (const place& p : places()) {
    out += fmt::format("\n{}\n", p.name);
    for (const std::string& wanted : p.events) {
      for (const named_event& e : events()) {
        if (e.name != wanted) continue;
        testing::bench b;
        p.go(b);
        const std::string line = e.give(b);
        const std::string end = b.done() ? fmt::format(" ({})", name(b.why())) : "";
        out += fmt::format("  {:<18} -> {} -> {}{}\n", e.name, line.empty() ? "nothing" : line,
                           name(b.flow.where()), end);
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("flow: the table of transitions is the one we agreed on") {
  test::check_golden("tests/golden/flow_transitions.txt", table());
}
