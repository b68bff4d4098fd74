#include "emulator/server/connection.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "emulator/server/service.hpp"

namespace penstock::emulator {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using clock = std::chrono::steady_clock;

constexpr std::uint64_t most_body = 256U << 20;
constexpr std::uint32_t most_head = 256U << 10;
// Bytes of later requests that may wait behind an answer.
constexpr std::size_t most_pipelined = 256U << 10;
// How long a closing socket waits for the client's FIN.
constexpr std::chrono::seconds linger_time{1};
// Idle connections keep no more memory than this.
constexpr std::size_t kept_capacity = 16U << 10;

class tcp_connection final : public connection, public std::enable_shared_from_this<tcp_connection> {
 public:
  tcp_connection(asio::ip::tcp::socket socket, connection_owner& owner)
      : socket_(std::move(socket)),
        timer_(socket_.get_executor()),
        pace_(socket_.get_executor()),
        owner_(&owner),
        last_(clock::now()) {}

  void start() override {
    error_code ignored;
    socket_.non_blocking(true, ignored);
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    watch();
  }
  void close() override { shut(busy_ ? linger::reset : linger::none); }
  void terminate() override;
  void sweep(clock::time_point now, std::chrono::milliseconds keep_alive) override;

 private:
  enum class linger : std::uint8_t { none, reset };

  void watch();
  void on_readable();
  void parse();
  bool parse_some();
  void refuse();
  void dispatch();
  engine_call take_call();
  void begin();
  void submit();
  void pump();
  bool write_some();
  void ended();
  void end_request();
  void begin_linger();
  void settle();
  void shut(linger how);
  template <class Call>
  void after(asio::steady_timer& timer, std::chrono::milliseconds delay, Call call);

  asio::ip::tcp::socket socket_;
  asio::steady_timer timer_;  // delay-head, then delay-first
  asio::steady_timer pace_;   // between the writes of dribble
  connection_owner* owner_;   // null once closed
  clock::time_point last_;    // of the last activity while idle, or the begin of lingering
  std::string inbox_;         // read and not parsed
  std::optional<http::request_parser<http::string_body>> parser_;
  std::string head_;  // of the request being read, as received
  wire wire_;
  std::size_t sent_ = 0;  // of wire_.bytes
  engine_reply reply_;    // of the request being answered
  bool watching_ = false;
  bool busy_ = false;  // a request is being answered
  bool waiting_to_write_ = false;
  bool lingering_ = false;
  bool last_request_ = false;  // terminate(): close after this one
};

void tcp_connection::watch() {
  if (watching_ || owner_ == nullptr) return;
  watching_ = true;
  socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](error_code ec) {
    self->watching_ = false;
    if (self->owner_ == nullptr) return;
    if (ec) return self->shut(linger::none);
    self->on_readable();
  });
}

void tcp_connection::on_readable() {
  const std::span<char> buffer = owner_->read_buffer();
  error_code ec;
  const std::size_t n = socket_.read_some(asio::buffer(buffer.data(), buffer.size()), ec);
  if (ec == asio::error::would_block) return watch();
  if (ec) return shut(linger::none);  // FIN counts as leaving, as with uvicorn
  if (!lingering_) {
    last_ = clock::now();
    inbox_.append(buffer.data(), n);
    if (!busy_) parse();
  }
  if (owner_ != nullptr && (!busy_ || inbox_.size() < most_pipelined)) watch();
}

void tcp_connection::parse() {
  while (owner_ != nullptr && !busy_ && !lingering_ && !inbox_.empty()) {
    if (!parse_some()) return;
  }
}

// False when more bytes are needed.
bool tcp_connection::parse_some() {
  if (!parser_) {
    parser_.emplace();
    parser_->body_limit(most_body);
    parser_->header_limit(most_head);
    head_.clear();
  }
  const bool in_head = !parser_->is_header_done();
  error_code ec;
  const std::size_t n = parser_->put(asio::buffer(inbox_), ec);
  if (in_head) head_.append(inbox_, 0, n);
  inbox_.erase(0, n);
  if (ec == http::error::need_more) ec = {};
  if (ec) {
    refuse();
    return false;
  }
  if (in_head && parser_->is_header_done()) {
    parser_->eager(true);
    if (parser_->get()[http::field::expect] == "100-continue") {
      wire_.bytes += "HTTP/1.1 100 Continue\r\n\r\n";
      pump();
    }
  }
  if (owner_ != nullptr && parser_->is_done()) {
    dispatch();
    return true;
  }
  return n > 0;
}

// What uvicorn says to bytes that are no request.
void tcp_connection::refuse() {
  busy_ = true;
  wire_.bytes +=
      "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
      "content-length: 30\r\n\r\nInvalid HTTP request received.";
  wire_.status = 400;
  wire_.end = wire::ending::close;
  pump();
}

engine_call tcp_connection::take_call() {
  auto& request = parser_->get();
  engine_call call;
  call.method = std::string(request.method_string());
  call.target = std::string(request.target());
  call.content_type = std::string(request[http::field::content_type]);
  call.request_id = std::string(request["x-request-id"]);
  call.dp_rank = std::string(request["x-data-parallel-rank"]);
  const auto faults = request.equal_range("x-emulator-fault");
  for (auto f = faults.first; f != faults.second; ++f)
    call.faults += (call.faults.empty() ? "" : ",") + std::string(f->value());
  call.head = std::move(head_);
  call.body = std::move(request.body());
  return call;
}

void tcp_connection::dispatch() {
  const auto& request = parser_->get();
  framing how;
  how.chunked = request.version() >= 11;
  how.keep_alive = request.keep_alive();
  how.head_only = request.method() == http::verb::head;
  engine_call call = take_call();
  parser_.reset();
  head_ = {};
  busy_ = true;
  wire_.status = 0;
  reply_ = owner_->engine().handle(std::move(call), how, wire_, [this] { pump(); });
  if (reply_.plan.delay_head.count() == 0) return begin();
  after(timer_, reply_.plan.delay_head, [this] { begin(); });
}

template <class Call>
void tcp_connection::after(asio::steady_timer& timer, std::chrono::milliseconds delay, Call call) {
  timer.expires_after(delay);
  timer.async_wait([self = shared_from_this(), call](error_code ec) {
    if (!ec && self->owner_ != nullptr) call();
  });
}

void tcp_connection::begin() {
  if (!reply_.running) return pump();
  reply_.running->open();
  pump();
  if (owner_ == nullptr) return;
  if (reply_.plan.delay_first.count() == 0) return submit();
  after(timer_, reply_.plan.delay_first, [this] { submit(); });
}

// The engine may have been told to terminate during the delay.
void tcp_connection::submit() {
  if (reply_.running) reply_.running->submit();
}

void tcp_connection::pump() {
  if (owner_ == nullptr || waiting_to_write_) return;
  while (sent_ < wire_.bytes.size()) {
    if (!write_some()) return;
  }
  sent_ = 0;
  wire_.bytes.clear();
  if (wire_.bytes.capacity() > kept_capacity) wire_.bytes = {};
  if (wire_.end != wire::ending::open) ended();
}

// False when it goes on later or the connection is gone.
bool tcp_connection::write_some() {
  const std::size_t dribble = reply_.plan.dribble;
  std::size_t n = wire_.bytes.size() - sent_;
  if (dribble > 0) n = std::min(n, dribble);
  error_code ec;
  const std::size_t written = socket_.write_some(asio::buffer(wire_.bytes.data() + sent_, n), ec);
  if (ec == asio::error::would_block) {
    waiting_to_write_ = true;
    wire_.bytes.erase(0, std::exchange(sent_, 0));
    socket_.async_wait(asio::ip::tcp::socket::wait_write, [self = shared_from_this()](error_code) {
      self->waiting_to_write_ = false;
      self->pump();
    });
    return false;
  }
  if (ec) {
    shut(linger::none);
    return false;
  }
  sent_ += written;
  if (dribble == 0 || sent_ == wire_.bytes.size()) return true;
  waiting_to_write_ = true;
  after(pace_, reply_.plan.dribble_gap, [this] {
    waiting_to_write_ = false;
    pump();
  });
  return false;
}

// All bytes are sent and the answer is over.
void tcp_connection::ended() {
  switch (wire_.end) {
    case wire::ending::open:
    case wire::ending::hang: return;
    case wire::ending::keep_alive: return last_request_ ? begin_linger() : end_request();
    case wire::ending::close: return begin_linger();
    case wire::ending::reset: return shut(linger::reset);
    case wire::ending::exit: std::_Exit(3);
  }
}

// The next request is read in a later turn of the loop: a long pipeline must not nest.
void tcp_connection::end_request() {
  settle();
  last_ = clock::now();
  if (inbox_.capacity() > kept_capacity && inbox_.empty()) inbox_ = {};
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    self->parse();
    if (!self->busy_ || self->inbox_.size() < most_pipelined) self->watch();
  });
}

// FIN, then read on: closing with unread bytes would be RST.
void tcp_connection::begin_linger() {
  settle();
  lingering_ = true;
  last_ = clock::now();
  inbox_ = {};
  error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  watch();
}

// Closes the books of the request being answered. Its exchange may be calling us: it dies later.
void tcp_connection::settle() {
  if (!std::exchange(busy_, false)) return;
  outcome how = reply_.ended;
  std::uint32_t tokens = 0;
  if (reply_.running) {
    reply_.running->abandon();
    how = reply_.running->result();
    tokens = reply_.running->generated();
  } else if (how == outcome::finished && sent_ < wire_.bytes.size()) {
    how = outcome::aborted;
  }
  owner_->engine().ended(reply_, wire_.status, how, tokens);
  wire_.end = wire::ending::open;
  if (reply_.running) {
    asio::post(socket_.get_executor(), [dead = std::shared_ptr<exchange>(std::move(reply_.running))] {});
  }
  reply_ = {};
}

void tcp_connection::shut(linger how) {
  if (owner_ == nullptr) return;
  settle();
  error_code ignored;
  if (how == linger::reset) socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  socket_.close(ignored);
  timer_.cancel();
  pace_.cancel();
  std::exchange(owner_, nullptr)->closed(*this);
}

void tcp_connection::terminate() {
  if (owner_ == nullptr || lingering_) return;
  last_request_ = true;
  if (!busy_) return begin_linger();
  if (reply_.running) reply_.running->terminate();
}

void tcp_connection::sweep(clock::time_point now, std::chrono::milliseconds keep_alive) {
  if (lingering_ ? now - last_ > linger_time
                 : !busy_ && !parser_ && keep_alive.count() > 0 && now - last_ > keep_alive) {
    shut(linger::none);
  }
}

}  // namespace

std::shared_ptr<connection> make_connection(asio::ip::tcp::socket socket, connection_owner& owner) {
  return std::make_shared<tcp_connection>(std::move(socket), owner);
}

}  // namespace penstock::emulator
