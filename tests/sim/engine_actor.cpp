#include "sim/engine_actor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace sim {

// The kernel of a dead process may have accepted before.
void engine_actor::connected(socket_id link) {
  if (dead_) return world_.reset(link);
  links_[key(link)] = connection{.link = link};
}

void engine_actor::hang_up(socket_id link) {
  world_.finish(link);
  links_.erase(key(link));
}

void engine_actor::die() {
  dead_ = true;
  for (const auto& [at, c] : std::exchange(links_, {})) world_.reset(c.link);
}

void engine_actor::got(socket_id link, bytes_view bytes) {
  const auto found = links_.find(key(link));
  if (found == links_.end()) return;
  found->second.inbox += bytes;
  world_.consume(link, bytes.size());
  take(found->second);
}

// As uvicorn: a half that the client closed ends the other, behind what was written.
void engine_actor::closed(socket_id link, bool reset) {
  if (!reset) world_.finish(link);
  const auto found = links_.find(key(link));
  if (found == links_.end()) return;
  links_.erase(found);
}

void engine_actor::take(connection& c) {
  if (c.busy) return;
  if (c.whole == 0) {
    const std::size_t head = c.inbox.find("\r\n\r\n");
    if (head == std::string::npos) return;
    const std::size_t at = c.inbox.find("ontent-Length: ");
    const std::size_t at_lower = c.inbox.find("ontent-length: ");
    std::size_t length = 0;
    const std::size_t digits = (at != std::string::npos ? at : at_lower) + 15;
    std::from_chars(c.inbox.data() + digits, c.inbox.data() + head, length);
    c.head = head + 4;
    c.whole = c.head + length;
  }
  if (c.inbox.size() < c.whole) return;
  const std::string body = c.inbox.substr(c.head, c.whole - c.head);
  c.inbox.erase(0, std::exchange(c.whole, 0));
  c.busy = true;
  answer(c, body);
}

void engine_actor::answer(const connection& c, const std::string& body) {
  job j{.link = c.link, .began = world_.now()};
  const std::size_t at = body.find("rid:");
  if (at != std::string::npos) std::from_chars(body.data() + at + 4, body.data() + body.size(), j.id);
  if (body.find("poison") != std::string::npos) {
    world_.killed[j.id].insert(index_);
    return die();
  }
  j.streams = body.find("\"stream\":true") != std::string::npos;
  if (take_leg(j, body)) return;
  ++running_;
  begin(j, body);
}

void engine_actor::begin(job j, const std::string& body) {
  auto& attempts = truth_[j.id];
  j.attempt = attempts.size();
  j.usage = body.find("\"include_usage\":true") != std::string::npos;
  attempts.push_back({.engine = index_, .usage_asked = j.usage});
  j.events = static_cast<int>(world_.rng.below(static_cast<std::uint64_t>(how_.events_max) + 1));
  j.break_at = static_cast<int>(world_.rng.below(static_cast<std::uint64_t>(j.events) + 1));
  if (world_.chance(how_.fault_chance))
    j.what = static_cast<fault>(world_.rng.below(static_cast<std::uint64_t>(fault::count_)));
  world_.at(world_.jitter(std::chrono::milliseconds(40)), [this, j] { act(j); });
}

void engine_actor::act(const job& j) {
  if (dead_) return finish_job(j);
  // What comes instead of an answer cannot come behind the head of one.
  const bool late = j.headed && j.what != fault::reset_at_once && j.what != fault::fin_at_once;
  switch (late ? fault::none : j.what) {
    case fault::reset_at_once: world_.reset(j.link); return finish_job(j);
    case fault::fin_at_once: hang_up(j.link); return finish_job(j);
    case fault::never_answers: return finish_job(j);
    case fault::garbage: world_.send(j.link, "!! this is not HTTP !!\r\n\r\n"); return finish_job(j);
    case fault::status_500: return answer_whole(j, 500);
    case fault::status_429: return answer_whole(j, 429);
    default: break;
  }
  j.streams ? stream(j) : answer_whole(j, 200);
}

void engine_actor::answer_whole(const job& j, int status) {
  const std::string body =
      status == 200
          ? fmt::format(R"({{"id":"a{}","by":{},"choices":[{{"index":0,"message":{{"content":"t"}}}}],)"
                        R"("usage":{{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}}})",
                        j.foreign ? 0 : j.id, j.attempt)
          : R"({"error":{"message":"no","type":"x","param":null,"code":1}})";
  world_.send(j.link,
              fmt::format("HTTP/1.1 {} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
                          status, body.size(), body));
  finish_job(j);
}

void engine_actor::stream(const job& j) {
  job headed = j;
  send_head(headed);
  next_event(headed);
}

void engine_actor::send_head(job& j) {
  if (std::exchange(j.headed, true)) return;
  world_.send(j.link,
              "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
              "transfer-encoding: chunked\r\n\r\n");
  write_event(j.link, R"(data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]})");
}

void engine_actor::write_event(socket_id link, const std::string& event) {
  world_.send(link, fmt::format("{:x}\r\n{}\n\n\r\n", event.size() + 2, event));
}

void engine_actor::next_event(job j) {
  world_.at(world_.jitter(how_.event_gap), [this, j]() mutable {
    if (links_.find(key(j.link)) == links_.end()) return finish_job(j);  // the proxy hung up: work stops
    check_departure(j);
    if (j.written == j.break_at) {
      if (j.what == fault::reset_midway) return world_.reset(j.link), finish_job(j);
      if (j.what == fault::fin_midway) return hang_up(j.link), finish_job(j);
      if (j.what == fault::stall_midway) return finish_job(j);
    }
    if (j.written == j.events) return end_stream(j);
    attempt_truth& did = truth_[j.id][j.attempt];
    write_event(j.link,
                fmt::format(R"(data: {{"choices":[{{"index":0,"delta":{{"content":"t:{}:{}:{};{}"}}}}]}})",
                            j.foreign ? 0 : j.id, j.attempt, j.written,
                            std::string(world_.chance(0.1) ? 500 : 0, 'y')));
    ++did.events;
    ++j.written;
    next_event(j);
  });
}

// Whoever reset its connection must not keep an engine busy for longer than 20 ms, plus the way there.
void engine_actor::check_departure(const job& j) {
  const auto left = world_.departed.find(j.id);
  if (left == world_.departed.end()) return;
  const duration allowed = std::chrono::milliseconds(20) + 2 * world_.net.latency_max;
  // A hand-off is delivered for a client that is gone, and cut then.
  if (world_.now() > std::max(left->second, j.began) + allowed)
    world_.complaints.push_back(
        fmt::format("request {}: the engine works on although the client left", j.id));
}

void engine_actor::end_stream(const job& j) {
  attempt_truth& did = truth_[j.id][j.attempt];
  if (j.what == fault::error_then_done) {
    did.error_event = true;
    write_event(
        j.link,
        R"(data: {"error": {"message": "engine stopped", "type": "InternalServerError", "code": 500}})");
  } else if (j.usage) {
    write_event(j.link,
                R"(data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}})");
  }
  if (j.what != fault::no_marker) {
    did.done_marker = true;
    write_event(j.link, "data: [DONE]");
  }
  world_.send(j.link, "0\r\n\r\n");
  finish_job(j);
}

void engine_actor::finish_job(const job& j) {
  --running_;
  const auto found = links_.find(key(j.link));
  if (found == links_.end()) return;
  found->second.busy = false;
  if (how_.closes_idle && world_.chance(0.5)) return hang_up(j.link);
  take(found->second);
}

}  // namespace sim
