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

// Data-parallel ranks behind the address of an endpoint that is one of them: each is an endpoint.
std::uint32_t ranks_of(const fleet_view& fleet, const endpoint_view& one) {
  int most = one.settings.data_parallel_rank;
  if (most < 0) return 1;
  for (const std::uint32_t i : fleet.pools[one.pool].endpoints) {
    const endpoint_config& other = fleet.endpoints[i].settings;
    if (other.url == one.settings.url) most = std::max(most, other.data_parallel_rank);
  }
  return static_cast<std::uint32_t>(most) + 1;
}

}  // namespace

// Where the exchange keeps the connection of a leg.
engine_connection*& worker::engine_at(exchange& x, flow::leg of) {
  if (of == flow::leg::answer) return x.engine;
  if (x.prefill == nullptr) x.prefill = std::make_unique<prefill_work>();
  return x.prefill->engine;
}

// Draws what a hand-off through this prefill engine is called. false: how its partner would find
// it is not known (any more).
bool worker::name_handoff(exchange& x, const endpoint_view& to) {
  prefill_work& with = *x.prefill;
  const connector_kind how = x.flow.chosen().connector;
  with.rank = to.settings.data_parallel_rank;
  with.room = rng_.next();
  if (!traits(how).bootstrap) return true;
  with.ranks = ranks_of(*fleet_, to);
  std::uint32_t rank = with.rank < 0 ? 0 : static_cast<std::uint32_t>(with.rank);
  if (traits(how).ranks_have_ids) {
    // An engine of several ranks behind one address says who they are; each is as good as the other.
    if (with.rank < 0 && to.rank_ids.size() > 1) {
      rank = static_cast<std::uint32_t>(rng_.below(to.rank_ids.size()));
      with.rank = static_cast<int>(rank);
    }
    if (rank >= to.rank_ids.size() || to.rank_ids[rank].empty()) return false;
    with.engine_id = to.rank_ids[rank];
  }
  const bool any_rank = with.rank < 0;
  with.room = handoff::make_room(with.room, rank, any_rank ? 1 : with.ranks);
  with.bootstrap_host = to.settings.bootstrap_host;
  with.bootstrap_port = to.settings.bootstrap_port;
  return with.bootstrap_port != 0;
}

void worker::append_leg_edits(exchange& x, flow::leg of, std::vector<splice>& out) {
  const handoff::request_body body{x.facts, x.body.view()};
  const prefill_work& with = *x.prefill;
  const handoff::terms said{.params = x.flow.prefill()->params(),
                            .prompt_ids = x.flow.prefill()->prompt_ids(),
                            .room = with.room,
                            .ranks = with.ranks,
                            .bootstrap_host = with.bootstrap_host,
                            .bootstrap_port = with.bootstrap_port,
                            .engine_id = with.engine_id};
  const connector_kind how = x.flow.chosen().connector;
  if (of == flow::leg::prefill) return handoff::prefill_body(how, body, said, out);
  handoff::decode_body(how, body, said, out);
  if (x.flow.where() == flow::state::closing) handoff::make_unread(how, body, out);
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
void worker::complete_prefill(exchange& x, endpoint_id engine) {
  const instant now = io_.now();
  x.prefill->work.first_token(now, true);
  x.prefill->work.ended(now, {});
  x.prefill->work = {};
  tell(x, flow::leg::prefill, engine, flow::fault::none, true);
}

// The first token behind a hand-off: what the transfer took is the price of the next one.
void worker::learn_transfer(const exchange& x) {
  const candidate& to = x.flow.target();
  // Where both legs began at once, the transfer is what lies behind the prefill leg's end.
  const bool serial = handoff::row(x.flow.chosen().connector).order == handoff::dispatch::serial;
  const instant from = serial ? x.attempt_began : x.flow.record().prefill_done;
  router_.handed_over(to.prefill, to.endpoint, to.uncached_tokens, io_.now() - from, x.work.crowded());
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
