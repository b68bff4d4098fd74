#include "proxy/io/http_get.hpp"

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <optional>

#include "proxy/io/socket_address.hpp"

namespace penstock::io {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using protocol = asio::generic::stream_protocol;

// Lives until `done` was called; every pending operation holds a reference.
class getter : public std::enable_shared_from_this<getter> {
 public:
  getter(asio::io_context& context, get_request request, std::function<void(get_result)> done)
      : stream_(context), request_(std::move(request)), done_(std::move(done)) {
    parser_.emplace();
    parser_->body_limit(request_.body_limit);
  }

  void start() {
    const kernel_address to = to_kernel(request_.to);
    if (to.size == 0) return finish({.how = get_result::outcome::connect_failed});
    stream_.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(request_.timeout));
    stream_.async_connect(
        protocol::endpoint(&to.storage, to.size, to.storage.ss_family == AF_UNIX ? 0 : IPPROTO_TCP),
        [self = shared_from_this()](beast::error_code ec) { self->connected(ec); });
  }

 private:
  void connected(beast::error_code ec) {
    if (ec == beast::error::timeout) return finish({.how = get_result::outcome::connect_timeout});
    if (ec) return finish({.how = get_result::outcome::connect_failed});
    message_.method(request_.post.empty() ? beast::http::verb::get : beast::http::verb::post);
    message_.target(request_.target);
    message_.set(beast::http::field::host, request_.authority);
    message_.set(beast::http::field::user_agent, "penstock");
    message_.set(beast::http::field::connection, "close");
    for (const auto& [name, value] : request_.headers) message_.set(name, value);
    if (!request_.post.empty()) {
      message_.set(beast::http::field::content_type, "application/json");
      message_.body() = std::move(request_.post);
      message_.prepare_payload();
    }
    beast::http::async_write(
        stream_, message_,
        [self = shared_from_this()](beast::error_code e, std::size_t) { self->written(e); });
  }

  void written(beast::error_code ec) {
    if (ec) return failed(ec);
    beast::http::async_read(stream_, buffer_, *parser_,
                            [self = shared_from_this()](beast::error_code e, std::size_t) { self->read(e); });
  }

  void read(beast::error_code ec) {
    if (ec) return failed(ec);
    auto& answer = parser_->get();
    finish({.status = static_cast<int>(answer.result_int()), .body = std::move(answer.body())});
  }

  void failed(beast::error_code ec) {
    using how = get_result::outcome;
    if (ec == beast::error::timeout) return finish({.how = how::timeout});
    const bool http =
        ec.category() == beast::http::make_error_code(beast::http::error::bad_version).category();
    const bool cut = ec == beast::http::error::end_of_stream || ec == beast::http::error::partial_message;
    finish({.how = http && !cut ? how::garbage : how::reset});
  }

  void finish(get_result result) {
    asio::post(stream_.get_executor(),
               [self = shared_from_this(), r = std::move(result)]() mutable { self->done_(std::move(r)); });
  }

  beast::basic_stream<protocol> stream_;
  get_request request_;
  std::function<void(get_result)> done_;
  beast::http::request<beast::http::string_body> message_;
  beast::flat_buffer buffer_;
  std::optional<beast::http::response_parser<beast::http::string_body>> parser_;
};

}  // namespace

void http_get(asio::io_context& context, get_request request, std::function<void(get_result)> done) {
  std::make_shared<getter>(context, std::move(request), std::move(done))->start();
}

}  // namespace penstock::io
