#include "proxy/admin/admin_server.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <utility>
#include <variant>

#include "proxy/config/endpoint_url.hpp"

namespace penstock::admin {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using protocol = asio::generic::stream_protocol;

constexpr auto patience = std::chrono::seconds(10);
constexpr std::size_t most_connections = 64;
constexpr std::size_t most_head_bytes = 16 * 1024, most_body_bytes = std::size_t{4} << 20;

struct page_map {
  std::map<std::string, page_maker> pages;
  std::map<std::string, form_maker> forms;
};

// One connection; lives as long as an operation of it is pending.
class session : public std::enable_shared_from_this<session> {
 public:
  session(protocol::socket socket, std::shared_ptr<const page_map> pages, std::shared_ptr<std::size_t> open)
      : stream_(std::move(socket)), pages_(std::move(pages)), open_(std::move(open)) {
    ++*open_;
  }
  ~session() { --*open_; }

  void read() {
    parser_.emplace();
    parser_->body_limit(most_body_bytes);
    parser_->header_limit(most_head_bytes);
    stream_.expires_after(patience);
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](beast::error_code ec, std::size_t) {
                       if (!ec) self->answer();
                     });
  }

 private:
  void answer() {
    const auto& request = parser_->get();
    const bool get = request.method() == http::verb::get || request.method() == http::verb::head;
    std::string path(request.target()), query;
    if (const std::size_t mark = path.find('?'); mark != std::string::npos) {
      query = path.substr(mark + 1);
      path.resize(mark);
    }
    const auto found = pages_->pages.find(path);
    const auto made = pages_->forms.find(path);
    if (made != pages_->forms.end()) return answer_form(made->second, query);
    if (!get) return write({.status = 405, .content_type = "text/plain", .body = "only GET and HEAD\n"});
    if (found == pages_->pages.end())
      return write({.status = 404, .content_type = "text/plain", .body = paths()});
    stream_.expires_never();
    found->second([self = shared_from_this()](page p) { self->write(std::move(p)); });
  }

  void answer_form(const form_maker& make, const std::string& query) {
    if (parser_->get().method() != http::verb::post)
      return write(
          {.status = 405, .content_type = "text/plain", .body = "only POST, with a request as its body\n"});
    stream_.expires_never();
    form f{.body = std::move(parser_->get().body()), .query = query, .fields = {}};
    for (const auto& field : parser_->get())
      f.fields.emplace_back(std::string(field.name_string()), std::string(field.value()));
    make(std::move(f), [self = shared_from_this()](page p) { self->write(std::move(p)); });
  }

  std::string paths() const {
    std::string text = "no such page; there are:\n";
    for (const auto& [path, maker] : pages_->pages) text += path + "\n";
    for (const auto& [path, maker] : pages_->forms) text += path + " (POST)\n";
    return text;
  }

  void write(page p) {
    const auto& request = parser_->get();
    response_ = {};
    response_.version(request.version());
    response_.result(static_cast<unsigned>(p.status));
    response_.set(http::field::content_type, p.content_type);
    response_.keep_alive(request.keep_alive());
    response_.content_length(p.body.size());
    if (request.method() != http::verb::head) response_.body() = std::move(p.body);
    stream_.expires_after(patience);
    http::async_write(stream_, response_, [self = shared_from_this()](beast::error_code ec, std::size_t) {
      if (!ec && self->response_.keep_alive()) self->read();
    });
  }

  beast::basic_stream<protocol> stream_;
  std::shared_ptr<const page_map> pages_;
  std::shared_ptr<std::size_t> open_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> response_;
};

// A socket file that nobody answers on stays behind when a process dies; any other file is not ours.
void remove_left_over(asio::io_context& context, const std::string& path) {
  struct stat what {};
  if (::lstat(path.c_str(), &what) != 0 || !S_ISSOCK(what.st_mode)) return;
  boost::system::error_code ec;
  asio::local::stream_protocol::socket probe(context);
  probe.connect(path, ec);
  if (ec == asio::error::connection_refused) ::unlink(path.c_str());
}

}  // namespace

struct admin_server::impl : std::enable_shared_from_this<impl> {
  impl(asio::io_context& c, page_map p)
      : context(c), pages(std::make_shared<const page_map>(std::move(p))), tcp(c), local(c), retry(c) {}

  template <class Acceptor>
  std::string open(Acceptor& acceptor, const typename Acceptor::endpoint_type& at, const std::string& text) {
    boost::system::error_code ec;
    acceptor.open(at.protocol(), ec);
    if (!ec) acceptor.set_option(asio::socket_base::reuse_address(true), ec);
    if (!ec) acceptor.bind(at, ec);
    if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
    if (ec) return "cannot listen on " + text + " for the admin pages: " + ec.message();
    accept(acceptor);
    return {};
  }

  template <class Acceptor>
  void accept(Acceptor& acceptor) {
    acceptor.async_accept([self = shared_from_this(), &acceptor](boost::system::error_code ec, auto socket) {
      if (!acceptor.is_open()) return;
      if (ec) return self->accept_later(acceptor);
      if (*self->connections < most_connections)
        std::make_shared<session>(protocol::socket(std::move(socket)), self->pages, self->connections)
            ->read();
      self->accept(acceptor);
    });
  }

  // Out of descriptors: asking again at once would spin.
  template <class Acceptor>
  void accept_later(Acceptor& acceptor) {
    retry.expires_after(std::chrono::milliseconds(100));
    retry.async_wait([self = shared_from_this(), &acceptor](boost::system::error_code ec) {
      if (!ec && acceptor.is_open()) self->accept(acceptor);
    });
  }

  asio::io_context& context;
  std::shared_ptr<const page_map> pages;
  asio::ip::tcp::acceptor tcp;
  asio::local::stream_protocol::acceptor local;
  asio::steady_timer retry;
  std::shared_ptr<std::size_t> connections = std::make_shared<std::size_t>(0);
  std::string unix_path;
};

admin_server::admin_server(asio::io_context& context, std::map<std::string, page_maker> pages,
                           std::map<std::string, form_maker> forms)
    : impl_(std::make_shared<impl>(context, page_map{std::move(pages), std::move(forms)})) {}

admin_server::~admin_server() { close(); }

std::string admin_server::listen(const std::string& address) {
  const auto parsed = conf::parse_listen_address(address);
  if (const auto* error = std::get_if<conf::address_error>(&parsed)) return error->what;
  const auto& at = std::get<conf::listen_address>(parsed);
  if (!at.unix_path.empty()) {
    remove_left_over(impl_->context, at.unix_path);
    std::string why = impl_->open(impl_->local, {at.unix_path}, address);
    if (why.empty()) impl_->unix_path = at.unix_path;
    return why;
  }
  boost::system::error_code ec;
  asio::ip::tcp::resolver resolver(impl_->context);
  const auto found = resolver.resolve(at.host, std::to_string(at.port), asio::ip::tcp::resolver::passive, ec);
  if (ec || found.empty()) return "cannot listen on " + address + " for the admin pages: " + ec.message();
  return impl_->open(impl_->tcp, found.begin()->endpoint(), address);
}

std::string admin_server::address() const {
  if (!impl_->unix_path.empty()) return "unix:" + impl_->unix_path;
  boost::system::error_code ec;
  const auto at = impl_->tcp.local_endpoint(ec);
  if (ec) return {};
  const std::string host = at.address().to_string();
  return (at.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(at.port());
}

void admin_server::close() {
  boost::system::error_code ec;
  impl_->tcp.close(ec);
  impl_->local.close(ec);
  impl_->retry.cancel();
  if (!impl_->unix_path.empty()) ::unlink(std::exchange(impl_->unix_path, {}).c_str());
}

}  // namespace penstock::admin
