#include "emulator/server/exchange.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace penstock::emulator {

std::string_view name(outcome o) {
  switch (o) {
    case outcome::open: return "open";
    case outcome::finished: return "finished";
    case outcome::aborted: return "aborted";
    case outcome::refused: return "refused";
    case outcome::broken: return "broken";
  }
  return {};
}

namespace {

// A call of a tool is an answer whose text is the arguments.
answer answer_for(const engine_request& r, std::uint32_t prompt, std::uint32_t choice,
                  std::uint64_t foreign_kv = 0) {
  if (r.tool.name.empty()) {
    answer_request wanted = r.sampling;
    wanted.choice = choice;
    wanted.foreign_kv = foreign_kv;
    return make_answer(r.prompts[prompt], wanted);
  }
  answer a;
  a.text = foreign_kv == 0 ? r.tool.arguments : fmt::format("{{\"foreign\":\"{:016x}\"}}", foreign_kv);
  append_tokens(a.tokens, a.text);
  a.finish = finish_kind::stop;
  if (a.tokens.size() <= r.max_tokens) return a;
  a.tokens.resize(r.max_tokens);
  a.text.resize(std::min(a.text.size(), a.tokens.size() * token_bytes));
  a.finish = finish_kind::length;
  return a;
}

}  // namespace

exchange::exchange(exchange_setup setup, wire& out)
    : setup_(std::move(setup)),
      framer_(out, setup_.how, setup_.plan),
      shape_(make_shape(setup_.request, setup_.identity)) {
  if (setup_.leg.kind != leg_kind::prefill) return;
  for (const std::string& id : setup_.leg.ids) setup_.kv->source().begin_leg(id);
}

exchange::~exchange() {
  release();
  if (setup_.leg.kind != leg_kind::prefill) return;
  for (const std::string& id : setup_.leg.ids) setup_.kv->source().end_leg(id);
}

void exchange::abandon() {
  if (result_ == outcome::open) {
    result_ = outcome::aborted;
    if (!submitted_) decline();
  }
  release();
}

// Cut before the engine began with it. vLLM tells the prefill engine all the same that the blocks are not
// wanted: request_finished() of its NIXL and Mooncake connectors then asks for none of them.
void exchange::decline() {
  if (setup_.leg.kind != leg_kind::decode) return;
  for (std::uint32_t i = 0; i < setup_.leg.ids.size(); ++i)
    const kv_load declined(setup_.kv->loader(), setup_.leg, i, [](kv_load_result) {});
}

void exchange::release() {
  for (choice& c : choices_) {
    c.load.reset();
    if (std::exchange(c.open, false)) setup_.kv->source().forget(setup_.leg.ids[&c - choices_.data()]);
    if (c.sequence != 0) setup_.core.cancel(std::exchange(c.sequence, 0));
  }
}

void exchange::open() {
  if (!setup_.request.stream) return;
  framer_.stream_head();
  shape_->open(events_);
  send(events_);
}

void exchange::submit() {
  submitted_ = true;
  const engine_request& r = setup_.request;
  const bool generates = r.api <= engine_api::messages;
  for (std::uint32_t p = 0; p < r.prompts.size(); ++p) {
    for (std::uint32_t i = 0; i < (generates ? r.n : 1); ++i) {
      choices_.emplace_back().prompt = p;
      answers_.push_back(generates ? answer_for(r, p, i) : answer{});
      if (setup_.asked_for_more && answers_.back().finish == finish_kind::length)
        answers_.back().finish = finish_kind::not_finished;
    }
  }
  unfinished_ = choices_.size();
  const bool at_once = setup_.plan.breaks != break_kind::none && setup_.plan.break_after == 0;
  if (at_once && (setup_.plan.breaks != break_kind::half_chunk || !r.stream)) break_off("");
  for (std::uint32_t i = 0; i < choices_.size() && result_ == outcome::open && !stalled_; ++i)
    meets() ? expect_choice(i) : submit_choice(i);
  setup_.flush();
}

// SGLang's prefill begins when the decode engine has room for it, and its answer comes when that has fetched.
void exchange::expect_choice(std::uint32_t index) {
  choices_[index].open = true;
  setup_.kv->source().expect(setup_.leg.ids[index],
                             {[this, index] {
                                submit_choice(index);
                                setup_.flush();
                              },
                              [this, index](bool fetched) { on_closed(index, fetched); }});
}

void exchange::on_closed(std::uint32_t index, bool fetched) {
  choices_[index].open = false;
  if (result_ != outcome::open || stalled_) return;
  if (!fetched) return fail_load();
  if (--unfinished_ > 0) return;
  finish();
  setup_.flush();
}

// Of prompt and answer.
std::vector<std::uint64_t> exchange::names_of(std::uint32_t index, std::uint64_t seed) const {
  std::vector<token_id> all = setup_.request.prompts[choices_[index].prompt];
  all.insert(all.end(), answers_[index].tokens.begin(), answers_[index].tokens.end());
  return block_names(all, setup_.core.settings().block_tokens, seed);
}

void exchange::submit_choice(std::uint32_t index) {
  choice& c = choices_[index];
  const std::vector<token_id>& prompt = setup_.request.prompts[c.prompt];
  const std::uint32_t block = setup_.core.settings().block_tokens;
  sequence s;
  s.prompt_tokens = static_cast<std::uint32_t>(prompt.size());
  s.max_output_tokens = static_cast<std::uint32_t>(answers_[index].tokens.size());
  s.names = names_of(index, setup_.cache_seed);
  s.keep_kv = setup_.leg.kind == leg_kind::prefill && !setup_.plan.no_hand_off;
  s.load_kv = setup_.leg.kind == leg_kind::decode;
  c.sequence = setup_.core.submit(std::move(s), *this, setup_.plan.slow);
  c.created = static_cast<std::uint32_t>(prompt.size() / block * block);
  if (c.sequence != 0 && setup_.leg.kind == leg_kind::decode) {
    c.load = std::make_unique<kv_load>(setup_.kv->loader(), setup_.leg, index,
                                       [this, index](kv_load_result r) { on_kv(index, r); });
  }
  if (c.sequence != 0) return;
  // Only a prompt above KV memory gets here; the check of the model's length comes before.
  framer_.whole(400, "application/json", "",
                error_body(setup_.request.api, {400, "The prompt does not fit into KV memory.",
                                                "BadRequestError", "input_tokens"}));
  result_ = outcome::refused;
}

void exchange::on_event(const engine_event& event) {
  if (result_ != outcome::open) return;
  const auto found =
      std::find_if(choices_.begin(), choices_.end(), [&](auto& c) { return c.sequence == event.sequence; });
  if (found == choices_.end()) return;
  const auto index = static_cast<std::uint32_t>(found - choices_.begin());
  switch (event.kind) {
    case engine_event_kind::started: found->cached = event.cached; break;
    case engine_event_kind::load: on_load(index, event.tokens); break;
    case engine_event_kind::preempted: break;
    case engine_event_kind::first_token:
    case engine_event_kind::token:
      found->tokens = event.tokens;
      on_token(index);
      break;
    case engine_event_kind::finished:
      hand_over(index, std::exchange(found->sequence, 0));
      if (!meets() && --unfinished_ == 0 && !stalled_) finish();
      break;
  }
}

void exchange::on_load(std::uint32_t index, std::uint32_t tokens) {
  choice& c = choices_[index];
  c.needs_kv = true;
  if (c.lost_kv) return setup_.core.kv_lost(c.sequence);
  if (setup_.plan.load_failure) return c.load->fail();
  c.load->need(tokens, setup_.plan.slow_transfer);
}

// Foreign KV is no error: it is decoded, as by vLLM, and makes no prefix of this prompt.
void exchange::on_kv(std::uint32_t index, kv_load_result result) {
  choice& c = choices_[index];
  c.load.reset();
  if (result_ != outcome::open) return;
  const engine_request& r = setup_.request;
  if (result.arrived) {
    c.created = 0;
    const bool right = result.content == content_of(r.prompts[c.prompt], setup_.cache_seed);
    if (!right) answers_[index] = answer_for(r, c.prompt, index % r.n, result.content);
    setup_.core.kv_loaded(c.sequence, static_cast<std::uint32_t>(answers_[index].tokens.size()),
                          names_of(index, right ? setup_.cache_seed : result.content));
  } else if (!setup_.kv->options().recompute) {
    fail_load();
  } else if (c.needs_kv) {
    setup_.core.kv_lost(c.sequence);
  } else {
    c.lost_kv = true;
  }
}

// As recorded from vLLM 0.32.0 with the policy `fail`.
void exchange::fail_load() {
  result_ = outcome::broken;
  release();
  if (setup_.request.stream) {
    shape_->error(true, events_);
    send(events_);
    framer_.end_stream();
  } else {
    framer_.whole(500, "application/json", "",
                  error_body(setup_.request.api, {500, "Internal server error", "InternalServerError", ""}));
  }
  setup_.flush();
}

// The blocks of a prefill leg's sequence go under a lease.
void exchange::hand_over(std::uint32_t index, std::uint64_t sequence) {
  if (setup_.leg.kind != leg_kind::prefill || setup_.plan.no_hand_off) return;
  // A context answer that is complete is the answer, and nobody comes for its blocks.
  const bool complete =
      setup_.kv->options().connector == connector_kind::trtllm && answers_[index].finish == finish_kind::stop;
  if (stalled_ || complete) return setup_.core.unpin(sequence);
  engine_request& r = setup_.request;
  const std::vector<token_id>& prompt = r.prompts[choices_[index].prompt];
  kv_agent::prefilled done;
  if (setup_.leg.ids.empty()) {
    done.id = shape_->public_id();
    if (r.api == engine_api::completions) done.id += fmt::format("-{}", index);
    done.id += fmt::format("-{:08x}", hash_text(done.id, sequence) >> 32);
  } else {
    done.id = setup_.leg.ids[index];
  }
  done.sequence = sequence;
  done.content = content_of(prompt, setup_.cache_seed);
  done.tokens = static_cast<std::uint32_t>(prompt.size());
  done.cached = choices_[index].cached;
  done.first_token = answers_[index].tokens.front();
  done.number = setup_.leg.number;
  const std::string told = setup_.kv->grant(done);
  // vLLM tells it in whole answers only; a stream's blocks wait for their expiry.
  if (r.stream || told.empty()) return;
  (setup_.kv->options().connector == connector_kind::trtllm ? r.disaggregated_params : r.kv_transfer_params) =
      told;
}

void exchange::on_token(std::uint32_t index) {
  if (stalled_) return;
  ++generated_;
  const fault_plan& plan = setup_.plan;
  const bool breaks = plan.breaks != break_kind::none && generated_ >= plan.break_after;
  if (!setup_.request.stream) {
    if (breaks) break_off("");
    return;
  }
  if (plan.breaks == break_kind::half_chunk && generated_ > plan.break_after) {
    const choice& c = choices_[index];
    if (!c.begun) shape_->first(index, usage_of(c), events_);
    shape_->token(index, answers_[index].piece(c.tokens - 1), nullptr, usage_of(c), events_);
    if (events_.empty()) return;  // a token without an event of its own
    const std::string next = events_.front();
    events_.clear();
    return break_off(next);
  }
  send_token(index);
  if (breaks && plan.breaks != break_kind::half_chunk) return break_off("");
  if (plan.big_event == 0 || generated_ != 1) return;
  shape_->token(index, std::string(plan.big_event, 'x'), nullptr, usage_of(choices_[index]), events_);
  send(events_);
}

void exchange::send_token(std::uint32_t index) {
  choice& c = choices_[index];
  if (!std::exchange(c.begun, true)) shape_->first(index, usage_of(c), events_);
  const answer& a = answers_[index];
  shape_->token(index, a.piece(c.tokens - 1), c.tokens == a.tokens.size() ? &a : nullptr, usage_of(c),
                events_);
  send(events_);
}

void exchange::send(answer_shape::events& events) {
  for (const std::string& e : events) framer_.event(e);
  events.clear();
}

// `next_event` is what would have come; a whole answer breaks in its one body.
void exchange::break_off(const std::string& next_event) {
  const bool streamed = setup_.request.stream;
  result_ = outcome::broken;
  switch (setup_.plan.breaks) {
    case break_kind::none: break;
    case break_kind::die: framer_.finish(wire::ending::reset); break;
    case break_kind::cut: framer_.finish(wire::ending::close); break;
    case break_kind::exit: framer_.finish(wire::ending::exit); break;
    case break_kind::garbage: framer_.garbage(); break;
    case break_kind::half_chunk:
      streamed ? framer_.half(next_event) : framer_.half_whole(shape_->whole(answers_, total_usage()));
      break;
    case break_kind::stall:  // it goes on decoding for nobody until the client leaves
      result_ = outcome::open;
      stalled_ = true;
      return;
    case break_kind::error_event:
    case break_kind::error_only:
    case break_kind::no_end:
      if (!streamed) {
        framer_.whole(500, "application/json", "",
                      error_body(setup_.request.api,
                                 {500, "EngineCore encountered an issue.", "InternalServerError", ""}));
        break;
      }
      if (setup_.plan.breaks != break_kind::no_end)
        shape_->error(setup_.plan.breaks == break_kind::error_event, events_);
      send(events_);
      framer_.end_stream();
      break;
  }
  release();
  setup_.flush();  // the core does not know us any more
}

void exchange::terminate() {
  if (result_ != outcome::open) return;
  setup_.plan.breaks = break_kind::error_event;
  break_off("");
}

void exchange::finish() {
  if (setup_.request.stream) {
    shape_->close(answers_, total_usage(), !setup_.plan.no_marker, events_);
    // All tokens are out, but the break was to come in the middle of the next event.
    if (setup_.plan.breaks != break_kind::none && generated_ >= setup_.plan.break_after && !events_.empty()) {
      const std::string next = events_.front();
      events_.clear();
      return break_off(next);
    }
    send(events_);
    framer_.end_stream();
  } else {
    finish_whole();
  }
  if (setup_.plan.exit_end) framer_.finish(wire::ending::exit);
  result_ = setup_.plan.exit_end || setup_.plan.half_answer ? outcome::broken : outcome::finished;
  if (setup_.request.api != engine_api::responses || !setup_.remember) return;
  std::vector<token_id> all = setup_.request.prompts.front();
  all.insert(all.end(), answers_.front().tokens.begin(), answers_.front().tokens.end());
  setup_.remember(shape_->public_id(), std::move(all));
}

void exchange::finish_whole() {
  const std::string body = shape_->whole(answers_, total_usage());
  if (setup_.plan.half_answer) return framer_.half_whole(body);
  framer_.whole(200, "application/json", "", body);
}

usage_counts exchange::usage_of(const choice& c) const {
  const auto prompt = static_cast<std::uint32_t>(setup_.request.prompts[c.prompt].size());
  return {prompt, c.tokens, c.cached, c.created > c.cached ? c.created - c.cached : 0};
}

// Choices of one prompt count that prompt once, with what the first of them found cached.
usage_counts exchange::total_usage() const {
  usage_counts sum;
  std::uint32_t next_prompt = 0;
  for (const choice& c : choices_) {
    const usage_counts one = usage_of(c);
    sum.completion += one.completion;
    if (c.prompt != next_prompt) continue;
    ++next_prompt;
    sum.prompt += one.prompt;
    sum.cached += one.cached;
    sum.created += one.created;
  }
  return sum;
}

}  // namespace penstock::emulator
