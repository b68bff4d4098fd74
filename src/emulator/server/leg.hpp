// Which part of a disaggregated request something is.
#pragma once

#include <cstdint>

namespace penstock::emulator {

enum class leg_kind : std::uint8_t {
  none,  // a request that this engine serves alone
  prefill,
  decode
};

}  // namespace penstock::emulator
