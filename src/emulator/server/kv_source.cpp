#include "emulator/server/kv_source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <utility>

#include "emulator/server/json_text.hpp"

namespace penstock::emulator {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds accept_pause{100};
// A line names at most the blocks of one prompt.
constexpr std::size_t longest_line = 4U << 20;

std::string_view next_word(std::string_view& line) {
  const std::size_t end = line.find(' ');
  const std::string_view word = line.substr(0, end);
  line = end == std::string_view::npos ? std::string_view{} : line.substr(end + 1);
  return word;
}

std::vector<block_id> block_list(std::string_view text) {
  std::vector<block_id> blocks;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    block_id id = 0;
    const auto [stop, ec] = std::from_chars(at, end, id);
    if (ec != std::errc{}) break;
    blocks.push_back(id);
    at = stop + 1;
  }
  return blocks;
}

}  // namespace

// One decode engine's connection. Lives in its owner's set and in pending handlers.
class kv_source::session final : public std::enable_shared_from_this<session> {
 public:
  session(tcp::socket socket, kv_source& owner) : socket_(std::move(socket)), owner_(&owner) {
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
  }

  void read() {
    asio::async_read_until(socket_, asio::dynamic_buffer(inbox_, longest_line), '\n',
                           [self = shared_from_this()](error_code ec, std::size_t n) {
                             if (self->owner_ == nullptr) return;
                             if (ec) return self->gone();
                             const std::string line = self->inbox_.substr(0, n - 1);
                             self->inbox_.erase(0, n);
                             self->on_line(line);
                             if (self->owner_ != nullptr) self->read();
                           });
  }

  void send(std::string text) {
    if (text.empty()) return;
    waiting_ += text;
    if (sending_.empty()) write();
  }

  void close() {
    owner_ = nullptr;
    error_code ignored;
    socket_.close(ignored);
  }

 private:
  void on_line(const std::string& line) {
    if (request_.empty() && !line.starts_with("GET ")) return send(owner_->answer(line, shared_from_this()));
    if (request_.empty()) request_ = line;
    if (line != "\r" && !line.empty()) return;
    last_ = true;
    send(owner_->bootstrap(request_));
  }

  void write() {
    sending_ = std::exchange(waiting_, {});
    asio::async_write(socket_, asio::buffer(sending_),
                      [self = shared_from_this()](error_code ec, std::size_t) {
                        self->sending_.clear();
                        if (self->owner_ == nullptr || ec) return;
                        if (!self->waiting_.empty()) return self->write();
                        error_code ignored;
                        if (self->last_) self->socket_.shutdown(tcp::socket::shutdown_send, ignored);
                      });
  }

  void gone() {
    kv_source* const owner = owner_;
    close();
    const auto self = shared_from_this();
    std::erase_if(owner->waiting_, [&](const auto& w) { return w.second.who.lock() == self; });
    owner->sessions_.erase(self);
  }

  tcp::socket socket_;
  kv_source* owner_;  // null once closed
  std::string inbox_, waiting_, sending_;
  std::string request_;  // HTTP: the request line
  bool last_ = false;    // FIN after what is being sent
};

kv_source::kv_source(asio::io_context& context, engine_core& core, const hand_off_options& options)
    : core_(core),
      options_(options),
      leases_(lease_of(options)),
      acceptor_(context),
      expiry_(context),
      pause_(context),
      port_(options.side_port) {}

kv_source::~kv_source() { stop(); }

void kv_source::listen(const std::string& host, std::string engine_id) {
  engine_id_ = std::move(engine_id);
  host_ = host;
  const tcp::endpoint at(asio::ip::make_address(host), port_);
  acceptor_.open(at.protocol());
  acceptor_.set_option(tcp::acceptor::reuse_address(true));
  acceptor_.bind(at);
  port_ = acceptor_.local_endpoint().port();
  acceptor_.listen();
  accept();
}

void kv_source::accept() {
  acceptor_.async_accept([this, alive = std::weak_ptr<bool>(alive_)](error_code ec, tcp::socket socket) {
    if (alive.expired() || !acceptor_.is_open()) return;
    if (!ec) (*sessions_.insert(std::make_shared<session>(std::move(socket), *this)).first)->read();
    if (!ec) return accept();
    if (ec == asio::error::operation_aborted) return;
    pause_.expires_after(accept_pause);  // for want of descriptors, say
    pause_.async_wait([this, still = std::weak_ptr<bool>(alive_)](error_code cancelled) {
      if (!cancelled && !still.expired()) accept();
    });
  });
}

void kv_source::stop() {
  error_code ignored;
  acceptor_.close(ignored);
  for (const auto& s : std::exchange(sessions_, {})) s->close();
  waiting_.clear();
  meetings_.clear();
  told_.clear();
  expiry_.cancel();
  pause_.cancel();
}

const kv_lease& kv_source::grant(std::string id, std::uint64_t sequence, std::uint64_t content,
                                 std::uint32_t tokens) {
  kv_lease lease;
  lease.id = id;
  lease.sequence = sequence;
  lease.content = content;
  lease.tokens = tokens;
  const auto blocks = core_.pinned(sequence);
  lease.blocks.assign(blocks.begin(), blocks.end());
  leases_.grant(std::move(lease), core_.now());
  if (const auto e = meetings_.find(id); e != meetings_.end()) e->second.granted = true;
  serve(id);
  arm();
  return *leases_.find(id);
}

void kv_source::free_declined(const std::string& id) {
  if (declined_.erase(id) != 0) close(id, false);
}

void kv_source::expect(const std::string& id, meeting m) {
  const auto [e, added] =
      meetings_.try_emplace(id, expected{std::move(m), asio::steady_timer(acceptor_.get_executor())});
  if (!added) return;
  e->second.patience.expires_after(partner_timeout_of(options_));
  e->second.patience.async_wait([this, id, alive = std::weak_ptr<bool>(alive_)](error_code ec) {
    if (!ec && !alive.expired()) tell(id, false);
  });
  if (waiting_.contains(id)) meet(id);
}

void kv_source::meet(const std::string& id) {
  const auto e = meetings_.find(id);
  if (e == meetings_.end() || std::exchange(e->second.met, true)) return;
  asio::post(acceptor_.get_executor(), [this, id, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    if (const auto still = meetings_.find(id); still != meetings_.end()) {
      const auto met = still->second.calls.met;  // it may forget the meeting
      met();
    }
  });
}

// The first of those that wait for a lease gets it; the others wait for the next one of that name.
void kv_source::serve(const std::string& id) {
  const kv_lease* const lease = leases_.find(id);
  if (lease == nullptr) return;
  for (auto w = waiting_.find(id); !lease->read && w != waiting_.end() && w->first == id;) {
    const auto who = w->second.who.lock();
    const std::string tag = w->second.tag;
    w = waiting_.erase(w);
    if (!who) continue;
    const kv_content c = leases_.read(id, lease->blocks);
    who->send(fmt::format("content {} {:x} {}\n", tag, c.content, c.tokens));
  }
}

void kv_source::tell(const std::string& id, bool fetched) {
  const auto e = meetings_.find(id);
  if (e == meetings_.end()) return;
  const auto closed = e->second.calls.closed;
  meetings_.erase(e);
  // Destroyed exchanges forget their meetings, but one that was told may still be on its way.
  const auto [told, added] = told_.emplace(id, closed);
  if (!added) return;
  asio::post(acceptor_.get_executor(), [this, id, fetched, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    if (const auto found = told_.extract(id)) found.mapped()(fetched);
  });
}

void kv_source::close(const std::string& id, bool fetched) {
  if (const auto sequence = leases_.close(id, fetched)) core_.unpin(*sequence);
  tell(id, fetched);
}

bool kv_source::drop_waiter(std::string_view id, const std::shared_ptr<session>& from) {
  for (auto w = waiting_.lower_bound(id); w != waiting_.end() && w->first == id; ++w) {
    if (w->second.who.lock() != from) continue;
    waiting_.erase(w);
    return true;
  }
  return false;
}

// GET /query as Mooncake's bootstrap server answers it, GET /route as SGLang's.
std::string kv_source::bootstrap(std::string_view request) const {
  const std::string_view target = request.substr(4, request.find(' ', 4) - 4);
  std::string body;
  if (options_.connector == connector_kind::mooncake && target == "/query") {
    for (std::uint32_t rank = 0; rank < options_.dp_size; ++rank) {
      body += fmt::format(R"({}"{}":{{"engine_id":{},"worker_addr":{{"0":{{"0":"tcp://{}:{}"}}}}}})",
                          rank == 0 ? "{" : ",", rank, quote(fmt::format("{}_dp{}", engine_id_, rank)), host_,
                          port_);
    }
    body += "}";
  } else if (options_.connector == connector_kind::sglang && target.starts_with("/route")) {
    body = fmt::format(R"({{"rank_ip":{},"rank_port":{}}})", quote(host_), port_);
  }
  return fmt::format(
      "HTTP/1.1 {}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{}",
      body.empty() ? "404 Not Found" : "200 OK", body.size(), body);
}

// Wrong words are no conversation between engines of ours: nobody answers.
std::string kv_source::answer(std::string_view line, const std::shared_ptr<session>& from) {
  const std::string_view verb = next_word(line);
  if (verb == "hello") return fmt::format("engine {}\n", engine_id_);
  if (verb == "read") {
    const std::string_view tag = next_word(line);
    const std::vector<block_id> blocks = block_list(next_word(line));
    const kv_content c = leases_.read(line, blocks);
    return fmt::format("content {} {:x} {}\n", tag, c.content, c.tokens);
  }
  if (verb == "await") {
    const std::string_view tag = next_word(line);
    const std::string id(line);
    waiting_.emplace(id, waiter{from, std::string(tag)});
    meet(id);
    serve(id);
  }
  if (verb == "beat" && leases_.extend(line, core_.now())) arm();
  // Who waited, or was about to, for a lease that is not there yet just stops waiting.
  const bool early =
      verb == "abort" && (drop_waiter(line, from) || may_come()) && leases_.find(line) == nullptr;
  if (early && options_.connector == connector_kind::mooncake && under_way_.contains(std::string(line)))
    declined_.emplace(line);
  if (verb == "done" || (verb == "abort" && !early)) close(std::string(line), verb == "done");
  return {};
}

void kv_source::arm() {
  const instant next = leases_.next_expiry();
  if (next == never || next == armed_for_) return;
  armed_for_ = next;
  expiry_.expires_at(core_.clock_of(next));
  expiry_.async_wait([this, alive = std::weak_ptr<bool>(alive_)](error_code ec) {
    if (ec || alive.expired()) return;
    armed_for_ = never;
    std::vector<std::uint64_t> sequences;
    leases_.expire(core_.now(), sequences);
    for (const std::uint64_t s : sequences) core_.unpin(s);
    std::vector<std::string> over;
    for (const auto& [id, e] : meetings_) {
      if (e.granted && leases_.find(id) == nullptr) over.push_back(id);
    }
    for (const std::string& id : over) tell(id, false);
    arm();
  });
}

}  // namespace penstock::emulator
