// `penstock explain`: the facts of one request, and what routing would do with it.
#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <variant>

#include "health/fleet_tracker.hpp"
#include "proxy/commands.hpp"
#include "proxy/io/clock.hpp"
#include "routing/router.hpp"
#include "tokenizer/extractor.hpp"
#include "tokenizer/token_estimator.hpp"

namespace penstock {
namespace {

// The call whose body this looks like: the members tell.
api_kind guess_api(const std::string& body) {
  const auto has = [&](const char* key) {
    return body.find(fmt::format("\"{}\"", key)) != std::string::npos;
  };
  if (has("messages")) return api_kind::chat;
  if (has("input")) return api_kind::responses;
  return api_kind::completions;
}

// Every endpoint of the configuration as if it were up and idle: nothing is contacted.
std::shared_ptr<const fleet_view> idle_fleet(const std::shared_ptr<const config>& settings, instant now) {
  health::fleet_tracker tracker(1);
  tracker.apply(settings, now);
  const auto listed = tracker.build_view(now);
  for (const endpoint_view& e : listed->endpoints)
    tracker.resolved(e.id, {{.kind = net_address::family::ipv4, .port = 1}}, now);
  return tracker.build_view(now);
}

void print_facts(const request_facts& facts) {
  std::printf("api            %.*s\n", static_cast<int>(name(facts.api).size()), name(facts.api).data());
  std::printf("model          %s\n", facts.model.c_str());
  std::printf("stream         %s\n", facts.stream ? "yes" : "no");
  std::printf("prompt tokens  %llu (%s)\n", static_cast<unsigned long long>(facts.prompt_tokens),
              facts.exact_tokens ? "exact" : "estimated from bytes");
  std::size_t blocks = 0;
  for (const prefix_chain& chain : facts.prompts) blocks += chain.blocks.size();
  std::printf("prompts        %zu with %zu whole blocks\n", facts.prompts.size(), blocks);
}

}  // namespace

int explain_command(arguments args) {
  if (args.size() != 3 || (args[0] != "-c" && args[0] != "--config")) {
    std::fprintf(stderr, "usage: penstock explain -c FILE REQUEST.json\n");
    return 1;
  }
  const auto settings = read_configuration(args[1]);
  if (settings == nullptr) return 1;
  std::ifstream in(args[2], std::ios::binary);
  if (!in) {
    std::fprintf(stderr, "%s: cannot be read\n", args[2].c_str());
    return 1;
  }
  std::string body{std::istreambuf_iterator<char>(in), {}};
  const std::size_t size = body.size();
  body.resize(size + tokenizer::body_padding);
  tokenizer::extractor extractor({.block_bytes = settings->routing.block_bytes});
  const tokenizer::token_estimator estimator;
  request_facts facts;
  const bytes_view text(body.data(), size);
  if (const auto error = extractor.read(guess_api(body), text, estimator, facts)) {
    std::fprintf(stderr, "%s: refused (%s): %s\n", args[2].c_str(), name(error->why).data(),
                 error->message.c_str());
    return 1;
  }
  print_facts(facts);
  const instant now = io::read_clock();
  const auto fleet = idle_fleet(settings, now);
  routing::shared_state shared(settings->routing);
  routing::router router(shared);
  prng rng(1);
  const auto found = router.decide(facts, *fleet, now, rng);
  if (const auto* error = std::get_if<api_error>(&found)) {
    std::fprintf(stderr, "nobody would be asked (%s): %s\n", name(error->why).data(), error->message.c_str());
    return 1;
  }
  std::printf("\nWith every endpoint up, idle and empty:\n%s\n",
              routing::explain(std::get<plan>(found), *fleet).c_str());
  return 0;
}

}  // namespace penstock
