#include "proxy/io/log_writer.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

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
    return;
  }
  fd_ = ::open(sink_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "cannot open the access log " + sink_);
}

log_ring& log_writer::add_ring() { return *rings_.emplace_back(std::make_unique<log_ring>()); }

void log_writer::start() {
  if (!off_) thread_ = std::thread([this] { run(); });
}

std::uint64_t log_writer::dropped() const {
  std::uint64_t sum = 0;
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
    if (reopen_.exchange(false)) {
      try {
        open();
      } catch (const std::system_error&) {
        // The old descriptor is gone; lines are lost until the next reopen, as with any log rotation
        // that leaves no place to write.
        fd_ = -1;
      }
    }
    text.clear();
    for (const auto& ring : rings_) ring->drain(text);
    write_all(text);
  }
}

void log_writer::write_all(const std::string& text) {
  std::size_t done = 0;
  while (done < text.size() && fd_ >= 0) {
    const ssize_t n = ::write(fd_, text.data() + done, text.size() - done);
    if (n > 0) {
      done += static_cast<std::size_t>(n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return;
    // A pipe that nobody reads: wait, but not past the end of the process.
    pollfd sink{.fd = fd_, .events = POLLOUT, .revents = 0};
    ::poll(&sink, 1, 100);
    const std::lock_guard guard(lock_);
    if (stop_) return;
  }
}

}  // namespace penstock::io
