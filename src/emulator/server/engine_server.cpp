#include "emulator/server/engine_server.hpp"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <map>
#include <stdexcept>
#include <utility>
#include <vector>

#include "emulator/server/connection.hpp"
#include "emulator/server/service.hpp"

namespace penstock::emulator {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds sweep_interval{500};
constexpr std::chrono::seconds terminate_bound{2};
// After an accept that failed, as for want of descriptors.
constexpr std::chrono::milliseconds accept_pause{100};

engine_settings checked_settings(const engine_options& options) {
  std::string error;
  const engine_settings settings = settings_of(options, error);
  if (!error.empty()) throw std::invalid_argument(error);
  return settings;
}

asio::ip::tcp::endpoint endpoint_of(const engine_options& options) {
  return {asio::ip::make_address(options.host == "localhost" ? "127.0.0.1" : options.host), options.port};
}

}  // namespace

// Listener, connections and the engine behind them. Pending handlers keep it alive; after stop() they do
// nothing.
class engine_server::hub final : public connection_owner, public std::enable_shared_from_this<hub> {
 public:
  hub(asio::io_context& context, const engine_options& options)
      : context_(context),
        acceptor_(context),
        sweep_(context),
        pause_(context),
        service_(context, options, checked_settings(options)),
        keep_alive_(options.keep_alive),
        endpoint_(endpoint_of(options)),
        buffer_(64U << 10) {}

  void start() {
    open_listener();
    service_.listens_on(port());
    service_.on_faults_changed([this] { service_.refuses() ? close_listener() : reopen_listener(); });
    if (service_.refuses()) close_listener();
    sweep();
  }

  std::uint16_t port() const { return endpoint_.port(); }

  void stop() {
    if (std::exchange(stopped_, true)) return;
    close_listener();
    sweep_.cancel();
    pause_.cancel();
    for (const auto& c : std::exchange(connections_, {})) c.second->close();
    service_.stop();
    done_ = nullptr;
  }

  void terminate(std::function<void()> done) {
    if (stopped_) return done();
    done_ = std::move(done);
    close_listener();
    terminating_ = true;
    deadline_ = std::chrono::steady_clock::now() + terminate_bound;
    const auto all = connections_;  // closing changes the list
    for (const auto& c : all) c.second->terminate();
    if (connections_.empty()) finish();
  }

  service& engine() override { return service_; }
  std::span<char> read_buffer() override { return buffer_; }
  void closed(connection& which) override {
    const auto found = connections_.find(&which);
    if (found == connections_.end()) return;  // stop() has the list
    // It is calling us: it dies in a later turn of the loop.
    asio::post(context_, [dead = std::move(found->second)] {});
    connections_.erase(found);
    service_.connections = connections_.size();
    if (terminating_ && connections_.empty()) finish();
  }

 private:
  void open_listener() {
    acceptor_.open(endpoint_.protocol());
    acceptor_.set_option(asio::ip::tcp::acceptor::reuse_address(true));
    acceptor_.bind(endpoint_);
    endpoint_ = acceptor_.local_endpoint();
    acceptor_.listen();
    accept();
  }

  void close_listener() {
    error_code ignored;
    acceptor_.close(ignored);
  }

  void reopen_listener() {
    if (acceptor_.is_open() || stopped_ || terminating_) return;
    try {
      open_listener();
    } catch (const boost::system::system_error&) {  // the port was taken meanwhile: try again
      close_listener();
      pause_.expires_after(accept_pause);
      pause_.async_wait([self = shared_from_this()](error_code ec) {
        if (!ec && !self->service_.refuses()) self->reopen_listener();
      });
    }
  }

  void accept() {
    acceptor_.async_accept([self = shared_from_this()](error_code ec, asio::ip::tcp::socket socket) {
      if (self->stopped_ || !self->acceptor_.is_open()) return;
      if (!ec) {
        self->adopt(std::move(socket));
        return self->accept();
      }
      if (ec == asio::error::operation_aborted) return;
      self->pause_.expires_after(accept_pause);
      self->pause_.async_wait([self](error_code failed) {
        if (!failed && self->acceptor_.is_open()) self->accept();
      });
    });
  }

  void adopt(asio::ip::tcp::socket socket) {
    ++service_.accepted;
    if (service_.resets_next_accept()) {
      error_code ignored;
      socket.set_option(asio::socket_base::linger(true, 0), ignored);
      socket.close(ignored);
      return;
    }
    const auto c = make_connection(std::move(socket), *this);
    connections_.emplace(c.get(), c);
    service_.connections = connections_.size();
    c->start();
  }

  void sweep() {
    sweep_.expires_after(sweep_interval);
    sweep_.async_wait([self = shared_from_this()](error_code ec) {
      if (ec || self->stopped_) return;
      const auto now = std::chrono::steady_clock::now();
      std::vector<std::shared_ptr<connection>> all;
      all.reserve(self->connections_.size());
      for (const auto& c : self->connections_) all.push_back(c.second);
      for (const auto& c : all) c->sweep(now, self->keep_alive_);
      if (self->terminating_ && now > self->deadline_) return self->finish();
      self->sweep();
    });
  }

  void finish() {
    const auto done = std::exchange(done_, nullptr);
    stop();
    if (done) done();
  }

  asio::io_context& context_;
  asio::ip::tcp::acceptor acceptor_;
  asio::steady_timer sweep_, pause_;
  service service_;
  std::chrono::milliseconds keep_alive_;
  asio::ip::tcp::endpoint endpoint_;
  std::vector<char> buffer_;
  std::map<connection*, std::shared_ptr<connection>> connections_;
  std::function<void()> done_;
  std::chrono::steady_clock::time_point deadline_{};
  bool stopped_ = false, terminating_ = false;
};

engine_server::engine_server(asio::io_context& context, const engine_options& options)
    : context_(context), hub_(std::make_shared<hub>(context, options)) {
  hub_->start();
}

engine_server::~engine_server() { hub_->stop(); }

std::uint16_t engine_server::port() const { return hub_->port(); }

void engine_server::stop() {
  asio::dispatch(context_, [h = hub_] { h->stop(); });
}

void engine_server::terminate(std::function<void()> done) { hub_->terminate(std::move(done)); }

}  // namespace penstock::emulator
