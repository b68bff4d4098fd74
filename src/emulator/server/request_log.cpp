#include "emulator/server/request_log.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "emulator/server/json_text.hpp"

namespace penstock::emulator {
namespace {

constexpr std::size_t most_bytes = 64U << 20;

// What is not UTF-8 cannot be a JSON string.
std::string member(std::string_view name, std::string_view value) {
  if (simdjson::validate_utf8(value.data(), value.size()))
    return fmt::format(R"("{}":{})", name, quote(value));
  return fmt::format(R"("{}_base64":"{}")", name, base64(value));
}

}  // namespace

std::uint64_t request_log::add(logged_request request) {
  request.id = next_id_++;
  ++received_;
  if (most_ == 0) return request.id;
  bytes_ += request.head.size() + request.body.size();
  kept_.push_back(std::move(request));
  while (kept_.size() > most_ || (bytes_ > most_bytes && kept_.size() > 1)) {
    bytes_ -= kept_.front().head.size() + kept_.front().body.size();
    kept_.pop_front();
  }
  return next_id_ - 1;
}

void request_log::end(std::uint64_t id, std::uint16_t status, outcome how, std::uint32_t tokens) {
  switch (how) {
    case outcome::open: break;
    case outcome::finished: ++finished_; break;
    case outcome::aborted: ++aborted_; break;
    case outcome::refused: ++refused_; break;
    case outcome::broken: ++broken_; break;
  }
  const auto found = std::find_if(kept_.rbegin(), kept_.rend(), [&](auto& r) { return r.id == id; });
  if (found == kept_.rend()) return;
  found->status = status;
  found->ended = how;
  found->tokens = tokens;
}

void request_log::clear() {
  kept_.clear();
  bytes_ = 0;
  received_ = finished_ = aborted_ = refused_ = broken_ = 0;
}

std::string request_log::json(const std::string& live) const {
  std::string text =
      fmt::format(R"({{"received":{},"finished":{},"aborted":{},"refused":{},"broken":{}{},"requests":[)",
                  received_, finished_, aborted_, refused_, broken_, live);
  for (const logged_request& r : kept_) {
    fmt::format_to(std::back_inserter(text),
                   R"({}{{"id":{},"method":{},"target":{},"status":{},"ended":"{}","tokens":{},{},{}}})",
                   &r == &kept_.front() ? "" : ",", r.id, quote(r.method), quote(r.target), r.status,
                   name(r.ended), r.tokens, member("head", r.head), member("body", r.body));
  }
  return text + "]}";
}

}  // namespace penstock::emulator
