// The last requests as they came over the wire, for tests that compare bytes, and counts of how they ended.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "emulator/server/exchange.hpp"

namespace penstock::emulator {

struct logged_request {
  std::uint64_t id = 0;
  std::string method, target;
  std::string head;          // as received, its empty line included
  std::string body;          // without chunk framing
  std::uint16_t status = 0;  // answered so far
  outcome ended = outcome::open;
  std::uint32_t tokens = 0;  // generated
};

// Keeps at most `most` requests and 64 MiB of them, the newest.
class request_log {
 public:
  explicit request_log(std::size_t most) : most_(most) {}

  std::uint64_t add(logged_request request);
  void end(std::uint64_t id, std::uint16_t status, outcome how, std::uint32_t tokens);
  void clear();

  // JSON; `live` are members of the server, with a leading comma or empty.
  std::string json(const std::string& live) const;
  std::string last_body() const { return kept_.empty() ? std::string{} : kept_.back().body; }

 private:
  std::size_t most_;
  std::size_t bytes_ = 0;
  std::deque<logged_request> kept_;
  std::uint64_t next_id_ = 1;
  std::uint64_t received_ = 0, finished_ = 0, aborted_ = 0, refused_ = 0, broken_ = 0;
};

}  // namespace penstock::emulator
