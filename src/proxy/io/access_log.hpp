// One JSON line a request.
#pragma once

#include <cstdint>
#include <string>

#include "penstock/account_record.hpp"

namespace penstock::io {

// Appends the line of one ended request, with its newline. Times are milliseconds; members that do not
// apply are left out. Never holds prompt text.
void append_access_line(std::string& out, const account_record& r, std::int64_t wall_us);

}  // namespace penstock::io
