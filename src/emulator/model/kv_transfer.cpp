#include "emulator/model/kv_transfer.hpp"

#include <algorithm>
#include <cmath>

namespace penstock::emulator {

instant kv_link::meet(const std::string& engine, instant now) {
  return known_.insert(engine).second ? now + settings_.handshake : now;
}

instant kv_link::transfer(std::uint32_t tokens, instant now, double slower) {
  const double bytes = static_cast<double>(tokens) * settings_.bytes_per_token;
  const double s = settings_.bytes_per_second > 0 ? bytes / settings_.bytes_per_second : 0;
  free_at_ = std::max(free_at_, now) + duration(std::llround(std::min(s * slower, 1e8) * 1e9));
  return free_at_ + settings_.post;
}

}  // namespace penstock::emulator
