#include "proxy/io/mailbox.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace penstock::io {

mailbox::mailbox() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (event_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

mailbox::~mailbox() { ::close(event_); }

void mailbox::post(std::function<void()> job) {
  bool first = false;
  {
    const std::lock_guard guard(lock_);
    first = jobs_.empty();
    jobs_.push_back(std::move(job));
  }
  if (!first) return;
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then the reader is awake already.
  [[maybe_unused]] const auto written = ::write(event_, &one, sizeof one);
}

void mailbox::run() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(event_, &count, sizeof count);
  std::vector<std::function<void()>> jobs;
  {
    const std::lock_guard guard(lock_);
    jobs.swap(jobs_);
  }
  for (const std::function<void()>& job : jobs) job();
}

}  // namespace penstock::io
