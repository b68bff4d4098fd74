#include "engine.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "answers.hpp"

namespace penstock::perf {
namespace {

constexpr std::size_t scratch_bytes = 256 * 1024;
// The kernel wakes the engine for pieces of a large body of this size, not for each that a proxy sends: an
// engine that is behind reads like this, too, and the proxy does not pay for waking a core each time.
constexpr std::uint64_t wake_bytes = 128 * 1024;
constexpr std::size_t backlog_bytes_max = 4 * 1024 * 1024;  // of a stream whose proxy does not read

const stream_bytes& stream_answers() {
  static const stream_bytes bytes = build_stream();
  return bytes;
}

const std::string& completion_answer() {
  static const std::string bytes = build_completion();
  return bytes;
}

}  // namespace

class engine_connection final : public handler {
 public:
  engine_connection(engine& owner, unique_fd fd, std::size_t slot, bool prefills)
      : owner_(owner), fd_(std::move(fd)), slot_(slot), prefills_(prefills) {}

  void on_ready(std::uint32_t events) override {
    if ((events & EPOLLOUT) != 0 && !flush()) return owner_.close(*this);
    if ((events & ~std::uint32_t{EPOLLOUT}) != 0 && !receive()) owner_.close(*this);
  }
  void begin_stream();
  // Sends one event or the end; whether the stream goes on.
  bool next_event(bool ending);

 private:
  bool receive();
  bool discard_body();
  void wake_at(std::uint64_t bytes);
  bool message_done();
  bool send(std::string_view bytes);
  bool flush();

  engine& owner_;
  unique_fd fd_;
  std::size_t slot_;  // in owner_.connections_
  message_reader reader_;
  std::string body_;     // kept only where a stream's options may be in it
  std::string backlog_;  // not yet taken by the kernel
  bool prefills_ = false;
  bool streaming_ = false;
  bool wants_usage_ = false;
  std::uint32_t content_sent_ = 0;
  int low_water_ = 1;

  friend class engine;
};

bool engine_connection::receive() {
  if (reader_.left() > 0 && !owner_.options_.stream) return discard_body();
  auto& scratch = owner_.scratch_;
  const auto n = recv(fd_.get(), scratch.data(), scratch.size(), 0);
  if (n < 0) return errno == EAGAIN;
  if (n == 0) return false;
  std::string_view bytes(scratch.data(), static_cast<std::size_t>(n));
  while (!bytes.empty()) {
    const auto status = reader_.feed(bytes, [this](std::string_view payload) {
      if (owner_.options_.stream) body_ += payload;
    });
    if (status == read_status::bad) return false;
    if (status == read_status::done && !message_done()) return false;
  }
  if (!owner_.options_.stream) wake_at(reader_.left());
  return true;
}

void engine_connection::wake_at(std::uint64_t bytes) {
  const int low = static_cast<int>(std::clamp<std::uint64_t>(bytes, 1, wake_bytes));
  if (low == low_water_) return;
  setsockopt(fd_.get(), SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low);
  low_water_ = low;
}

// The kernel throws the bytes away without a copy, so that a large body costs the engine next to nothing.
bool engine_connection::discard_body() {
  const auto n = recv(fd_.get(), owner_.scratch_.data(),
                      std::min<std::uint64_t>(reader_.left(), scratch_bytes), MSG_TRUNC);
  if (n < 0) return errno == EAGAIN;
  if (n == 0) return false;
  if (reader_.skipped(static_cast<std::uint64_t>(n)) == read_status::done && !message_done()) return false;
  wake_at(reader_.left());
  return true;
}

bool engine_connection::message_done() {
  const std::string& line = reader_.head().start_line;
  bool good = true;
  if (line.starts_with("POST ")) {
    if (prefills_) {
      ++owner_.counters_.prefills;
      good = send(owner_.prefill_answer_);
    } else if (owner_.options_.stream) {
      wants_usage_ = body_.find("\"include_usage\":true") != std::string::npos;
      owner_.start_stream(*this, now());
    } else {
      ++owner_.counters_.answers;
      good = send(completion_answer());
    }
  } else if (line.starts_with("GET ")) {
    const auto path = std::string_view(line).substr(4);
    good = send(build_get(path.substr(0, path.find(' '))));
  } else {
    good = false;
  }
  body_.clear();
  reader_.reset();
  return good;
}

void engine_connection::begin_stream() {
  streaming_ = true;
  content_sent_ = 1;
  owner_.counters_.events += 2;
  send(stream_answers().head_and_role);
  send(stream_answers().content[0]);
}

bool engine_connection::next_event(bool ending) {
  const auto& bytes = stream_answers();
  if (!ending) {
    ++owner_.counters_.events;
    return send(bytes.content[content_sent_++ % bytes.content.size()]);
  }
  owner_.counters_.events += 2;
  send(bytes.finish);
  if (wants_usage_) send(bytes.usage);
  send(bytes.done);
  send(bytes.last_chunk);
  streaming_ = false;
  return false;
}

bool engine_connection::send(std::string_view bytes) {
  if (backlog_.empty()) {
    const auto n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return false;
    bytes.remove_prefix(n < 0 ? 0 : static_cast<std::size_t>(n));
    if (bytes.empty()) return true;
    owner_.poller_.want_write(fd_.get(), *this, true);
  }
  backlog_ += bytes;
  return backlog_.size() <= backlog_bytes_max;
}

bool engine_connection::flush() {
  const auto n = ::send(fd_.get(), backlog_.data(), backlog_.size(), MSG_NOSIGNAL);
  if (n < 0) return errno == EAGAIN;
  backlog_.erase(0, static_cast<std::size_t>(n));
  if (backlog_.empty()) owner_.poller_.want_write(fd_.get(), *this, false);
  return true;
}

class engine::acceptor final : public handler {
 public:
  acceptor(engine& owner, std::uint16_t port, bool prefills)
      : owner_(owner), fd_(listen_on(port)), prefills_(prefills) {
    owner_.poller_.add(fd_.get(), *this);
  }
  void on_ready(std::uint32_t) override {
    for (;;) {
      const int fd = accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      owner_.accept(fd, prefills_);
    }
  }

 private:
  engine& owner_;
  unique_fd fd_;
  bool prefills_;
};

engine::engine(poller& p, engine_options options)
    : poller_(p),
      options_(std::move(options)),
      prefill_answer_(build_prefill(options_.prefill_blocks)),
      scratch_(scratch_bytes) {
  for (const auto port : options_.ports) acceptors_.push_back(std::make_unique<acceptor>(*this, port, false));
  for (const auto port : options_.prefill_ports)
    acceptors_.push_back(std::make_unique<acceptor>(*this, port, true));
}

engine::~engine() = default;

void engine::accept(int fd, bool prefills) {
  set_no_delay(fd);
  connections_.push_back(
      std::make_unique<engine_connection>(*this, unique_fd(fd), connections_.size(), prefills));
  poller_.add(fd, *connections_.back());
}

void engine::start_stream(engine_connection& c, nanos time) {
  ++counters_.streams;
  c.begin_stream();
  std::uniform_int_distribution<nanos> phase(0, options_.event_interval);
  auto at = time + phase(phase_);
  if (options_.tick > 0) at += options_.tick - at % options_.tick;
  due_.push({at, &c});
}

nanos engine::tick(nanos time) {
  while (!due_.empty() && due_.top().at <= time) {
    const auto event = due_.top();
    due_.pop();
    auto& c = *event.connection;
    if (!c.fd_) {
      remove(c);
      continue;
    }
    const bool full = options_.events_max != 0 && c.content_sent_ >= options_.events_max;
    if (c.next_event(ending_ || full)) {
      due_.push({event.at + options_.event_interval, &c});
    } else if (c.streaming_) {
      ++counters_.broken;
      remove(c);
    }
  }
  return due_.empty() ? never : due_.top().at;
}

// The socket goes at once, so that the proxy sees the end; a stream's object when its event comes up.
void engine::close(engine_connection& c) {
  c.fd_.reset();
  if (c.streaming_) {
    ++counters_.broken;
  } else {
    remove(c);
  }
}

void engine::remove(engine_connection& c) {
  const auto slot = c.slot_;
  std::swap(connections_[slot], connections_.back());
  connections_[slot]->slot_ = slot;
  poller_.retire(std::move(connections_.back()));
  connections_.pop_back();
}

}  // namespace penstock::perf
