#include "load.hpp"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>

namespace penstock::perf {
namespace {

constexpr std::size_t scratch_bytes = 256 * 1024;

// The fields that openai-python sends.
std::string request_head(std::uint16_t port, std::size_t body_bytes) {
  return fmt::format(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAccept-Encoding: gzip, deflate\r\n"
      "Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
      "User-Agent: OpenAI/Python 2.8.1\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.8.1\r\n"
      "X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n"
      "X-Stainless-Runtime-Version: 3.11.2\r\nAuthorization: Bearer sk-bench-0123456789abcdef\r\n"
      "X-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n"
      "Content-Length: {}\r\n\r\n",
      port, body_bytes);
}

}  // namespace

std::vector<request_template> read_requests(const std::string& file, std::uint16_t port) {
  const std::string mark(number_digits, '@');
  std::vector<request_template> requests;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const auto at = line.find(mark);
    if (at == std::string::npos) continue;
    requests.push_back({request_head(port, line.size()) + line.substr(0, at), line.substr(at + mark.size())});
  }
  if (requests.empty()) die(("no request bodies in " + file).c_str());
  return requests;
}

class client_connection final : public handler {
 public:
  explicit client_connection(load& owner) : owner_(owner) {}

  void start(const request_template& request, std::uint64_t number, nanos due);
  void on_ready(std::uint32_t events) override {
    if ((events & EPOLLOUT) != 0 && sent_ < to_send() && !write()) return fail();
    if ((events & ~std::uint32_t{EPOLLOUT}) != 0 && !receive()) fail();
  }

 private:
  std::size_t to_send() const { return request_->before.size() + number_digits + request_->after.size(); }
  bool write();
  bool receive();
  bool payload_done();
  void on_payload(std::string_view payload);
  void fail();

  load& owner_;
  unique_fd fd_;
  const request_template* request_ = nullptr;
  std::array<char, number_digits> number_{};
  std::size_t sent_ = 0;
  message_reader reader_;
  event_counter counter_;
  std::uint64_t events_ = 0;  // of this answer
  std::uint64_t bytes_ = 0;   // payload of this answer
  bool active_ = false;
  bool sampled_ = false;
  nanos due_ = 0;
  nanos written_at_ = 0;
};

void client_connection::start(const request_template& request, std::uint64_t number, nanos due) {
  if (!fd_) {
    fd_ = connect_to(owner_.options_.port);
    owner_.poller_.add(fd_.get(), *this);
  }
  request_ = &request;
  fmt::format_to_n(number_.data(), number_.size(), "{:0{}}", number, number_digits);
  reader_.reset();
  counter_ = {};
  sent_ = events_ = bytes_ = 0;
  active_ = true;
  sampled_ = owner_.sampling_;
  due_ = due;
  written_at_ = now();
  if (!write()) fail();
}

bool client_connection::write() {
  const std::array<std::string_view, 3> parts{
      request_->before, std::string_view(number_.data(), number_.size()), request_->after};
  std::array<iovec, 3> spans{};
  std::size_t count = 0;
  std::size_t skip = sent_;
  for (const auto part : parts) {
    const auto cut = std::min(skip, part.size());
    skip -= cut;
    if (cut < part.size()) spans[count++] = {const_cast<char*>(part.data() + cut), part.size() - cut};
  }
  msghdr message{};
  message.msg_iov = spans.data();
  message.msg_iovlen = count;
  const auto n = sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && errno != EAGAIN) return false;
  const bool was_whole = sent_ == 0;
  sent_ += n < 0 ? 0 : static_cast<std::size_t>(n);
  const bool whole = sent_ == to_send();
  if (!whole && was_whole) owner_.poller_.want_write(fd_.get(), *this, true);
  if (whole && !was_whole) owner_.poller_.want_write(fd_.get(), *this, false);
  return true;
}

bool client_connection::receive() {
  auto& scratch = owner_.scratch_;
  const auto n = recv(fd_.get(), scratch.data(), scratch.size(), MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN;
  // A proxy may close a connection that is idle; not one that owes us an answer.
  if (n == 0) return false;
  std::string_view bytes(scratch.data(), static_cast<std::size_t>(n));
  if (!active_) return false;
  if (sampled_ && !reader_.head_done()) owner_.samples_.first_byte.push_back(now() - written_at_);
  const auto status = reader_.feed(bytes, [this](std::string_view payload) { on_payload(payload); });
  if (status == read_status::bad || !bytes.empty()) return false;
  if (status == read_status::more) return true;
  return payload_done();
}

void client_connection::on_payload(std::string_view payload) {
  bytes_ += payload.size();
  if (!owner_.options_.stream) return;
  const auto events = counter_.feed(payload);
  owner_.counters_.events += events;
  // The first event carries the role, the second the first token.
  if (events_ < 2 && events_ + events >= 2) {
    ++owner_.counters_.live;
    if (sampled_) owner_.samples_.first_content.push_back(now() - written_at_);
  }
  events_ += events;
}

bool client_connection::payload_done() {
  const auto& head = reader_.head();
  const bool good = std::string_view(head.start_line).substr(0, 12) == "HTTP/1.1 200" && bytes_ > 0 &&
                    sent_ == to_send() && (!owner_.options_.stream || counter_.ended_with_done());
  if (!good) return false;
  active_ = false;
  if (sampled_) owner_.samples_.total.push_back(now() - due_);
  ++owner_.counters_.requests;
  owner_.ended(*this);
  return true;
}

void client_connection::fail() {
  fd_.reset();
  if (!active_) return;
  active_ = false;
  ++owner_.counters_.errors;
  owner_.ended(*this);
}

load::load(poller& p, load_options options, std::vector<request_template> requests, nanos start)
    : poller_(p), options_(options), requests_(std::move(requests)), start_(start), scratch_(scratch_bytes) {
  for (std::uint32_t i = 0; i < options_.connections; ++i) {
    clients_.push_back(std::make_unique<client_connection>(*this));
    free_.push_back(clients_.back().get());
  }
  std::reverse(free_.begin(), free_.end());
}

load::~load() = default;

nanos load::due(std::uint64_t number) const {
  const auto after = static_cast<nanos>(number) * options_.interval;
  return start_ + (options_.tick > 0 ? after - after % options_.tick : after);
}

nanos load::tick(nanos time) {
  const auto starts_max = options_.starts_max == 0 ? UINT64_MAX : options_.starts_max;
  while (!stopped_ && started_ < starts_max && due(started_) <= time && !free_.empty()) {
    auto* client = free_.back();
    free_.pop_back();
    const auto number = started_++;
    client->start(requests_[number % requests_.size()], number, due(number));
  }
  // Without a free connection an answer wakes us.
  return stopped_ || started_ >= starts_max || free_.empty() ? never : due(started_);
}

void load::ended(client_connection& c) { free_.push_back(&c); }

}  // namespace penstock::perf
