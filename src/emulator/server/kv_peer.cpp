#include "emulator/server/kv_peer.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <charconv>

namespace penstock::emulator {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

// ZeroMQ's default interval between attempts.
constexpr std::chrono::milliseconds retry_interval{100};
constexpr std::size_t longest_line = 64U << 10;

}  // namespace

kv_peer::kv_peer(kv_loader& owner, std::string address)
    : owner_(&owner),
      address_(std::move(address)),
      socket_(owner.context_),
      timer_(owner.context_),
      deadline_(owner.context_) {}

void kv_peer::start(const std::string& host, std::uint16_t port) {
  error_code ec;
  endpoint_ = {asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, ec), port};
  deadline_.expires_after(ec ? std::chrono::milliseconds(0) : owner_->options_.handshake_timeout);
  deadline_.async_wait([self = shared_from_this()](error_code cancelled) {
    if (!cancelled && self->state_ < state::ready) self->lost();
  });
  if (!ec) connect();
}

void kv_peer::connect() {
  socket_.async_connect(endpoint_, [self = shared_from_this()](error_code ec) {
    if (self->owner_ == nullptr) return;
    if (!ec) return self->greet();
    error_code ignored;
    self->socket_.close(ignored);
    self->timer_.expires_after(retry_interval);
    self->timer_.async_wait([self](error_code cancelled) {
      if (!cancelled && self->owner_ != nullptr) self->connect();
    });
  });
}

void kv_peer::greet() {
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  state_ = state::greeting;
  waiting_ = "hello " + owner_->engine_id_ + "\n";
  write();
  read();
}

// The first contact of two engines takes its time: they exchange their memory's layout.
void kv_peer::met() {
  timer_.expires_at(owner_->core_.clock_of(owner_->link_.meet(engine_id_, owner_->core_.now())));
  timer_.async_wait([self = shared_from_this()](error_code cancelled) {
    if (cancelled || self->owner_ == nullptr) return;
    self->state_ = state::ready;
    self->deadline_.cancel();
    for (auto& [engine, line] : std::exchange(self->early_, {})) self->say(engine, std::move(line));
    const auto loads = self->loads_;  // one of another engine fails and leaves
    for (const auto& [tag, load] : loads) {
      if (self->loads_.contains(tag)) load->contacted();
    }
    self->beat();
  });
}

void kv_peer::beat() {
  if (owner_ == nullptr) return;
  if (owner_->options_.connector != connector_kind::nixl) return;  // the others have no heartbeats
  for (const auto& [tag, load] : loads_) say(engine_id_, "beat " + load->id());
  timer_.expires_after(lease_of(owner_->options_) / 6);
  timer_.async_wait([self = shared_from_this()](error_code cancelled) {
    if (!cancelled) self->beat();
  });
}

void kv_peer::read() {
  asio::async_read_until(socket_, asio::dynamic_buffer(inbox_, longest_line), '\n',
                         [self = shared_from_this()](error_code ec, std::size_t n) {
                           if (self->owner_ == nullptr) return;
                           if (ec) return self->lost();
                           const std::string line = self->inbox_.substr(0, n - 1);
                           self->inbox_.erase(0, n);
                           self->on_line(line);
                           if (self->owner_ != nullptr) self->read();
                         });
}

void kv_peer::on_line(std::string_view line) {
  if (state_ == state::greeting && line.starts_with("engine ")) {
    engine_id_ = line.substr(7);
    return met();
  }
  if (!line.starts_with("content ")) return;
  std::uint64_t tag = 0, what = 0;
  const char* const end = line.data() + line.size();
  const auto after = std::from_chars(line.data() + 8, end, tag).ptr;
  if (after == end || std::from_chars(after + 1, end, what, 16).ec != std::errc{}) return lost();
  if (const auto found = loads_.find(tag); found != loads_.end()) found->second->content(what);
}

void kv_peer::say(const std::string& engine, std::string line) {
  if (owner_ == nullptr) return;
  if (state_ != state::ready) {
    early_.emplace_back(engine, std::move(line));
    return;
  }
  if (!engine.empty() && engine != engine_id_) return;
  // An id comes from a body and may hold anything; a line is one line.
  for (char& c : line) c = c == '\n' ? ' ' : c;
  waiting_ += line + "\n";
  if (sending_.empty()) write();
}

void kv_peer::write() {
  sending_ = std::exchange(waiting_, {});
  asio::async_write(socket_, asio::buffer(sending_), [self = shared_from_this()](error_code ec, std::size_t) {
    self->sending_.clear();
    if (self->owner_ == nullptr || ec) return;  // reading tells that it is lost
    if (!self->waiting_.empty()) self->write();
  });
}

// The load hears of it in a later turn of the loop, as of everything else.
void kv_peer::join(kv_load& load) {
  loads_.emplace(load.tag_, &load);
  if (state_ != state::ready) return;
  asio::post(socket_.get_executor(), [self = shared_from_this(), tag = load.tag_] {
    if (const auto found = self->loads_.find(tag); found != self->loads_.end()) found->second->contacted();
  });
}

void kv_peer::leave(const kv_load& load) { loads_.erase(load.tag_); }

void kv_peer::close() {
  owner_ = nullptr;
  state_ = state::closed;
  loads_.clear();
  error_code ignored;
  socket_.close(ignored);
  timer_.cancel();
  deadline_.cancel();
}

void kv_peer::lost() {
  kv_loader* const owner = owner_;
  if (owner == nullptr) return;
  const auto self = shared_from_this();
  owner->link_.forget(engine_id_);
  owner->peers_.erase(address_);
  const auto loads = loads_;
  close();
  loads_ = loads;  // those that are gone leave while the others fail
  while (!loads_.empty()) {
    kv_load* const load = loads_.begin()->second;
    loads_.erase(loads_.begin());
    load->fail();
  }
}

}  // namespace penstock::emulator
