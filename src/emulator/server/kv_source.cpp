#include "emulator/server/kv_source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <utility>

namespace penstock::emulator {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

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
                             std::string_view line(self->inbox_.data(), n - 1);
                             self->send(self->owner_->answer(line));
                             self->inbox_.erase(0, n);
                             self->read();
                           });
  }

  void close() {
    owner_ = nullptr;
    error_code ignored;
    socket_.close(ignored);
  }

 private:
  void send(std::string text) {
    if (text.empty()) return;
    waiting_ += text;
    if (sending_.empty()) write();
  }

  void write() {
    sending_ = std::exchange(waiting_, {});
    asio::async_write(socket_, asio::buffer(sending_),
                      [self = shared_from_this()](error_code ec, std::size_t) {
                        self->sending_.clear();
                        if (self->owner_ == nullptr || ec) return;
                        if (!self->waiting_.empty()) self->write();
                      });
  }

  void gone() {
    kv_source* const owner = owner_;
    close();
    owner->sessions_.erase(shared_from_this());
  }

  tcp::socket socket_;
  kv_source* owner_;  // null once closed
  std::string inbox_, waiting_, sending_;
};

kv_source::kv_source(asio::io_context& context, engine_core& core, const hand_off_options& options)
    : core_(core), leases_(options.lease), acceptor_(context), expiry_(context), port_(options.side_port) {}

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
    if (ec != asio::error::operation_aborted) accept();
  });
}

void kv_source::stop() {
  error_code ignored;
  acceptor_.close(ignored);
  for (const auto& s : std::exchange(sessions_, {})) s->close();
  expiry_.cancel();
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
  arm();
  return *leases_.find(id);
}

// Wrong words are no conversation between engines of ours: nobody answers.
std::string kv_source::answer(std::string_view line) {
  const std::string_view verb = next_word(line);
  if (verb == "hello") return fmt::format("engine {}\n", engine_id_);
  if (verb == "read") {
    const std::string_view tag = next_word(line);
    const std::vector<block_id> blocks = block_list(next_word(line));
    const kv_content c = leases_.read(line, blocks);
    return fmt::format("content {} {:x} {}\n", tag, c.content, c.tokens);
  }
  if (verb == "beat" && leases_.extend(line, core_.now())) arm();
  if (verb == "done" || verb == "abort") {
    if (const auto sequence = leases_.close(line, verb == "done")) core_.unpin(*sequence);
  }
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
    arm();
  });
}

}  // namespace penstock::emulator
