#include "sim/client_actor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace sim {
namespace {

std::vector<std::string> events_of(const std::string& body, std::string& rest) {
  std::vector<std::string> events;
  std::size_t from = 0;
  for (std::size_t end; (end = body.find("\n\n", from)) != std::string::npos; from = end + 2)
    events.push_back(body.substr(from, end - from));
  rest = body.substr(from);
  return events;
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

void client_actor::begin() {
  link_ = world_.join(*this);
  send_request();
  while (how_.pipelined && sent_ < how_.requests) send_request();
}

std::string client_actor::request_text(std::uint64_t id) const {
  std::string content = fmt::format("rid:{} {}", id, how_.poison ? "poison " : "");
  if (how_.huge_body) content.append(100'000, 'x');
  const std::string options = how_.wants_usage ? R"(,"stream_options":{"include_usage":true})" : "";
  const std::string body =
      fmt::format(R"({{"model":"m","stream":{}{},"messages":[{{"role":"user","content":"{}"}}]}})",
                  how_.stream, how_.stream ? options : "", content);
  return fmt::format(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\n"
      "x-request-id: id-{}\r\nContent-Length: {}\r\n\r\n{}",
      id, body.size(), body);
}

void client_actor::send_request() {
  const std::uint64_t id = next_id_++;
  ++sent_;
  asked_.push_back(id);
  const std::string text = request_text(id);
  if (how_.one_byte_pieces && !how_.huge_body) {
    for (const char c : text) world_.send(link_, std::string(1, c));
  } else {
    world_.send(link_, text);
  }
  if (world_.chance(how_.leave_chance)) leave_later();
}

void client_actor::leave_later() {
  world_.at(world_.jitter(std::chrono::milliseconds(400)), [this] {
    if (gone_ || closed_) return;
    gone_ = true;
    if (!how_.leaves_with_reset) return world_.finish(link_);
    world_.reset(link_, [this] {
      for (const std::uint64_t id : asked_) world_.departed.emplace(id, world_.now());
    });
  });
}

void client_actor::got(socket_id link, bytes_view bytes) {
  if (!(link == link_) || gone_) return;
  inbox_ += bytes;
  if (how_.reads_slowly) {
    const std::size_t n = bytes.size();
    world_.at(world_.jitter(std::chrono::milliseconds(300)), [this, n] { world_.consume(link_, n); });
  } else {
    world_.consume(link_, bytes.size());
  }
  read_answers();
}

void client_actor::closed(socket_id link, bool reset) {
  if (!(link == link_) || closed_) return;
  closed_ = true;
  read_answers();
  if (!answers_.empty() && !answers_.back().complete) answers_.back().cut = true;
  (void)reset;
  if (!gone_) world_.finish(link_);
}

void client_actor::read_answers() {
  while (true) {
    if (!in_body_ && !read_head()) return;
    if (!read_body()) return;
    in_body_ = false;
    answers_.back().complete = true;
    if (!how_.pipelined && sent_ < how_.requests && !closed_) send_request();
  }
}

bool client_actor::read_head() {
  const std::size_t end = inbox_.find("\r\n\r\n");
  if (end == std::string::npos) return false;
  const std::string head = inbox_.substr(0, end + 2);
  inbox_.erase(0, end + 4);
  answer a;
  a.id = answers_.size() < asked_.size() ? asked_[answers_.size()] : 0;
  std::from_chars(head.data() + 9, head.data() + 12, a.status);
  a.sse = has(head, "text/event-stream");
  a.chunked = has(head, "chunked");
  if (const std::size_t at = head.find("ontent-Length: "); at != std::string::npos)
    std::from_chars(head.data() + at + 15, head.data() + head.size(), a.length);
  answers_.push_back(std::move(a));
  in_body_ = true;
  return true;
}

bool client_actor::read_body() {
  answer& a = answers_.back();
  if (!a.chunked) {
    const std::size_t n = std::min(a.length - a.body.size(), inbox_.size());
    a.body += inbox_.substr(0, n);
    inbox_.erase(0, n);
    return a.body.size() == a.length;
  }
  while (true) {
    const std::size_t line = inbox_.find("\r\n");
    if (line == std::string::npos) return false;
    std::size_t n = 0;
    std::from_chars(inbox_.data(), inbox_.data() + line, n, 16);
    if (inbox_.size() < line + 2 + n + 2) return false;
    a.body += inbox_.substr(line + 2, n);
    inbox_.erase(0, line + 2 + n + 2);
    if (n == 0) return true;
  }
}

std::vector<std::uint64_t> client_actor::answered() const {
  std::vector<std::uint64_t> ids;
  for (const answer& a : answers_)
    if (a.complete) ids.push_back(a.id);
  return ids;
}

namespace {

// Which attempt a whole answer is of stands in it.
bool is_withheld(const std::string& body, const std::vector<attempt_truth>& attempts) {
  std::size_t by = 0;
  const std::size_t at = body.find("\"by\":");
  if (at == std::string::npos) return false;
  std::from_chars(body.data() + at + 5, body.data() + body.size(), by);
  return by < attempts.size() && attempts[by].withheld;
}

}  // namespace

std::vector<std::string> client_actor::judge(const truths& truth) const {
  std::vector<std::string> out;
  if (answers_.size() > asked_.size()) out.push_back("more answers than requests");
  for (const answer& a : answers_) {
    const auto did = truth.find(a.id);
    static const std::vector<attempt_truth> nothing;
    const auto& attempts = did == truth.end() ? nothing : did->second;
    if (a.status == 200 && a.sse) {
      judge_stream(a, attempts, out);
    } else if (a.status == 200 && a.complete && a.body.rfind(fmt::format("{{\"id\":\"a{}\"", a.id), 0) != 0) {
      out.push_back(fmt::format("request {}: a foreign or damaged answer: {:.80}", a.id, a.body));
    } else if (a.status == 200 && a.complete && is_withheld(a.body, attempts)) {
      out.push_back(fmt::format("request {}: an answer whose prefill leg did not end well", a.id));
    } else if (a.status != 200 && a.complete && !has(a.body, "\"error\"")) {
      out.push_back(fmt::format("request {}: status {} without an error", a.id, a.status));
    }
  }
  // Whoever stayed got an end for everything it asked, or a closed connection.
  if (!gone_ && !closed_ && answered().size() < asked_.size())
    out.push_back(
        fmt::format("{} of {} requests never ended", asked_.size() - answered().size(), asked_.size()));
  return out;
}

void client_actor::judge_stream(const answer& a, const std::vector<attempt_truth>& did,
                                std::vector<std::string>& out) const {
  const auto complain = [&](const std::string& what) {
    out.push_back(fmt::format("request {}: {}", a.id, what));
  };
  std::string rest;
  const std::vector<std::string> events = events_of(a.body, rest);
  if (a.complete && !rest.empty()) complain("part of an event: " + rest.substr(0, 60));
  std::uint64_t next = 0;
  int attempt = -1, errors = 0, ours = 0;
  bool done = false;
  for (const std::string& e : events) {
    if (e.rfind(":", 0) == 0) continue;
    if (has(e, "[DONE]")) {
      done = true;
      continue;
    }
    if (has(e, "\"error\"")) {
      ++errors;
      if (has(e, "\"code\":\"engine_") || has(e, "_timeout\"") || has(e, "drain_") ||
          has(e, "\"code\":\"handoff_"))
        ++ours;
      continue;
    }
    if (has(e, "\"choices\":[]")) {
      if (!how_.wants_usage) complain("usage that it did not ask for");
      continue;
    }
    unsigned long long id = 0, number = 0;
    int by = 0;
    const std::size_t at = e.find("\"content\":\"t:");
    if (at == std::string::npos) continue;  // the role
    if (std::sscanf(e.c_str() + at + 13, "%llu:%d:%llu;", &id, &by, &number) != 3 || id != a.id)
      complain("foreign content: " + e.substr(0, 80));
    if (attempt == -1) attempt = by;
    if (by != attempt) complain("content of two attempts in one answer");
    if (number != next) complain(fmt::format("content {} where {} was due", number, next));
    next = number + 1;
  }
  if (attempt >= 0 && attempt < static_cast<int>(did.size()) &&
      did[static_cast<std::size_t>(attempt)].withheld)
    complain("content whose prefill leg did not end well");
  if (!a.complete) return;
  if (attempt >= static_cast<int>(did.size())) return complain("content that no engine sent");
  const attempt_truth* by = attempt >= 0 ? &did[static_cast<std::size_t>(attempt)] : nullptr;
  if (done && by != nullptr && !by->done_marker) complain("an end marker that the engine did not send");
  if (done && ours != 0) complain("an end marker after our error event");
  if (!done && errors == 0) complain("a silent end");
  if (ours > 1) complain("two error events of ours");
  if (done && errors == 0 && by != nullptr && next != by->events)
    complain(fmt::format("{} of {} contents in a complete answer", next, by->events));
}

}  // namespace sim
