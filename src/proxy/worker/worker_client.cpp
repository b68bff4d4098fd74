// What clients send: heads, bodies, pipelined requests; and what needs no engine.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

#include "proxy/handoff/connector.hpp"
#include "proxy/http/shapes.hpp"
#include "proxy/worker/head_hints.hpp"
#include "proxy/worker/local_answers.hpp"
#include "proxy/worker/worker.hpp"

namespace penstock::worker {
namespace {

std::uint64_t request_id_hash(bytes_view id) { return std::hash<std::string_view>{}(id) | 1; }

constexpr std::size_t hex_digits = 16;

// All digits at once: each byte of a word becomes one half byte, and that its digit.
void append_hex(std::string& out, std::uint64_t bits) {
  const auto digits = [](std::uint64_t half) {
    half = (half | half << 16) & 0x0000ffff0000ffff;
    half = (half | half << 8) & 0x00ff00ff00ff00ff;
    half = (half | half << 4) & 0x0f0f0f0f0f0f0f0f;
    const std::uint64_t letters = ((half + 0x0606060606060606) >> 4) & 0x0101010101010101;
    half += 0x3030303030303030 + letters * ('a' - '0' - 10);
    return std::endian::native == std::endian::little ? __builtin_bswap64(half) : half;
  };
  const std::uint64_t text[2] = {digits(bits >> 32), digits(bits & 0xffffffff)};
  out.append(reinterpret_cast<const char*>(text), sizeof text);
}

}  // namespace

void worker::consume(client_connection& c, bytes_view bytes) {
  if (c.lingering || c.leaving) return;
  c.processing = true;
  while (!bytes.empty() && !c.gone && !c.leaving && !c.lingering) {
    const bool busy = c.current != nullptr && (c.current->body_complete || c.current->waiting_for_memory);
    if (busy || c.unsent.size() > settings().limits.stream_buffer) {
      // Sent before its turn: kept, and nothing more is read until then.
      c.early.push(bytes);
      if (!c.paused) io_.pause(c.socket);
      c.paused = true;
      break;
    }
    if (!step(c, bytes)) break;
  }
  c.processing = false;
  end_half_closed(c);
  if (!c.gone) arm(c);
}

void worker::consume_early(client_connection& c) {
  if (c.processing) return;  // the loop below us goes on with what it has
  if (c.paused) {
    c.paused = false;
    io_.resume(c.socket);
  }
  if (c.early.empty()) return;
  const std::string bytes = c.early.take();
  consume(c, bytes);
}

bool worker::step(client_connection& c, bytes_view& bytes) {
  if (!c.head_begun && c.current == nullptr) {
    c.head_begun = true;
    c.state_since = io_.now();
  }
  http::body_spans body;
  const http::parse_result r = c.parser.feed(bytes, body);
  bytes.remove_prefix(r.consumed);
  if (c.current != nullptr) {
    for (const bytes_view span : body) c.current->body.append(span);
    const std::uint64_t limit = c.current->fleet->settings->limits.body_bytes;
    if (c.current->body.size() > limit) {
      refuse(c, {.why = reason::body_too_large,
                 .message = fmt::format("The request body is larger than {} bytes.", limit)});
      return false;
    }
  }
  switch (r.status) {
    case http::parse_status::head: begin_request(c); return true;
    case http::parse_status::complete: body_done(c); return true;
    case http::parse_status::failed:
      c.keep_alive = false;
      refuse(c, c.parser.error());
      return false;
    case http::parse_status::progress: return true;
    case http::parse_status::more: break;
  }
  if (c.current == nullptr && c.parser.idle()) c.head_begun = false;
  return r.consumed != 0;
}

void worker::begin_request(client_connection& c) {
  const http::request_head& head = c.parser.head();
  c.head_begun = false;
  c.answered = false;
  c.sent_in_answer = 0;
  c.keep_alive = head.keep_alive && !fleet_->draining;
  auto found = http::find_route(head, settings().server.passthrough);
  if (auto* error = std::get_if<api_error>(&found)) return refuse(c, std::move(*error));
  http::route& route = std::get<http::route>(found);
  switch (route.api) {
    case api_kind::models:
    case api_kind::model:
    case api_kind::health:
    case api_kind::options: return answer_locally(c, route);
    default: break;
  }
  c.current = std::make_unique<exchange>(settings(), retries_, handoffs_, body_memory_, bodies_, buffers_,
                                         route.api, io_.now());
  exchange& x = *c.current;
  x.live = count_lease(live_requests_);
  x.client = &c;
  x.fleet = fleet_;
  x.route = std::move(route);
  x.body_began = io_.now();
  account_record& r = x.flow.record();
  r.client = c.peer;
  r.method = head.method;
  r.path = x.route.path;
  if (const http::field* trace = http::find(head, "traceparent")) r.trace_parent = trace->value;
  take_request_id(x);
  if (head.framing == http::body_framing::length && head.content_length > settings().limits.body_bytes)
    return refuse(c, {.why = reason::body_too_large,
                      .message = fmt::format("The request body has {} bytes; at most {} are allowed.",
                                             head.content_length, settings().limits.body_bytes)});
  const bool empty = head.framing == http::body_framing::none ||
                     (head.framing == http::body_framing::length && head.content_length == 0);
  if (empty) return body_done(c);
  if (bodies_.full()) {
    x.waiting_for_memory = true;
    ++metrics_.memory_waits;
    waiting_.push_back(&c);
    if (!c.paused) io_.pause(c.socket);
    c.paused = true;
    return;
  }
  begin_body(c);
}

void worker::begin_body(client_connection& c) {
  if (!c.parser.head().expect_continue) return;
  const bytes_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
  send_or_keep(c, {&go_on, 1});
}

void worker::body_done(client_connection& c) {
  exchange& x = *c.current;
  x.body_complete = true;
  x.flow.record().bytes_in = x.body.size();
  std::optional<api_error> error;
  if (x.route.api == api_kind::multipart) {
    const http::field* type = http::find(c.parser.head().fields, http::field_kind::content_type);
    error = extractor_.read_multipart(type != nullptr ? type->value : bytes_view{}, x.body.view(), x.facts);
  } else if (x.body.size() == 0) {
    error = api_error{.why = reason::invalid_json, .message = "The request has no body; send a JSON object."};
  } else {
    error = read_facts(x, c.parser.head());
  }
  if (error) {
    drive(x, flow::refused{std::move(*error)});
  } else {
    x.facts.carried_by = handoff::carriers(x.facts);
    if (x.facts.stream) x.live_stream = count_lease(live_streams_);
    drive(x, flow::body_ready{&x.facts});
  }
  flush(c);
}

// The body's facts, and what the head adds to them: the tenant, and whose session it is.
std::optional<api_error> worker::read_facts(exchange& x, const http::request_head& head) {
  const auto [tenant, session] = hints_of(head, settings().routing);
  if (auto error = extractor_.read(x.route.api, x.body.view(), estimator_, x.facts, tenant)) return error;
  if (!tenant.empty()) x.salt = tokenizer::tenant_salt(tenant, x.facts, x.body.view());
  if (!session.empty()) x.facts.affinity = session;
  return std::nullopt;
}

// A head or a body that cannot be served: answered, and when bytes of it may still come, the connection
// is not used again.
void worker::refuse(client_connection& c, api_error error) {
  if (c.current != nullptr) {
    if (!c.current->body_complete) c.keep_alive = false;
    drive(*c.current, flow::refused{std::move(error)});
    return flush(c);
  }
  const http::request_head& head = c.parser.head();
  const bool parsed = error.why != reason::bad_http && error.why != reason::bad_framing &&
                      error.why != reason::bad_version && error.why != reason::head_too_large &&
                      error.why != reason::head_timeout && !head.method.empty();
  const bool has_body = head.framing == http::body_framing::chunked || head.content_length != 0;
  if (!parsed || has_body) c.keep_alive = false;
  account_record record;
  record.why = error.why;
  record.status = static_cast<std::uint16_t>(http::status_of(error));
  if (parsed) {
    const http::named_call call = http::name_call(head.target, settings().server.passthrough);
    record.api = call.api;
    record.method = head.method;
    record.path = call.path;
  }
  record.request_id = parsed ? local_request_id(head) : mint_request_id();
  std::vector<std::pair<std::string, std::string>> extra;
  if (error.why == reason::method_not_allowed)
    extra.emplace_back("Allow", http::allowed_methods(record.path, settings().server.passthrough));
  if (error.retry_after_s != 0) extra.emplace_back("Retry-After", fmt::format("{}", error.retry_after_s));
  const std::string body = http::error_body(dialect_of(record.api), error, record.request_id);
  send_local(c, std::move(record), "application/json", body, std::move(extra));
}

void worker::answer_locally(client_connection& c, const http::route& route) {
  const http::request_head& head = c.parser.head();
  if (head.framing == http::body_framing::chunked || head.content_length != 0) c.keep_alive = false;
  account_record record;
  record.api = route.api;
  record.method = head.method;
  record.path = route.path;
  record.status = 200;
  record.request_id = local_request_id(head);
  std::vector<std::pair<std::string, std::string>> extra;
  std::string body;
  std::optional<api_error> error;
  switch (route.api) {
    case api_kind::models: body = models_body(*fleet_); break;
    case api_kind::model:
      if (auto found = model_body(*fleet_, route.model_id)) {
        body = std::move(*found);
      } else {
        error = api_error{.why = reason::model_not_found,
                          .message = "No model of this name is served here; GET /v1/models lists them.",
                          .param = "model"};
      }
      break;
    case api_kind::health:
      if (!fleet_->ready)
        error = api_error{.why = fleet_->draining ? reason::draining : reason::no_endpoint,
                          .message = "This proxy is not ready to serve."};
      break;
    default:
      record.status = 204;
      extra.emplace_back("Allow", http::allowed_methods(route.path, settings().server.passthrough));
  }
  if (error) {
    record.why = error->why;
    record.status = static_cast<std::uint16_t>(http::status_of(*error));
    body = http::error_body(dialect::openai, *error, record.request_id);
  }
  const bool json = !body.empty();
  send_local(c, std::move(record), json ? "application/json" : "", body, std::move(extra));
}

void worker::send_local(client_connection& c, account_record record, std::string_view content_type,
                        std::string_view body, std::vector<std::pair<std::string, std::string>> extra) {
  const http::request_head& head = c.parser.head();
  const bool head_only = record.method == "HEAD";
  std::string out;
  http::append_client_head(
      out, nullptr, content_type,
      {.status = record.status,
       .framing = record.status == 204 ? http::client_framing::none : http::client_framing::length,
       .content_length = body.size(),
       .keep_alive = c.keep_alive,
       .minor_version = head.minor_version,
       .request_id = record.request_id,
       .extra = &extra});
  record.client = c.peer;
  record.accepted = c.state_since;
  record.ended = io_.now();
  record.bytes_out = out.size() + (head_only ? 0 : body.size());
  const bytes_view parts[] = {out, head_only ? bytes_view{} : body};
  send_or_keep(c, parts);
  metrics_.account(record);
  told_.account(record);
  if (!c.keep_alive) return close_after_answer(c);
  c.parser.next();
  c.state_since = io_.now();
}

std::string worker::mint_request_id() {
  std::string id = "req-";
  id.reserve(id.size() + 2 * hex_digits);
  for (int i = 0; i < 2; ++i) append_hex(id, rng_.next());
  return id;
}

void worker::take_request_id(exchange& x) {
  const bytes_view wanted = http::usable_request_id(x.client->parser.head());
  account_record& r = x.flow.record();
  if (!wanted.empty()) {
    if (x.claimed_id.take(told_, request_id_hash(wanted))) {
      r.request_id = wanted;
      return;
    }
  }
  r.request_id = mint_request_id();
}

// For an answer that is given at once: the client's id if it may be used and is not in flight.
std::string worker::local_request_id(const http::request_head& head) {
  const bytes_view wanted = http::usable_request_id(head);
  request_id_claim unused;
  if (!wanted.empty() && unused.take(told_, request_id_hash(wanted))) return std::string(wanted);
  return mint_request_id();
}

// The client closed its side, reset, or took nothing for too long. Its request ends in whatever state it is.
void worker::client_left(client_connection& c, reason why) {
  if (c.current == nullptr) return;
  exchange& x = *c.current;
  const bool ended = x.finished;
  if (!ended) drive(x, flow::client_gone{why});
  if (!x.finished) return;  // it left between the legs of a split request
  // The answer was complete, but not with the client.
  if (!c.unsent.empty() || (ended && !c.answered)) x.flow.record().why = why;
  account(x);
}

// A FIN. It is leaving, unless half_close = "tolerate": then it ends only what the client has to say.
void worker::client_finished(client_connection& c) {
  if (c.put_off) drained(c);  // the FIN came behind what is about to be written
  if (c.gone) return;
  const config& now = c.current != nullptr ? *c.current->fleet->settings : settings();
  if (now.server.half_close == half_close_mode::abort || c.lingering) {
    client_left(c, reason::client_gone);
    return drop(c, false);
  }
  c.half_closed = true;
  c.at_end = !c.paused;
  if (c.at_end && c.early.empty()) c.keep_alive = false;
  end_half_closed(c);
}

// Whoever said everything and has its answers needs its connection no more; half a request is none.
void worker::end_half_closed(client_connection& c) {
  if (c.gone || c.leaving || c.processing || !c.half_closed || !c.at_end || !c.early.empty()) return;
  if (c.current == nullptr) return close_after_answer(c);
  if (c.current->finished || c.current->body_complete || c.current->waiting_for_memory) return;
  client_left(c, reason::client_gone);
  drop(c, false);
}

}  // namespace penstock::worker
