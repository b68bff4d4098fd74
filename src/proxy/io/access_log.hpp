// One JSON line a request.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "penstock/account_record.hpp"

namespace penstock::io {

// The line of one ended request, with its newline, in `room`, which grows as needed and is to be used again.
// Times are milliseconds; members that do not apply are left out. Never holds prompt text.
std::string_view access_line(std::string& room, const account_record& r, std::int64_t wall_us);

}  // namespace penstock::io
