// Flows and engines: carries out what a flow asks for, and tells it what engines answer.
#include <algorithm>
#include <utility>

#include "proxy/handoff/connector.hpp"
#include "proxy/http/heads.hpp"
#include "proxy/worker/worker.hpp"

namespace penstock::worker {
namespace {

// How long a failure or a refusal makes an endpoint less wanted on its own, without health's judgement.
constexpr duration suspicion = std::chrono::seconds(1);
// More than a worker's retry budget ever saves.
constexpr std::size_t most_candidates = 16;
// Up to here a request waits for the end of the batch; a larger one is sent while its body is in the cache.
constexpr std::size_t small_request = 32 * 1024;
// A copy of so little is cheaper than a list of parts for the kernel.
constexpr std::size_t joined_body = 4 * 1024, usual_head = 1536;

}  // namespace

// Gives a flow one event, carries out its actions, and then what those caused at once.
void worker::drive(exchange& x, flow::event&& e) {
  actions_.clear();
  x.flow.on(std::move(e), io_.now(), actions_);
  for (const flow::action& a : actions_) execute(x, a);
  while (!followups_.empty()) {
    flow::event next = std::move(followups_.front());
    followups_.erase(followups_.begin());
    actions_.clear();
    // What deciding cost is part of our share of TTFT.
    const bool decided = std::holds_alternative<flow::picked>(next);
    x.flow.on(std::move(next), decided ? io_.precise_now() : io_.now(), actions_);
    for (const flow::action& a : actions_) execute(x, a);
  }
  x.kept.set(x.flow.held_bytes());
}

// A connection of that leg is given up: what was about to be said of it is of no interest.
void worker::forget_followups(flow::leg of) {
  std::erase_if(followups_, [of](const flow::event& e) { return flow::leg_of(e) == of; });
}

void worker::execute(exchange& x, const flow::action& a) {
  using kind = flow::action_kind;
  switch (a.kind) {
    case kind::decide: return decide(x);
    case kind::connect: return connect_engine(x, a.of, a.flag);
    case kind::dispatch: return dispatch(x, a.of);
    case kind::send_request: return send_request(x, a.of);
    case kind::first_token:
      x.work.first_token(io_.now(), a.flag);
      if (a.flag && x.flow.prefill() != nullptr) learn_transfer(x);
      if (a.flag) tell(x, a.of, x.flow.engine_of(a.of), flow::fault::none, true);
      return;
    case kind::answer_head: return answer_head(x, a.flag, a.bytes);
    case kind::write:
      batch_.body.push_back(a.bytes);
      batch_.body_bytes += a.bytes.size();
      return;
    case kind::answer_error: return answer_error(x);
    case kind::end_answer: batch_.end = true; return;
    case kind::abort_answer: batch_.abort = true; return;
    case kind::pause_engine:
    case kind::resume_engine: {
      if (x.engine == nullptr) return;
      const bool pause = a.kind == kind::pause_engine;
      if (x.engine->paused == pause) return;
      x.engine->paused = pause;
      pause ? io_.pause(x.engine->socket) : io_.resume(x.engine->socket);
      return;
    }
    case kind::keep_engine: return keep_engine(x, a.of);
    case kind::drop_engine:
      forget_followups(a.of);
      if (engine_connection* e = engine_at(x, a.of)) drop(*e, false);
      return;
    case kind::hang_up: return io_.finish_sending(engine_at(x, a.of)->socket);
    case kind::give_up_work: (a.of == flow::leg::answer ? x.work : x.prefill->work) = {}; return;
    case kind::complete_work:
      return a.of == flow::leg::answer ? complete_work(x) : complete_prefill(x, a.engine);
    case kind::engine_failed: return tell(x, a.of, a.engine, x.flow.engine_fault(), false);
    case kind::adopt_prefill: return adopt_prefill(x);
    case kind::pair_failed:
      router_.pair_failed(x.flow.failed_pair().first, x.flow.failed_pair().second, io_.now());
      return;
    case kind::finish: x.finished = true; return;
  }
}

void worker::decide(exchange& x) {
  auto found = router_.decide(x.facts, *fleet_, io_.now(), rng_, most_candidates);
  if (auto* error = std::get_if<api_error>(&found)) return follow_up(flow::not_picked{std::move(*error)});
  plan& chosen = std::get<plan>(found);
  if (hold_back(x, chosen)) return;
  follow_up(flow::picked{std::move(chosen)});
}

// Holds a request back while the engine it is for has enough to do. What it will cost there is booked
// meanwhile, so that others are sent with it in mind.
bool worker::hold_back(exchange& x, plan& p) {
  if (x.flow.record().held != duration{} || !router_.should_wait(p, *fleet_)) return false;
  const candidate& to = p.candidates.front();
  const instant now = io_.now();
  x.work = router_.reserve(x.facts, *fleet_, to, now);
  x.held = std::make_unique<held_request>();
  x.held->turn.owner = &x;
  held_.add(x.held->turn, to.endpoint, x.work.hold(p.telling_key), now, settings().routing.hold);
  x.held->chosen = std::move(p);
  if (!held_timer_.armed()) wheel_.arm(held_timer_, now + timer_wheel::tick);
  return true;
}

void worker::connect_engine(exchange& x, flow::leg of, bool fresh) {
  const bool answers = of == flow::leg::answer;
  if (!answers && x.prefill == nullptr) x.prefill = std::make_unique<prefill_work>();
  (answers ? x.attempt_began : x.prefill->attempt_began) = io_.now();
  const endpoint_view* to = endpoint_of(x, of);
  if (to == nullptr || to->addresses.empty())
    return follow_up(flow::engine_unreachable{reason::connect_failed, of});
  if (!answers && !name_handoff(x, *to))
    return follow_up(flow::engine_unreachable{reason::connect_failed, of});
  (answers ? x.flow.record().endpoint_url : x.flow.record().prefill_url) = to->settings.url;
  x.flow.record().pool = fleet_->pools[to->pool].name;
  engine_connection* idle = fresh ? nullptr : pool_.take(to->id);
  if (idle != nullptr) {
    idle->timer.unlink();
    idle->owner = &x;
    idle->reused = true;
    idle->of = of;
    engine_at(x, of) = idle;
    ++metrics_.engine_reuses;
    return follow_up(flow::engine_connected{true, of});
  }
  const net_address& address = to->addresses[rng_.below(to->addresses.size())];
  auto e = std::make_unique<engine_connection>(io_.connect(address));
  e->endpoint = to->id;
  e->owner = &x;
  e->of = of;
  e->timer.owner = e.get();
  e->timer.kind = 1;
  ++metrics_.engine_connects;
  engine_at(x, of) = &put_engine(std::move(e));
}

void worker::dispatch(exchange& x, flow::leg of) {
  const instant now = io_.now();
  if (of == flow::leg::prefill) return dispatch_prefill(x);
  candidate to = x.flow.target();
  if (to.prefill) to.uncached_tokens = std::min<std::uint64_t>(to.uncached_tokens, 1);
  x.work = {};  // of a request that was held back
  x.work = router_.dispatched(x.facts, *fleet_, to, now);
  const duration prefill = router_.predicted_prefill(to);
  if (!to.prefill) {
    x.flow.record().predicted_prefill = prefill;
    x.flow.record().engine_asked = now;
  }
  if (!x.facts.stream) x.flow.predict_prefill(now, prefill);
  x.cells = &metrics_.pools[x.flow.record().pool];
}

void worker::send_request(exchange& x, flow::leg of) {
  engine_connection& e = *engine_at(x, of);
  const endpoint_view* to = endpoint_of(x, of);
  if (to == nullptr) return follow_up(flow::engine_lost{false, of});
  const bool answers = of == flow::leg::answer;
  std::vector<splice>& splices = answers ? x.splices : x.prefill->splices;
  std::string& request_head = answers ? x.request_head : x.prefill->request_head;
  const bytes_view body = x.body.view();
  splices.clear();
  const bool asks_usage = answers || handoff::same_body(x.flow.chosen().connector);
  if (asks_usage && x.flow.inject_usage())
    if (auto s = tokenizer::usage_splice(x.facts, body)) splices.push_back(std::move(*s));
  if (auto s = tokenizer::salt_splice(x.facts, x.salt)) {
    const bool first = !splices.empty() && s->offset < splices.front().offset;
    splices.insert(first ? splices.begin() : splices.end(), std::move(*s));
  }
  if (x.flow.prefill() != nullptr) append_leg_edits(x, of, splices);
  std::uint64_t length = body.size();
  for (const splice& s : splices) length = length - s.erase + s.insert.size();
  const bool joined = length <= joined_body;
  request_head.clear();
  if (joined) request_head.reserve(usual_head + length);
  const http::request_head& head = x.client->parser.head();
  http::append_engine_head(
      request_head, head,
      {.method = head.method,
       .path = x.route.path,
       .query = x.route.query,
       .path_prefix = to->path_prefix,
       .authority = to->authority,
       .api_key = to->settings.api_key,
       .headers = &to->settings.headers,
       .request_id = x.flow.record().request_id,
       .content_length = length,
       .identity_only = x.flow.scanned(),
       .data_parallel_rank = answers ? to->settings.data_parallel_rank : x.prefill->rank});
  e.to_send.clear();
  e.sent_parts = 0;
  e.to_send.push_back(request_head);
  std::size_t from = 0;
  for (const splice& s : splices) {
    e.to_send.push_back(body.substr(from, s.offset - from));
    e.to_send.push_back(s.insert);
    from = s.offset + s.erase;
  }
  e.to_send.push_back(body.substr(from));
  if (joined) {
    for (const bytes_view part : std::span(e.to_send).subspan(1)) request_head += part;
    e.to_send.assign(1, request_head);
  }
  e.request_gone = e.answer_complete = false;
  e.parser.expect(false);
  if (length <= small_request) return put_off(e.socket, e.put_off);
  if (push_request(e)) follow_up(flow::request_sent{of});
}

void worker::send_on(engine_connection& e) {
  if (e.owner == nullptr || e.connecting) return;
  client_connection& c = *e.owner->client;
  if (push_request(e)) drive(*e.owner, flow::request_sent{e.of});
  flush(c);
}

// Hands the kernel more of the request. True when this was the last of it.
bool worker::push_request(engine_connection& e) {
  if (e.request_gone) return false;
  std::span<bytes_view> rest = std::span(e.to_send).subspan(e.sent_parts);
  std::size_t taken = io_.write(e.socket, rest);
  for (bytes_view& part : rest) {
    const std::size_t n = std::min(taken, part.size());
    part.remove_prefix(n);
    taken -= n;
    if (!part.empty()) return false;
    ++e.sent_parts;
  }
  e.request_gone = true;
  e.to_send.clear();
  return true;
}

void worker::engine_answered(engine_connection& e, bytes_view bytes) {
  if (e.owner == nullptr) return drop(e, false);  // nobody asked this engine anything
  client_connection& c = *e.owner->client;
  bool after_head = false;  // an answer without a body is complete with its head
  while (e.owner != nullptr && (!bytes.empty() || after_head)) {
    http::body_spans spans;
    const http::parse_result r = e.parser.feed(bytes, spans);
    for (const bytes_view span : spans) take_answer_bytes(e, span);
    bytes.remove_prefix(r.consumed);
    after_head = r.status == http::parse_status::head;
    if (e.owner == nullptr) break;
    if (after_head) {
      drive(*e.owner, flow::engine_head{&e.parser.head(), e.of});
    } else if (r.status == http::parse_status::complete) {
      e.answer_complete = true;
      drive(*e.owner, flow::engine_end{e.of});
    } else if (r.status == http::parse_status::failed) {
      drive(*e.owner, flow::engine_lost{true, e.of, e.parser.fault()});
    } else if (r.status == http::parse_status::more && spans.empty() && r.consumed == 0) {
      break;
    }
  }
  // Bytes behind the answer belong to nobody; such a connection is not to be trusted with a request.
  if (!bytes.empty() && !e.gone && e.owner == nullptr) drop(e, false);
  flush(c);
}

void worker::take_answer_bytes(engine_connection& e, bytes_view span) {
  if (e.owner == nullptr) return;
  exchange& x = *e.owner;
  if (e.of != flow::leg::answer) [[unlikely]]
    return drive(x, flow::engine_bytes{span, e.of});
  const account_record& r = x.flow.record();
  const std::uint64_t before = r.content_events;
  const instant last = r.last_token;
  drive(x, flow::engine_bytes{span});
  if (r.content_events == before) return release_request(x);
  if (before != 0 && x.cells != nullptr) x.cells->gap.observe(seconds(r.last_token - last));
  if (r.last_token - x.token_told_at >= std::chrono::seconds(1))
    tell(x, e.of, e.endpoint, flow::fault::none, true);
  if (before == 0) release_request(x);
}

// Once the answer is committed nobody else will be asked: body and blocks are of no more use, and a
// stream that lives for minutes should not hold them.
void worker::release_request(exchange& x) {
  if (!x.flow.sent_for_good() || x.body.capacity() == 0) return;
  if (x.engine != nullptr && !x.engine->request_gone) return;
  x.body.release();
  x.facts.prompts = {};
  x.request_head = std::string();
  x.splices = {};
  x.prefill.reset();
}

void worker::keep_engine(exchange& x, flow::leg of) {
  engine_connection& e = *engine_at(x, of);
  const timeouts_config& t = settings().timeouts;
  const bool usable =
      e.request_gone && e.answer_complete && e.parser.head().keep_alive && t.engine_idle.count() != 0;
  if (e.paused) io_.resume(e.socket);
  e.paused = false;
  engine_at(x, of) = nullptr;
  e.owner = nullptr;
  if (!usable || !pool_.put(e, settings().limits.idle_per_endpoint)) return drop(e, false);
  wheel_.arm(e.timer, io_.now() + t.engine_idle);
}

// Whether an answer that ended well tells how much of its prompt was cached; no: it should have. Fewer tokens
// may be left out for being none. Behind a hand-off the figures are another engine's.
cache_told worker::cache_told_by(const exchange& x) {
  constexpr std::uint64_t much = 512;
  const token_usage& usage = x.flow.record().usage;
  if (x.flow.prefill() != nullptr || !usage.known) return cache_told::unknown;
  if (usage.cached_known) return cache_told::yes;
  const bool should = x.flow.target().hit_tokens >= much && x.work.computed_before() >= much;
  return should ? cache_told::no : cache_told::unknown;
}

void worker::complete_work(exchange& x) {
  const token_usage& usage = x.flow.record().usage;
  const cache_told told = cache_told_by(x);
  x.work.ended(io_.now(), usage);
  x.work = {};
  if (usage.known) estimator_.learn(x.facts, usage.prompt);
  router_.answered(x.facts.model, usage);
  if (x.route.api == api_kind::responses && !x.flow.response_id().empty())
    router_.remember_response(x.flow.response_id(), x.flow.target().endpoint);
  tell(x, flow::leg::answer, x.flow.target().endpoint, flow::fault::none, false, told);
}

void worker::tell(exchange& x, flow::leg of, endpoint_id engine, flow::fault fault, bool token,
                  cache_told cache) {
  const instant now = io_.now();
  // Other workers' next decisions know of a failure before health has judged it.
  if (fault != flow::fault::none) board_.suspect(engine, now + suspicion);
  if (token) x.token_told_at = now;
  told_.outcome({.endpoint = engine,
                 .fault = fault,
                 .token = token,
                 .began = of == flow::leg::answer ? x.attempt_began : x.prefill->attempt_began,
                 .at = now,
                 .cache = cache});
}

// The request is over, for us and for the client. Destroys it.
void worker::account(exchange& x) {
  client_connection& c = *x.client;
  account_record& r = x.flow.record();
  r.bytes_out = c.sent_in_answer;
  if (!c.gone) r.ended = io_.now();
  if (x.engine != nullptr) drop(*x.engine, false);
  if (x.prefill != nullptr && x.prefill->engine != nullptr) drop(*x.prefill->engine, false);
  metrics_.account(r);
  told_.account(r);
  std::erase(waiting_, &c);
  c.current.reset();
  batch_.clear();
}

}  // namespace penstock::worker
