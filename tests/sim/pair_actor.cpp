#include "sim/pair_actor.hpp"

#include <fmt/format.h>

#include <charconv>
#include <utility>

namespace sim {
namespace {

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

// The name of the hand-off that a body is a leg of; 0: none.
std::uint64_t name_in(const std::string& body, bool sglang) {
  const std::string_view before = sglang ? "\"bootstrap_room\":" : "\"transfer_id\":\"xfer-";
  const std::size_t at = body.find(before);
  std::uint64_t name = 0;
  if (at != std::string::npos)
    std::from_chars(body.data() + at + before.size(), body.data() + body.size(), name, sglang ? 10 : 16);
  return name;
}

}  // namespace

// The proxy closed a connection. Where a leg was under way on it, its engine stops working for it, and a
// decode engine tells its partner, after the way there.
void pair_actor::closed(socket_id link, bool reset) {
  const std::uint64_t at = key(link);
  if (const auto leg = legs_here_.find(at); leg != legs_here_.end()) {
    const std::uint64_t name = leg->second.name;
    if (!leg->second.prefills && !legs_.forgets)
      world_.at(world_.jitter(world_.net.latency_max), [this, name] { book_[name].freed = true; });
    end_leg(at);
  }
  engine_actor::closed(link, reset);
}

// With it its blocks go, and nobody tells the partners of its legs.
void pair_actor::die() {
  engine_actor::die();
  for (auto& [name, m] : book_)
    if (m.prefill == this) m.pinned = false;
  while (!legs_here_.empty()) {
    const std::uint64_t link = legs_here_.begin()->first;
    if (!legs_here_.begin()->second.prefills) note_death(legs_here_.begin()->second.name, link);
    end_leg(link);
  }
}

// Whether the proxy can know that a decode engine broke off.
void pair_actor::note_death(std::uint64_t name, std::uint64_t link) {
  world_.when_heard(link_of(link),
                    [this, name](hearing how) { book_[name].died_alone = how == hearing::closed; });
}

// The engine has done with a leg, or given it up.
void pair_actor::end_leg(std::uint64_t link) {
  const auto leg = legs_here_.extract(link);
  if (leg) finish_job(leg.mapped().j);
}

// A leg that cannot be carried out, as its client sees it.
void pair_actor::fail_leg(std::uint64_t link, int status) {
  auto leg = legs_here_.extract(link);
  if (!leg) return;
  job& j = leg.mapped().j;
  if (!j.headed) return answer_whole(j, status);
  write_event(j.link, R"(data: {"error":{"message":"no","type":"InternalServerError","code":500}})");
  write_event(j.link, "data: [DONE]");
  world_.send(j.link, "0\r\n\r\n");
  finish_job(j);
}

bool pair_actor::take_leg(job& j, const std::string& body) {
  const std::uint64_t name = name_in(body, legs_.sglang);
  if (name == 0) {
    if (legs_.prefills_only || (legs_.sglang && legs_.decodes_only))
      world_.complaints.push_back("a whole request for an engine that takes legs alone");
    return false;
  }
  const bool prefills = legs_.sglang ? legs_.prefills_only : has(body, "\"do_remote_decode\":true");
  meeting& m = book_[name];
  if (prefills ? m.prefill_came : m.decode_came)
    world_.complaints.push_back("a hand-off's name is used twice");
  if (m.first_body.empty()) {
    m.first_body = body;
    m.request = j.id;
  } else if (m.request != j.id || (legs_.sglang && m.first_body != body)) {
    world_.complaints.push_back("two legs that do not belong together");
  }
  ++running_;
  legs_here_[key(j.link)] = {name, j, body, prefills};
  prefills ? begin_prefill(name, j, body) : begin_decode(name, j);
  return true;
}

// --- prefill ------------------------------------------------------------------------------------------

void pair_actor::begin_prefill(std::uint64_t name, const job& j, const std::string& body) {
  meeting& m = book_[name];
  m.prefill_came = true;
  m.prefill = this;
  m.prefill_link = key(j.link);
  if (!legs_.sglang &&
      (!has(body, "\"max_tokens\":1") || has(body, "\"stream\":true") || has(body, "stream_options")))
    world_.complaints.push_back("a prefill leg that generates or streams: " + body.substr(0, 200));
  if (!legs_.sglang || m.decode_came) return compute(name);
  world_.at(legs_.patience, [this, link = m.prefill_link, name] {
    if (!book_[name].decode_came) fail_leg(link, 500);
  });
}

void pair_actor::compute(std::uint64_t name) {
  world_.at(world_.jitter(std::chrono::milliseconds(40)), [this, name] {
    meeting& m = book_[name];
    const auto leg = leg_of(m.prefill_link, name);
    if (leg == legs_here_.end()) return;  // given up before it was done
    job& j = leg->second.j;
    if (legs_.sglang && j.streams && world_.chance(0.5)) send_head(j);
    auto what = prefill_fault::none;
    if (world_.chance(legs_.fault_chance))
      what = static_cast<prefill_fault>(world_.rng.below(static_cast<std::uint64_t>(prefill_fault::count_)));
    if (fails_early(name, j, what)) return;
    m.pinned = true;
    j.break_at = static_cast<int>(what);
    if (j.headed) note_told(name);
    hand_over(name);
    if (!legs_.sglang) answer_prefill(name);
  });
}

// Before blocks are handed over. False: not with this fault.
bool pair_actor::fails_early(std::uint64_t name, const job& j, prefill_fault what) {
  const std::uint64_t link = key(j.link);
  switch (what) {
    case prefill_fault::never_answers: return true;  // until the proxy hangs up
    case prefill_fault::reset_at_once: world_.reset(j.link); break;
    case prefill_fault::fin_at_once: hang_up(j.link); break;
    case prefill_fault::refuses: fail_leg(link, 400); break;
    case prefill_fault::overloaded: fail_leg(link, 429); break;
    case prefill_fault::breaks: fail_leg(link, 500); break;
    case prefill_fault::nothing_handed_on:
      if (legs_.sglang) return false;
      world_.send(j.link,
                  "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 38\r\n\r\n"
                  R"({"choices":[{"finish_reason":"stop"}]})");
      break;
    default: return false;
  }
  watch_partner(name, true);
  end_leg(link);
  return true;
}

// The proxy knows of the blocks once the head of the answer has come to it.
void pair_actor::note_told(std::uint64_t name) {
  const auto leg = leg_of(book_[name].prefill_link, name);
  world_.when_heard(leg->second.j.link,
                    [this, name](hearing how) { book_[name].told |= how == hearing::whole; });
}

// The head at once, the end some time later, as the drawn fault has it.
void pair_actor::answer_prefill(std::uint64_t name) {
  meeting& m = book_[name];
  const auto leg = leg_of(m.prefill_link, name);
  if (leg == legs_here_.end()) return;
  job& j = leg->second.j;
  const auto what = static_cast<prefill_fault>(j.break_at);
  const bool streams = legs_.sglang && j.streams;
  if (streams) {
    send_head(j);
  } else {
    const std::size_t length = what == prefill_fault::error_answer    ? 27
                               : what == prefill_fault::broken_answer ? 12
                                                                      : 40;
    world_.send(j.link, fmt::format("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                                    "content-length: {}\r\n\r\n",
                                    length));
  }
  note_told(name);
  if (what == prefill_fault::never_ends) return;
  world_.at(world_.jitter(legs_.answer_time), [this, name] { end_prefill(name); });
}

void pair_actor::end_prefill(std::uint64_t name) {
  meeting& m = book_[name];
  const auto leg = leg_of(m.prefill_link, name);
  if (leg == legs_here_.end()) return;
  const job j = leg->second.j;
  const bool streams = legs_.sglang && j.streams;
  const auto what = static_cast<prefill_fault>(j.break_at);
  switch (what) {
    case prefill_fault::half_an_answer:
      world_.send(j.link, streams ? "5\r\ndata:" : "{\"choi");
      world_.chance(0.5) ? world_.reset(j.link) : hang_up(j.link);
      break;
    case prefill_fault::broken_answer: world_.send(j.link, streams ? "0\r\n\r\n" : R"({"choices":[)"); break;
    case prefill_fault::error_answer:
      if (streams) {
        fail_leg(m.prefill_link, 500);
      } else {
        world_.send(j.link, R"({"error":{"message":"no"}} )");
      }
      break;
    default:
      m.ended = !legs_.lies;
      if (m.ended && m.attempt >= 0) truth_[m.request][static_cast<std::size_t>(m.attempt)].withheld = false;
      if (!streams) {
        world_.send(j.link, R"({"choices":[{"finish_reason":"length"}]})");
        break;
      }
      write_event(j.link, R"(data: {"choices":[{"index":0,"delta":{"content":"t"}}]})");
      write_event(j.link, "data: [DONE]");
      world_.send(j.link, "0\r\n\r\n");
  }
  if (what > prefill_fault::nothing_handed_on) watch_partner(name, true);
  end_leg(m.prefill_link);
}

// --- decode -------------------------------------------------------------------------------------------

void pair_actor::begin_decode(std::uint64_t name, const job& j) {
  meeting& m = book_[name];
  m.decode_came = true;
  m.decode = this;
  m.decode_link = key(j.link);
  job& here = legs_here_[m.decode_link].j;
  if (world_.chance(legs_.fault_chance / 4)) {
    // It fails before its partner comes: of itself, or with a word. A load that failed is told to the
    // partner; a request that was not taken is told to nobody.
    const bool load = world_.chance(0.5), answers = world_.chance(0.5);
    m.freed = load && answers;
    if (answers) {
      fail_leg(m.decode_link, load ? 500 : 429);
    } else {
      world_.chance(0.5) ? world_.reset(here.link) : hang_up(here.link);
    }
    if (!m.freed) note_death(name, m.decode_link);
    watch_partner(name, false);
    return end_leg(m.decode_link);
  }
  // vLLM's 200 does not wait for the blocks.
  if (here.streams && world_.chance(0.5)) send_head(here);
  if (legs_.sglang && m.prefill_came) m.prefill->compute(name);
  hand_over(name);
  world_.at(legs_.patience, [this, link = m.decode_link, name] {
    if (leg_of(link, name) == legs_here_.end() || book_[name].fetched) return;
    book_[name].freed = true;
    fail_leg(link, 500);
  });
}

// Both are there: the transfer takes its time.
void pair_actor::hand_over(std::uint64_t name) {
  const meeting& m = book_[name];
  if (!m.pinned || m.decode == nullptr) return;
  world_.at(world_.jitter(std::chrono::milliseconds(10)), [name, decode = m.decode] { decode->fetch(name); });
}

void pair_actor::fetch(std::uint64_t name) {
  meeting& m = book_[name];
  const auto leg = leg_of(m.decode_link, name);
  if (leg == legs_here_.end() || m.fetched || m.freed) return;
  m.fetched = true;
  m.attempt = static_cast<int>(truth_[m.request].size());
  const job j = leg->second.j;
  const std::string body = leg->second.body;
  legs_here_.erase(leg);  // an answer like any other from here on
  begin(j, body);
  // An engine may refuse instead, and then there is no answer to withhold.
  auto& answers = truth_[m.request];
  if (answers.size() > static_cast<std::size_t>(m.attempt)) answers.back().withheld = !m.ended;
  if (legs_.sglang && m.prefill != nullptr) m.prefill->answer_prefill(name);
}

// A connection that is kept carries other legs after this one.
pair_actor::leg_map::iterator pair_actor::leg_of(std::uint64_t link, std::uint64_t name) {
  const auto leg = legs_here_.find(link);
  return leg != legs_here_.end() && leg->second.name == name ? leg : legs_here_.end();
}

// Once the proxy has heard that a leg failed, it hangs up on the other at once.
void pair_actor::watch_partner(std::uint64_t name, bool prefill_failed) {
  const meeting& m = book_[name];
  const auto heard = [this, name, prefill_failed](hearing) {
    const duration way = 2 * world_.net.latency_max;
    world_.at(way, [this, name, prefill_failed] { complain_of_partner(name, prefill_failed); });
  };
  world_.when_heard(link_of(prefill_failed ? m.prefill_link : m.decode_link), heard);
}

void pair_actor::complain_of_partner(std::uint64_t name, bool prefill_failed) {
  const meeting& m = book_[name];
  pair_actor* other = prefill_failed ? m.decode : m.prefill;
  const std::uint64_t link = prefill_failed ? m.decode_link : m.prefill_link;
  if (other != nullptr && other->leg_of(link, name) != other->legs_here_.end())
    world_.complaints.push_back(fmt::format("request {}: its {} leg goes on although the other failed",
                                            m.request, prefill_failed ? "decode" : "prefill"));
}

}  // namespace sim
