// What clients get: heads, framing, back-pressure, and the end of connections.
#include <fmt/format.h>

#include <algorithm>

#include "proxy/http/shapes.hpp"
#include "proxy/worker/worker.hpp"

namespace penstock::worker {
namespace {

// How long a connection that we end may still send into the void, so that its client reads our answer
// before the kernel resets it (RFC 9112 section 9.6).
constexpr duration linger_time = std::chrono::seconds(1);
// Up to here a copy is cheaper than to write now and wake the client's core for it.
constexpr std::size_t small_write = 8 * 1024;
// How often a slow body is compared with its least rate.
constexpr duration rate_check = std::chrono::seconds(1);

}  // namespace

void worker::answer_head(exchange& x, bool reframed, bytes_view type) {
  client_connection& c = *x.client;
  const http::response_head& engine = x.engine->parser.head();
  const int minor = c.parser.head().minor_version;
  http::client_response how{.status = engine.status, .minor_version = minor};
  if (engine.framing == http::body_framing::none) {
    how.framing = engine.status == 204 || engine.status == 304 ? http::client_framing::none
                                                               : http::client_framing::length;
  } else if (engine.framing == http::body_framing::length && !reframed) {
    how.framing = http::client_framing::length;
    how.content_length = engine.content_length;
  } else if (minor == 0) {
    how.framing = http::client_framing::until_close;
  }
  c.framing = how.framing;
  if (c.framing == http::client_framing::until_close || fleet_->draining) c.keep_alive = false;
  how.keep_alive = c.keep_alive;
  how.request_id = x.flow.record().request_id;
  std::vector<std::pair<std::string, std::string>> extra;
  if (x.fleet->settings->server.expose_routing) {
    extra.emplace_back("x-penstock-endpoint", x.flow.record().endpoint_url);
    if (x.flow.prefill() != nullptr)
      extra.emplace_back("x-penstock-prefill-endpoint", x.flow.record().prefill_url);
    const plan& chosen = x.flow.chosen();
    if (http::find(c.parser.head(), "x-penstock-explain") != nullptr)
      extra.emplace_back("x-penstock-reason", chosen.split == split_choice::not_asked
                                                  ? fmt::format("{} {}", name(chosen.by), name(chosen.why))
                                                  : fmt::format("{} {}, split {}", name(chosen.by),
                                                                name(chosen.why), name(chosen.split)));
  }
  how.extra = &extra;
  http::append_client_head(batch_.head, type.empty() ? &engine : nullptr, type, how);
}

void worker::answer_error(exchange& x) {
  client_connection& c = *x.client;
  const api_error& error = x.flow.error();
  const account_record& r = x.flow.record();
  const std::string body = http::error_body(dialect_of(r.api), error, r.request_id);
  std::vector<std::pair<std::string, std::string>> extra;
  if (error.retry_after_s != 0) extra.emplace_back("Retry-After", fmt::format("{}", error.retry_after_s));
  if (fleet_->draining) c.keep_alive = false;
  c.framing = http::client_framing::length;
  http::append_client_head(batch_.head, nullptr, "application/json",
                           {.status = http::status_of(error),
                            .framing = http::client_framing::length,
                            .content_length = body.size(),
                            .keep_alive = c.keep_alive,
                            .minor_version = c.parser.head().minor_version,
                            .request_id = r.request_id,
                            .extra = &extra});
  batch_.head += body;
  batch_.end = true;
}

// Writes what one event produced: the head, one chunk of whole events, the end, with one call.
void worker::flush(client_connection& c) {
  const bool end = batch_.end, cut = batch_.abort;
  if (!c.gone && c.current != nullptr && (!batch_.head.empty() || batch_.body_bytes != 0 || end)) {
    parts_.clear();
    if (!batch_.head.empty()) parts_.push_back(batch_.head);
    const bool chunked = c.framing == http::client_framing::chunked;
    if (batch_.body_bytes != 0) {
      framing_.clear();
      if (chunked) {
        http::append_chunk_size(framing_, batch_.body_bytes);
        parts_.push_back(framing_);
      }
      parts_.insert(parts_.end(), batch_.body.begin(), batch_.body.end());
      if (chunked) parts_.push_back(end ? "\r\n0\r\n\r\n" : "\r\n");
    } else if (end && chunked) {
      parts_.push_back("0\r\n\r\n");
    }
    send_or_keep(c, parts_);
    c.current->flow.flushed();
  }
  batch_.clear();
  if (c.gone) return settle_ghost(c);
  if (c.current == nullptr) return;
  if (cut) return cut_answer(c);
  if (end) c.answered = true;
  if (c.put_off) return;  // the end of the batch goes on from here
  if (c.answered && c.unsent.empty()) return answer_written(c);
  const bool too_much = c.unsent.size() > c.current->fleet->settings->limits.stream_buffer ||
                        (buffers_.full() && !c.unsent.empty());
  if (too_much && !c.blocked && !c.answered) {
    c.blocked = true;
    drive(*c.current, flow::client_blocked{});
  }
  arm(c);
}

// Little is copied and written at the end of the batch; much is written now, where it lies.
void worker::send_or_keep(client_connection& c, std::span<const bytes_view> parts) {
  std::size_t total = 0, taken = 0;
  for (const bytes_view part : parts) total += part.size();
  c.sent_in_answer += total;
  if (c.put_off && c.unsent.size() + total > small_write) write_unsent(c);
  if (c.unsent.empty()) {
    c.took_at = io_.now();
    if (total > small_write) {
      taken = io_.write(c.socket, parts);
    } else {
      put_off(c.socket, c.put_off);
    }
  }
  for (const bytes_view part : parts) {
    if (taken >= part.size()) {
      taken -= part.size();
      continue;
    }
    c.unsent.push(part.substr(taken));
    taken = 0;
  }
}

// The answer cannot be completed. What was written stands; the missing end tells the client. An answer
// that ends with its connection needs a reset, because a plain close would look complete.
void worker::cut_answer(client_connection& c) {
  const bool reset = c.framing == http::client_framing::until_close;
  if (c.put_off) write_unsent(c);
  account(*c.current);
  c.keep_alive = false;
  if (c.unsent.empty() || reset) return drop(c, reset);
  c.leaving = true;
  arm(c);
}

void worker::write_unsent(client_connection& c) {
  c.put_off = false;
  if (c.unsent.empty()) return;
  const bytes_view waiting = c.unsent.front();
  const std::size_t taken = io_.write(c.socket, {&waiting, 1});
  if (taken != 0) c.took_at = io_.now();
  c.unsent.pop(taken);
}

void worker::drained(client_connection& c) {
  write_unsent(c);
  if (c.unsent.empty() && c.leaving) return close_after_answer(c);
  if (c.unsent.empty() && c.answered && c.current != nullptr) return answer_written(c);
  if (c.blocked && c.current != nullptr &&
      c.unsent.size() <= c.current->fleet->settings->limits.stream_buffer / 2) {
    c.blocked = false;
    drive(*c.current, flow::client_drained{});
    return flush(c);
  }
  if (c.current == nullptr && c.unsent.empty()) {
    consume_early(c);
    end_half_closed(c);
  }
  if (!c.gone) arm(c);
}

// The whole answer is with the kernel: the request is over, and the connection may carry the next.
void worker::answer_written(client_connection& c) {
  account(*c.current);
  c.blocked = c.answered = false;
  if (!c.keep_alive) return close_after_answer(c);
  c.parser.next();
  c.state_since = io_.now();
  consume_early(c);
  end_half_closed(c);
  if (!c.gone) arm(c);
}

void worker::close_after_answer(client_connection& c) {
  c.leaving = true;
  c.early.clear();
  if (c.unsent.empty() && c.at_end) return drop(c, false);  // it will send nothing to linger for
  if (c.unsent.empty()) {
    c.lingering = true;
    c.state_since = io_.now();
    io_.finish_sending(c.socket);
    if (c.paused) {
      c.paused = false;
      io_.resume(c.socket);
    }
  }
  arm(c);
}

instant worker::client_deadline(const client_connection& c) const {
  const timeouts_config& t = settings().timeouts;
  if (c.lingering) return c.state_since + linger_time;
  instant first = c.unsent.empty() || c.put_off ? never : flow::after(c.took_at, t.client_stall);
  // What is left of such a connection is to be taken, and nothing else.
  if (c.current == nullptr ? c.leaving : c.current->finished) return first;
  if (c.current == nullptr)
    return std::min(first, flow::after(c.state_since, c.head_begun ? t.request_head : t.client_idle));
  const exchange& x = *c.current;
  if (x.waiting_for_memory) return std::min(first, x.body_began + t.memory_wait);
  if (x.body_complete) return std::min(first, x.flow.deadline());
  first = std::min({first, flow::after(x.body_began, t.request_body), x.flow.deadline()});
  if (t.body_rate == 0) return first;
  return std::min(first, std::max(x.body_began + t.request_head, io_.now() + rate_check));
}

// The wheel is touched only when the next deadline came nearer; later ones are found when it fires.
void worker::arm(client_connection& c) {
  const instant next = client_deadline(c);
  if (!c.timer.armed() ? next != never : next < c.timer.deadline()) wheel_.arm(c.timer, next);
}

void worker::client_timer(client_connection& c) {
  const instant now = io_.now();
  if (c.gone) {
    drive(*c.current, flow::timer{});
    return settle_ghost(c);
  }
  const timeouts_config& t = settings().timeouts;
  if (c.lingering && now >= c.state_since + linger_time) return drop(c, false);
  if (!c.unsent.empty() && now >= flow::after(c.took_at, t.client_stall)) {
    client_left(c, reason::slow_client);
    return drop(c, true);
  }
  if (c.current != nullptr) {
    request_timer(c, now);
  } else if (c.lingering || c.leaving) {
    // Nothing but the two deadlines above.
  } else if (c.head_begun && now >= flow::after(c.state_since, t.request_head)) {
    refuse(c, {.why = reason::head_timeout, .message = "The request head did not arrive in time."});
  } else if (!c.head_begun && now >= flow::after(c.state_since, t.client_idle)) {
    return drop(c, false);
  }
  if (!c.gone) arm(c);
}

void worker::request_timer(client_connection& c, instant now) {
  exchange& x = *c.current;
  if (x.finished) return;
  const timeouts_config& t = x.fleet->settings->timeouts;
  if (x.waiting_for_memory) {
    if (now < x.body_began + t.memory_wait) return;
    std::erase(waiting_, &c);
    return refuse(c, {.why = reason::memory,
                      .message = "There is no memory for more request bodies; try again in a moment.",
                      .retry_after_s = 1});
  }
  if (!x.body_complete) {
    const duration spent = now - x.body_began;
    const bool late = now >= flow::after(x.body_began, t.request_body);
    const double least = static_cast<double>(t.body_rate) * seconds(spent - t.request_head);
    const bool slow =
        t.body_rate != 0 && spent >= t.request_head && static_cast<double>(x.body.size()) < least;
    if (late || slow)
      return refuse(c, {.why = reason::body_timeout, .message = "The request body did not arrive in time."});
  }
  drive(x, flow::timer{});
  flush(c);
}

}  // namespace penstock::worker
