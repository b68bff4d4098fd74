#include "sim/handoff_actor.hpp"

#include <fmt/format.h>

#include <charconv>

namespace sim {
namespace {

using penstock::connector_kind;

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

// The number behind `before`; nothing: that is not there.
std::optional<std::uint64_t> number_behind(const std::string& text, std::string_view before) {
  const std::size_t at = text.find(before);
  if (at == std::string::npos) return std::nullopt;
  std::uint64_t number = 0;
  std::from_chars(text.data() + at + before.size(), text.data() + text.size(), number);
  return number;
}

// The value behind `before`, up to its closing quote or bracket.
std::string value_behind(const std::string& text, std::string_view before) {
  const std::size_t at = text.find(before);
  if (at == std::string::npos) return {};
  const std::size_t from = at + before.size();
  return text.substr(from, text.find_first_of("\"}", from) - from);
}

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
  finished,  // trtllm: the first token ended the answer
  count_
};

// What tells a prefill leg, and how it calls the hand-off.
std::string_view mark_of(connector_kind connector) {
  return connector == connector_kind::trtllm ? "\"request_type\":\"context_only\""
                                             : "\"do_remote_decode\":true";
}
std::string name_in(connector_kind connector, const std::string& body) {
  switch (connector) {
    case connector_kind::moriio: return value_behind(body, "\"transfer_id\":\"");
    case connector_kind::trtllm: return value_behind(body, "\"disagg_request_id\":");
    default: return {};
  }
}

}  // namespace

bool handoff_actor::take_leg(job& j, const std::string& body) {
  if (has(body, mark_of(legs_.connector))) {
    check_prefill(body);
    ++running_;
    prefill(j, name_in(legs_.connector, body));
    return true;
  }
  if (legs_.prefills_only) world_.complaints.push_back("a prefill engine was asked for a whole answer");
  const auto id = lease_in(body);
  if (!id) return false;
  // The decode request is whole: its engine fetches the blocks, or frees them when it is cut.
  const auto found = book_.leases.find(*id);
  j.foreign = found == book_.leases.end() || found->second.fetched || world_.now() >= found->second.until;
  book_.wrong_reads += j.foreign;
  if (found != book_.leases.end()) check_decode(found->second, *id, body);
  if (!j.foreign) found->second.fetched = !legs_.forgets;
  return false;
}

void handoff_actor::check_prefill(const std::string& body) {
  const bool context = legs_.connector == connector_kind::trtllm;  // it bounds its answer by itself
  if (has(body, "\"max_tokens\":1") == context || has(body, "\"stream\":true") || has(body, "stream_options"))
    world_.complaints.push_back("a prefill leg that generates or streams: " + body.substr(0, 200));
  if (legs_.connector != connector_kind::nixl && name_in(legs_.connector, body).empty())
    world_.complaints.push_back("a prefill leg that does not name its hand-off");
}

void handoff_actor::check_decode(const lease_book::pinned& l, std::uint64_t id, const std::string& body) {
  if (name_in(legs_.connector, body) != l.name)
    world_.complaints.push_back("a decode leg that calls its hand-off otherwise");
  if (legs_.connector == connector_kind::trtllm && (!has(body, "\"request_type\":\"generation_only\"") ||
                                                    !has(body, fmt::format("\"prompt_token_ids\":[{}]", id))))
    world_.complaints.push_back("a generation leg that says something else than its context leg");
}

std::optional<std::uint64_t> handoff_actor::lease_in(const std::string& body) const {
  switch (legs_.connector) {
    case connector_kind::trtllm: return number_behind(body, "\"ctx_request_id\":");
    case connector_kind::moriio: return number_behind(body, "\"remote_block_ids\":[");
    default: return number_behind(body, "\"remote_block_ids\":[[");
  }
}

void handoff_actor::prefill(const job& j, const std::string& name) {
  world_.at(world_.jitter(std::chrono::milliseconds(40)), [this, j, name] {
    if (links_.find(key(j.link)) == links_.end()) return finish_job(j);  // aborted before it was done
    auto what = leg_fault::none;
    if (world_.chance(legs_.fault_chance))
      what = static_cast<leg_fault>(world_.rng.below(static_cast<std::uint64_t>(leg_fault::count_)));
    const std::string head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}";
    switch (what) {
      case leg_fault::reset_at_once: world_.reset(j.link); return finish_job(j);
      case leg_fault::fin_at_once: hang_up(j.link); return finish_job(j);
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
        world_.chance(0.5) ? world_.reset(j.link) : hang_up(j.link);
        return finish_job(j);
      case leg_fault::broken_json:
        world_.send(j.link, fmt::format(fmt::runtime(head), 12, R"({"choices":[)"));
        return finish_job(j);
      case leg_fault::finished:
        if (legs_.connector == connector_kind::trtllm) return finish_with_prefill(j);
        [[fallthrough]];
      default: grant(j, name);
    }
  });
}

// The context engine's answer is the answer, and no blocks are kept for it. Short, so that its usage is an
// event below the smallest limits.event_bytes of a run.
void handoff_actor::finish_with_prefill(const job& j) {
  auto& attempts = truth_[j.id];
  const std::size_t by = attempts.size();
  attempts.push_back({.engine = index_, .events = 1, .done_marker = true});
  answer_slowly(
      j,
      fmt::format(R"({{"id":"a{0}","by":{1},)"
                  R"("choices":[{{"index":0,"message":{{"role":"assistant","content":"t:{0}:{1}:0;"}},)"
                  R"("finish_reason":"stop"}}],)"
                  R"("usage":{{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}}})",
                  j.id, by),
      0);
}

std::string handoff_actor::answer_of(std::uint64_t lease, const std::string& name) const {
  if (legs_.connector == connector_kind::trtllm)
    return fmt::format(
        R"({{"id":"p","prompt_token_ids":[{0}],"choices":[{{"finish_reason":"length","disaggregated_params":)"
        R"({{"request_type":"context_only","first_gen_tokens":[7],"ctx_request_id":{0},)"
        R"("encoded_opaque_state":"e{1}","disagg_request_id":{2}}}}}]}})",
        lease, index_, name);
  if (legs_.connector == connector_kind::moriio)
    return fmt::format(
        R"({{"id":"p","choices":[{{"finish_reason":"length"}}],"kv_transfer_params":{{"do_remote_prefill":true,)"
        R"("do_remote_decode":false,"remote_block_ids":[{}],"remote_engine_id":"e{}","remote_host":"h",)"
        R"("remote_handshake_port":1,"remote_notify_port":2,"remote_dp_size":1,"tp_size":1,)"
        R"("transfer_id":"{}"}}}})",
        lease, index_, name);
  return fmt::format(
      R"({{"id":"p","choices":[{{"finish_reason":"length"}}],"kv_transfer_params":{{"do_remote_prefill":true,)"
      R"("do_remote_decode":false,"remote_block_ids":[[{}]],"remote_engine_id":"e{}","remote_request_id":"r",)"
      R"("remote_host":"h","remote_port":1,"remote_prefill_cached_tokens":1}}}})",
      lease, index_);
}

void handoff_actor::grant(const job& j, const std::string& name) {
  const std::uint64_t id = book_.leases.size() + 1;
  book_.leases[id] = {.until = world_.now() + legs_.lease, .name = name, .request = j.id, .engine = index_};
  answer_slowly(j, answer_of(id, name), id);
}

void handoff_actor::note_heard(std::uint64_t lease, socket_id link) {
  world_.when_heard(link, [this, lease](hearing how) {
    book_.leases[lease].told = how == hearing::whole;
    book_.leases[lease].cut = how == hearing::closed;
  });
}

// The head and a bit at once, the rest in its time. `lease`: of which it tells; 0: of none.
void handoff_actor::answer_slowly(const job& j, const std::string& body, std::uint64_t lease) {
  world_.send(j.link,
              fmt::format("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                          body.size()));
  if (lease != 0) note_heard(lease, j.link);
  world_.send(j.link, body.substr(0, 10));
  world_.at(world_.jitter(legs_.answer_time), [this, j, rest = body.substr(10)] {
    if (links_.find(key(j.link)) != links_.end()) world_.send(j.link, rest);
    finish_job(j);
  });
}

}  // namespace sim
