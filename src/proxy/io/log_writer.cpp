#include "proxy/io/log_writer.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <system_error>
#include <utility>

#include "proxy/io/log.hpp"

namespace penstock::io {

log_ring::log_ring(std::size_t bytes) : size_(bytes), bytes_(new char[bytes]) {}

bool log_ring::push(std::string_view line) {
  const std::size_t head = head_.load(std::memory_order_relaxed);
  const std::size_t used = head - tail_.load(std::memory_order_acquire);
  if (line.size() > size_ - used) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  const std::size_t at = head % size_;
  const std::size_t first = std::min(line.size(), size_ - at);
  std::memcpy(bytes_.get() + at, line.data(), first);
  std::memcpy(bytes_.get(), line.data() + first, line.size() - first);
  head_.store(head + line.size(), std::memory_order_release);
  return true;
}

bool log_ring::drain(std::string& out) {
  const std::size_t tail = tail_.load(std::memory_order_relaxed);
  const std::size_t n = head_.load(std::memory_order_acquire) - tail;
  if (n == 0) return false;
  const std::size_t at = tail % size_;
  const std::size_t first = std::min(n, size_ - at);
  out.append(bytes_.get() + at, first);
  out.append(bytes_.get(), n - first);
  tail_.store(tail + n, std::memory_order_release);
  return true;
}

log_writer::log_writer(const std::string& sink) : sink_(sink), off_(sink == "off") { open(); }

log_writer::~log_writer() {
  if (thread_.joinable()) {
    {
      const std::lock_guard guard(lock_);
      stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  if (fd_ > STDERR_FILENO) ::close(fd_);
}

void log_writer::open() {
  if (off_) return;
  if (fd_ > STDERR_FILENO) ::close(fd_);
  if (sink_ == "stdout" || sink_ == "stderr") {
    fd_ = sink_ == "stdout" ? STDOUT_FILENO : STDERR_FILENO;
  } else {
    fd_ = ::open(sink_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
  }
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "cannot open the access log " + sink_);
  struct stat what {};
  may_block_ = ::fstat(fd_, &what) == 0 && (S_ISFIFO(what.st_mode) || S_ISSOCK(what.st_mode));
  inside_line_ = false;
}

void log_writer::open_again() {
  try {
    open();
  } catch (const std::system_error& e) {
    // The old descriptor is gone: lines are lost until the next reopen.
    fd_ = -1;
    failing_ = true;
    log(log_level::error, e.what());
  }
}

log_ring& log_writer::add_ring() { return *rings_.emplace_back(std::make_unique<log_ring>()); }

void log_writer::start() {
  if (!off_) thread_ = std::thread([this] { run(); });
}

std::uint64_t log_writer::dropped() const {
  std::uint64_t sum = lost_.load(std::memory_order_relaxed);
  for (const auto& ring : rings_) sum += ring->dropped();
  return sum;
}

void log_writer::run() {
  // Collecting for a moment costs one write for many lines and no wake-up per request.
  constexpr auto pause = std::chrono::milliseconds(20);
  std::string text;
  for (bool last = false; !last;) {
    {
      std::unique_lock guard(lock_);
      last = wake_.wait_for(guard, pause, [this] { return stop_; });
    }
    if (reopen_.exchange(false)) open_again();
    text.clear();
    for (const auto& ring : rings_) ring->drain(text);
    write_all(text);
  }
}

// A pipe that nobody reads: waits for room, but not past the end of the process.
bool log_writer::await_room() {
  for (;;) {
    pollfd sink{.fd = fd_, .events = POLLOUT, .revents = 0};
    if (::poll(&sink, 1, 100) > 0) return true;
    const std::lock_guard guard(lock_);
    if (stop_) return false;
  }
}

void log_writer::write_all(std::string_view text) {
  while (!text.empty()) {
    if (fd_ < 0) return lose(text, EBADF);
    if (may_block_ && !await_room()) return lose(text, EAGAIN);
    // What follows half a line that a full disk took shall be a line of its own.
    const bool mend = failing_ && inside_line_;
    // A descriptor that others gave us may block; a pipe that has room takes this much (pipe(7)).
    const std::string_view part = mend ? "\n" : text.substr(0, may_block_ ? PIPE_BUF : text.size());
    const ssize_t n = ::write(fd_, part.data(), part.size());
    if (n < 0 && errno == EAGAIN) may_block_ = true;
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) return lose(text, errno);
    inside_line_ = part[static_cast<std::size_t>(n) - 1] != '\n';
    if (!mend) text.remove_prefix(static_cast<std::size_t>(n));
    if (std::exchange(failing_, false)) log(log_level::info, "the access log can be written again");
  }
}

void log_writer::lose(std::string_view text, int error) {
  lost_.fetch_add(static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n')),
                  std::memory_order_relaxed);
  if (!std::exchange(failing_, true))
    log(log_level::error, "the access log cannot be written, lines are lost: " + sink_ + ": " +
                              std::generic_category().message(error));
}

}  // namespace penstock::io
