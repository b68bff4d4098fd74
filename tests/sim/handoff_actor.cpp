#include "sim/handoff_actor.hpp"

#include <fmt/format.h>

#include <charconv>

namespace sim {
namespace {

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

enum class leg_fault : std::uint8_t {
  none,
  reset_at_once,
  fin_at_once,
  garbage,
  never_answers,
  status_400,
  status_429,
  status_500,
  nothing_handed_on,
  half_an_answer,
  broken_json,
  count_
};

}  // namespace

// What the proxy cuts before the answer can have reached it, it never knew of.
void handoff_actor::closed(socket_id link, bool reset) {
  if (const auto last = granted_.find(key(link)); last != granted_.end()) {
    auto& l = book_.leases[last->second];
    const duration way = 3 * world_.net.latency_max + std::chrono::milliseconds(5);
    if (world_.now() < l.until - legs_.lease + way) l.excused = true;
  }
  engine_actor::closed(link, reset);
}

bool handoff_actor::take_leg(job& j, const std::string& body) {
  if (has(body, "\"do_remote_decode\":true")) {
    if (!has(body, "\"max_tokens\":1") || has(body, "\"stream\":true") || has(body, "stream_options"))
      world_.complaints.push_back("a prefill leg that generates or streams: " + body.substr(0, 200));
    ++running_;
    prefill(j);
    return true;
  }
  if (legs_.prefills_only) world_.complaints.push_back("a prefill engine was asked for a whole answer");
  const std::size_t at = body.find("\"remote_block_ids\":[[");
  if (at == std::string::npos) return false;
  // The decode request is whole: its engine fetches the blocks, or frees them when it is cut.
  std::uint64_t id = 0;
  std::from_chars(body.data() + at + 21, body.data() + body.size(), id);
  const auto found = book_.leases.find(id);
  j.foreign = found == book_.leases.end() || found->second.fetched || world_.now() >= found->second.until;
  book_.wrong_reads += j.foreign;
  if (!j.foreign) found->second.fetched = true;
  return false;
}

void handoff_actor::prefill(const job& j) {
  world_.at(world_.jitter(std::chrono::milliseconds(40)), [this, j] {
    if (links_.find(key(j.link)) == links_.end()) return finish_job(j);  // aborted before it was done
    auto what = leg_fault::none;
    if (world_.chance(legs_.fault_chance))
      what = static_cast<leg_fault>(world_.rng.below(static_cast<std::uint64_t>(leg_fault::count_)));
    const std::string head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}";
    switch (what) {
      case leg_fault::reset_at_once: world_.reset(j.link); return finish_job(j);
      case leg_fault::fin_at_once: world_.finish(j.link); return finish_job(j);
      case leg_fault::garbage: world_.send(j.link, "!! this is not HTTP !!\r\n\r\n"); return finish_job(j);
      case leg_fault::never_answers: return finish_job(j);
      case leg_fault::status_400: return answer_whole(j, 400);
      case leg_fault::status_429: return answer_whole(j, 429);
      case leg_fault::status_500: return answer_whole(j, 500);
      case leg_fault::nothing_handed_on:
        world_.send(j.link, fmt::format(fmt::runtime(head), 27, R"({"kv_transfer_params":null})"));
        return finish_job(j);
      case leg_fault::half_an_answer:
        world_.send(j.link, fmt::format(fmt::runtime(head), 500, R"({"choices":[)"));
        world_.chance(0.5) ? world_.reset(j.link) : world_.finish(j.link);
        return finish_job(j);
      case leg_fault::broken_json:
        world_.send(j.link, fmt::format(fmt::runtime(head), 12, R"({"choices":[)"));
        return finish_job(j);
      default: grant(j);
    }
  });
}

void handoff_actor::grant(const job& j) {
  const std::uint64_t id = book_.leases.size() + 1;
  book_.leases[id] = {.until = world_.now() + legs_.lease};
  granted_[key(j.link)] = id;
  const std::string body = fmt::format(
      R"({{"id":"p","choices":[{{"finish_reason":"length"}}],"kv_transfer_params":{{"do_remote_prefill":true,)"
      R"("do_remote_decode":false,"remote_block_ids":[[{}]],"remote_engine_id":"e{}","remote_request_id":"r",)"
      R"("remote_host":"h","remote_port":1,"remote_prefill_cached_tokens":1}}}})",
      id, index_);
  world_.send(j.link,
              fmt::format("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
                          body.size(), body.substr(0, 10)));
  world_.at(world_.jitter(legs_.answer_time), [this, j, rest = body.substr(10)] {
    if (links_.find(key(j.link)) != links_.end()) world_.send(j.link, rest);
    finish_job(j);
  });
}

}  // namespace sim
