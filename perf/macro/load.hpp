// The benchmark's clients: requests on a schedule that does not wait for answers, over keep-alive
// connections.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "loop.hpp"
#include "wire.hpp"

namespace penstock::perf {

// A body with a place for a number that makes it unlike the one before.
struct request_template {
  std::string before;  // head and the body up to the number
  std::string after;
};
constexpr std::size_t number_digits = 12;

// One JSON body a line, each with number_digits times '@' where the number goes.
std::vector<request_template> read_requests(const std::string& file, std::uint16_t port);

struct load_options {
  bool stream = false;  // answers are event streams
  std::uint16_t port = 0;
  std::uint32_t connections = 1;
  nanos interval = 0;            // between two starts, on average
  nanos tick = 0;                // starts happen at multiples of it; 0: each at its own instant
  std::uint64_t starts_max = 0;  // 0: until stop()
};

struct load_counters {
  std::uint64_t requests = 0;  // ended well
  std::uint64_t events = 0;    // as they arrived
  std::uint64_t live = 0;      // streams that have their first content
  std::uint64_t errors = 0;    // not 200, cut, no end marker, no HTTP
};

class client_connection;

class load {
 public:
  load(poller& p, load_options options, std::vector<request_template> requests, nanos start);
  ~load();
  // Starts what is due; the time of the next start, or `never`.
  nanos tick(nanos time);
  void stop() { stopped_ = true; }
  bool idle() const { return free_.size() == clients_.size(); }
  const load_counters& counters() const { return counters_; }

  // From the instant a request was due to its last byte; from its write to the first byte and to the first
  // content of a stream. Nanoseconds of requests started while sampling.
  struct samples {
    std::vector<nanos> total, first_byte, first_content;
  };
  void sample(bool on) { sampling_ = on; }
  samples& taken() { return samples_; }

 private:
  friend class client_connection;
  void ended(client_connection& c);
  nanos due(std::uint64_t number) const;

  poller& poller_;
  load_options options_;
  std::vector<request_template> requests_;
  load_counters counters_;
  samples samples_;
  bool sampling_ = false;
  bool stopped_ = false;
  nanos start_;
  std::uint64_t started_ = 0;
  std::vector<std::unique_ptr<client_connection>> clients_;
  std::vector<client_connection*> free_;
  std::vector<char> scratch_;
};

}  // namespace penstock::perf
