// Log lines from workers to a sink, without ever making a worker wait.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace penstock::io {

// Bytes from one writing thread to one reading thread. A line that does not fit is dropped and counted.
class log_ring {
 public:
  explicit log_ring(std::size_t bytes = 1 << 20);

  // The writer: the whole line or nothing.
  bool push(std::string_view line);
  // The reader: appends all there is to `out`; false when there was nothing.
  bool drain(std::string& out);
  std::uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  std::size_t size_;
  std::unique_ptr<char[]> bytes_;
  alignas(64) std::atomic<std::size_t> head_{0};  // written so far
  alignas(64) std::atomic<std::size_t> tail_{0};  // read so far
  std::atomic<std::uint64_t> dropped_{0};
};

// One thread that writes what the rings hold: to "stdout", "stderr" or a file (opened for appending, again
// at reopen()); "off" drops all. A stuck sink fills the rings, which drop and count, and does not keep the
// process from ending; lines that a full disk or a closed pipe refuses are counted too, and told once.
class log_writer {
 public:
  // Throws std::system_error when the file cannot be opened.
  explicit log_writer(const std::string& sink);
  ~log_writer();
  log_writer(const log_writer&) = delete;
  log_writer& operator=(const log_writer&) = delete;

  // A ring for one writing thread; before start(). Lives as long as this.
  log_ring& add_ring();
  void start();
  // After a rotation; any thread.
  void reopen() { reopen_.store(true); }
  bool off() const { return off_; }
  // Lines that did not reach the sink.
  std::uint64_t dropped() const;

 private:
  void run();
  void write_all(std::string_view text);
  bool await_room();
  void lose(std::string_view text, int error);
  void open();
  void open_again();

  std::string sink_;
  int fd_ = -1;
  bool off_ = false;
  bool may_block_ = false;  // a pipe or socket: written only where there is room
  bool inside_line_ = false;
  bool failing_ = false;
  std::atomic<std::uint64_t> lost_{0};
  std::vector<std::unique_ptr<log_ring>> rings_;
  std::atomic<bool> reopen_{false};
  std::mutex lock_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace penstock::io
