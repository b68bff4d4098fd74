// Looks at the proxy from outside: CPU time, user memory, system calls.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "loop.hpp"

namespace penstock::perf {

// CPU time of all threads of a process, user and system, as the scheduler counted it; pid 0: our own.
nanos cpu_time(pid_t pid);

// Of each thread of a process: time on a core, and time it was ready but had none.
struct thread_time {
  nanos ran = 0, waited = 0;
};
using thread_times = std::map<int, thread_time>;
thread_times read_threads(pid_t pid);

// How long the thread that ran most between two readings waited; the others wait for it by design.
nanos busiest_waited(const thread_times& open, const thread_times& close);

// RssAnon of /proc/PID/status, bytes: what the process wrote to, without its code and without the kernel's
// socket buffers.
std::uint64_t anonymous_memory(pid_t pid);

// Counts system calls of the threads that the process has, through a tracepoint. Every call gets some 100 ns
// dearer meanwhile, so a run that counts is no run that measures.
class syscall_counter {
 public:
  explicit syscall_counter(pid_t pid);
  // Nothing where the kernel does not let us.
  std::optional<std::uint64_t> read() const;

 private:
  std::vector<unique_fd> counters_;
};

}  // namespace penstock::perf
