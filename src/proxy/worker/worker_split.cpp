// The second engine of a split request, and hand-offs that are closed for clients that left.
#include <algorithm>
#include <utility>

#include "proxy/handoff/connector.hpp"
#include "proxy/worker/worker.hpp"

namespace penstock::worker {
namespace {

// Clients that left between the legs and are still remembered. Each holds a body for some seconds at most;
// beyond this many their leases run out instead.
constexpr std::size_t most_ghosts = 1024;

}  // namespace

// Where the exchange keeps the connection of a leg.
engine_connection*& worker::engine_at(exchange& x, flow::leg of) {
  if (of == flow::leg::answer) return x.engine;
  if (x.prefill == nullptr) x.prefill = std::make_unique<prefill_work>();
  return x.prefill->engine;
}

void worker::append_leg_edits(exchange& x, flow::leg of, std::vector<splice>& out) {
  const handoff::request_body body{x.facts, x.body.view()};
  const handoff::terms said{.params = x.flow.prefill()->params(),
                            .prompt_ids = x.flow.prefill()->prompt_ids(),
                            .room = x.prefill->room};
  const connector_kind how = x.flow.chosen().connector;
  if (of == flow::leg::prefill) return handoff::prefill_body(how, body, said, out);
  handoff::decode_body(how, body, said, out);
  if (x.flow.where() == flow::state::closing) handoff::make_stream(body, out);
}

void worker::dispatch_prefill(exchange& x) {
  const std::vector<candidate>& known = x.flow.chosen().prefills;
  const endpoint_id id = x.flow.engine_of(flow::leg::prefill);
  const auto found =
      std::find_if(known.begin(), known.end(), [id](const candidate& c) { return c.endpoint == id; });
  candidate to;
  to.endpoint = id;
  to.uncached_tokens = x.facts.prompt_tokens;
  if (found != known.end()) to = *found;
  x.prefill->work = router_.dispatched(x.facts, *fleet_, to, io_.now());
}

// The prompt is computed: that is what a first token tells elsewhere.
void worker::complete_prefill(exchange& x) {
  const instant now = io_.now();
  x.prefill->work.first_token(now, true);
  x.prefill->work.ended(now, {});
  x.prefill->work = {};
  tell(x, flow::leg::prefill, x.flow.engine_of(flow::leg::prefill), flow::fault::none, true);
}

// The first token behind a hand-off: what it took from the decode request on is the price of the next one.
void worker::learn_transfer(const exchange& x) {
  const candidate& to = x.flow.target();
  router_.handed_over(to.prefill, to.endpoint, to.uncached_tokens, io_.now() - x.attempt_began);
}

// The prefill engine's answer is the client's.
void worker::adopt_prefill(exchange& x) {
  x.engine = std::exchange(x.prefill->engine, nullptr);
  if (x.engine != nullptr) x.engine->of = flow::leg::answer;
  x.work = std::move(x.prefill->work);
  x.attempt_began = x.prefill->attempt_began;
  x.flow.record().endpoint_url = x.flow.record().prefill_url;
  x.cells = &metrics_.pools[x.flow.record().pool];
}

// --- hand-offs whose client left ----------------------------------------------------------------------

// The client's socket is closed; the exchange goes on until the hand-off is delivered, which its flow bounds
// in time.
void worker::keep_ghost(std::unique_ptr<client_connection> c) {
  client_connection& here = *c;
  ghosts_.push_back(std::move(c));
  if (ghosts_.size() > most_ghosts) {
    drive(*here.current, flow::drain_now{});
    return settle_ghost(here);
  }
  wheel_.arm(here.timer, here.current->flow.deadline());
}

void worker::settle_ghost(client_connection& c) {
  if (c.current == nullptr) return;
  if (!c.current->finished) return wheel_.arm(c.timer, c.current->flow.deadline());
  account(*c.current);
  c.timer.unlink();
  const auto at = std::find_if(ghosts_.begin(), ghosts_.end(), [&c](const auto& g) { return g.get() == &c; });
  if (at == ghosts_.end()) return;
  dead_clients_.push_back(std::move(*at));
  ghosts_.erase(at);
}

void worker::end_ghosts() {
  while (!ghosts_.empty()) {
    client_connection& c = *ghosts_.back();
    drive(*c.current, flow::drain_now{});
    settle_ghost(c);
  }
}

}  // namespace penstock::worker
