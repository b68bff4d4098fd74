// What clients ask for, as a list of requests: read from a trace or generated, the same for every policy.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "penstock/random.hpp"
#include "penstock/time.hpp"

namespace penstock::lab {

// A run of prompt tokens. `id` stands for everything from the prompt's first token to the end of this
// run, so two prompts with the same id agree that far.
struct segment {
  std::uint64_t id = 0;
  std::uint32_t tokens = 0;
  float bytes_per_token = 4;  // of its text
};

inline constexpr std::uint32_t nobody = std::numeric_limits<std::uint32_t>::max();

struct request {
  duration at{};  // since the beginning of the run; of a follower: what it waits after `follows`
  std::uint32_t follows = nobody;  // index of the request whose end it waits for (closed loop)
  std::uint32_t session = 0;
  std::uint32_t output_tokens = 1;
  std::uint32_t user_segment = 0;  // the first segment that is not a system prompt
  std::uint64_t output_id = 0;     // id of the prompt with its output, when a later prompt continues it
  std::vector<segment> segments;
  bool streamed = true;
  bool tells_cached = true;  // its engine reports cached_tokens
  duration patience{};       // the client leaves that long after arriving; 0: it stays

  std::uint32_t input_tokens() const {
    std::uint32_t sum = 0;
    for (const segment& s : segments) sum += s.tokens;
    return sum;
  }
};

struct workload {
  std::string name;
  duration stamp{};  // granularity of its arrival times: those of a trace may be rounded down
  std::vector<request> requests;
};

// How one seed's run is made from a workload.
struct variation {
  std::uint64_t seed = 1;
  bool resample = false;  // sessions are drawn anew with replacement, so that seeds also vary arrivals
  double rate = 1;        // arrivals come that many times as fast
  duration spread{};      // each arrival is delayed by a uniform part of this
  bool rough = false;     // see `roughen`
};

// A copy of the workload as `v` wants it. Deterministic. A session that is drawn again is another session
// of the same kind: what only it said gets ids of its own, what many share keeps them, and it begins up to
// 30 s earlier or later.
workload vary(const workload& base, const variation& v);

// One JSON object a request: at_s (of a follower: after the end of what it follows), follows, session,
// output, streamed, and segments as [id, tokens] with the id in hexadecimal digits.
std::string json_lines_of(const workload& w);

// Traffic as it is: 30 % of requests not streamed, half of the answers without `cached_tokens`, 3 % of
// clients leaving early (after 5 s in the mean), 2.5 to 5.5 bytes per token, drawn for each session.
void roughen(workload& w, prng& rng);

// 64 bits that depend on both.
constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  prng g(a ^ (b * 0x9e3779b97f4a7c15ULL));
  return g.next() | 1;
}

double exponential(prng& rng, double mean);
// With the given median; sigma is that of the logarithm.
double lognormal(prng& rng, double median, double sigma);

}  // namespace penstock::lab
