// Work for a thread that sleeps in its event loop, from any other thread.
#pragma once

#include <functional>
#include <mutex>
#include <vector>

namespace penstock::io {

// Many writers, one reader. The lock is held for a push or a swap and is never taken for data: only
// control messages (a new fleet, a drain, a request for metrics) come this way.
class mailbox {
 public:
  mailbox();
  ~mailbox();
  mailbox(const mailbox&) = delete;
  mailbox& operator=(const mailbox&) = delete;

  // Any thread. Wakes the reader once for a batch.
  void post(std::function<void()> job);
  // To be watched for reading by the reader.
  int descriptor() const { return event_; }
  // The reader's thread: runs what was posted, in order.
  void run();

 private:
  int event_;
  std::mutex lock_;
  std::vector<std::function<void()>> jobs_;
};

}  // namespace penstock::io
